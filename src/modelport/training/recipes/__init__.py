"""One recipe a file: what it takes, what it checks, how it learns."""
