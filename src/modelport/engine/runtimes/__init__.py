"""What runs them: one file per format, same shape each."""
