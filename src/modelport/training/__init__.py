"""Learns models from rows: recipes, and the loop that trains networks. Makes files; knows no job and no registry."""
