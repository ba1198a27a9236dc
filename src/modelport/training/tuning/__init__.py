"""Looks for the options with which a recipe learns best: what to try, what was tried. Trains nothing itself."""
