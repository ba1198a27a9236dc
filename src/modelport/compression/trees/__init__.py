"""Forests and boosted trees inside ONNX files: fewer trees, fewer leaves, or a small student in their place."""
