"""Load for a language model: what is asked, and how fast its answers come, token by token."""
