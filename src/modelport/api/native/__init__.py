"""The management API: one file per noun, each a thin router over the service of the same noun."""
