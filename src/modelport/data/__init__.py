"""Compute on tables: read, write, describe, clean, integrate, split. Knows no registry and no job."""
