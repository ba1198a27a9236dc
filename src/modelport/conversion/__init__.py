"""Models of one format as models of another one, proven to answer alike."""
