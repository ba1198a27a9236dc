"""Where things are kept: artifacts by content, facts in a database."""
