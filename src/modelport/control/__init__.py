"""Decides: registry, deployments, identity, audit. Knows no HTTP."""
