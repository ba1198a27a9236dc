"""Learns the classes of images: pixels from files, networks, augmentation, weights that somebody brings."""
