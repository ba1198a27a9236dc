"""How large a file is when it is compressed as archives and registries do: where zeros do count."""

from __future__ import annotations

import zlib
from pathlib import Path

_AT_ONCE = 1 << 20


def zipped(path: Path) -> int:
    """Bytes by deflate (zip, gzip), level 6."""
    packing, total = zlib.compressobj(6), 0
    with path.open("rb") as file:
        while piece := file.read(_AT_ONCE):
            total += len(packing.compress(piece))
    return total + len(packing.flush())
