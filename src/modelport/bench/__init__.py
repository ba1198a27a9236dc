"""Load for a served model, and how long its answers take under it."""
