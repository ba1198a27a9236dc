"""Judges predictions: figures, their intervals, comparisons, reports. Knows rows and numbers; knows no model."""
