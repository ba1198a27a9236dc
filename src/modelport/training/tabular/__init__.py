"""Learns from tables with scikit-learn, and writes what was learnt as one ONNX file that takes raw rows. Heavy."""
