"""Language models in a replica: chat templates, tokens to text, who is admitted, what is written next."""
