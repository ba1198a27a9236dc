"""Becomes another program that dies with the process which asked: ``python -I launch.py PARENT PROGRAM ARGUMENT…``.

The request to the kernel outlives the change of program, and nothing has to run between fork and exec.
"""

from __future__ import annotations

import os
import sys

from modelport.engine.placement.process import die_with_parent


def main() -> None:
    """Entry of the process."""
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  (the caller's own program is what this is for)


if __name__ == "__main__":
    main()
