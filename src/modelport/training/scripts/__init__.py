"""A caller's own script that learns: what it is given, how it is run, what it left. Knows no framework."""
