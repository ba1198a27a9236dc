"""Learns how a series goes on from windows of its past, and writes it as one ONNX file. Heavy."""
