"""The shapes that the management API, the SDK and the CLI share. One file per noun."""
