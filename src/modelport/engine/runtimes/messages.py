"""What a library says, made fit for a caller: one line, bounded, without paths."""

from __future__ import annotations

import re

_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*")


def first_line(error: BaseException) -> str:
    """The first line of an error's message without paths, at most 300 characters; its class when it has none."""
    lines = [" ".join(line.split()) for line in _PATH.sub("…", str(error)).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
