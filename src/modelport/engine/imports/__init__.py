"""Folders that other products wrote: what they say about the model inside, and how they are cut into versions."""
