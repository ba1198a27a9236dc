"""A safetensors file's tensors, one at a time, as torch has them. A damaged file is said to be one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelport.errors import InvalidInput


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The library's reader; raises InvalidInput when the file is damaged."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        cause = str(error).strip().splitlines()[0][:200]
        raise InvalidInput(f"{path.name[:100]!r} is damaged ({cause}): copy it again") from None
