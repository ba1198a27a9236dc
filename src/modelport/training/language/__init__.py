"""Learning from texts: classifiers, sentence encoders, causal language models."""
