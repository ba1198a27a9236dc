"""Takes out of a network what matters least: whole channels, heads and layers, or single weights."""
