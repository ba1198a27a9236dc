"""``python -m modelport``: the same as the command."""

from modelport.cli.main import main

main()
