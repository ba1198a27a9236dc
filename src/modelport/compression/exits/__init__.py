"""Gives a network a head half-way that answers when it is sure, and the served file a way out there."""
