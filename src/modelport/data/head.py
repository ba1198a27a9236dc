"""The first rows of a table as JSON: bytes by their length, long texts cut, numbers that JSON lacks as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelport.data.writing import read_parts, schema_of
from modelport.schemas.datasets import Head

_LONGEST = 500


def head(parts: Sequence[Path], count: int) -> Head:
    """At most ``count`` rows."""
    rows: list[dict[str, Any]] = []
    for batch in read_parts(parts):
        for row in batch.slice(0, count - len(rows)).to_pylist():
            rows.append({name: _shown(value) for name, value in row.items()})
        if len(rows) >= count:
            break
    return Head(columns=schema_of(parts).names, rows=rows)


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list):
        return [_shown(item) for item in value[:50]]
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
