"""Makes models' numbers smaller: fewer bits for weights and activations."""
