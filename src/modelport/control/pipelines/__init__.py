"""Pipelines: declared stages, each a job.

``graph`` checks and orders them, ``conditions`` are their gates, ``service`` conducts a run.
"""
