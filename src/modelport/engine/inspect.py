"""Looks at an untrusted artifact: ``python -m modelport.engine.inspect`` reads one JSON request from standard input
and writes one JSON answer to standard output.

It runs in a process of its own with limits on time and memory, so that a hostile file can cost its own push only.
"""
