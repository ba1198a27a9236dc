"""What programs touch: the management API, and one adapter per inference protocol."""
