"""Learns with networks of the caller's own: their code, rows as tensors, the model that is served."""
