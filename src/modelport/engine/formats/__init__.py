"""What artifacts may be pushed: one file per format."""
