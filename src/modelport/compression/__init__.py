"""Smaller and faster versions of a model: prune, quantize, distil, alone, in sequence, or searched to a budget."""
