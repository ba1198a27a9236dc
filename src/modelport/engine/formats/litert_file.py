"""Tells a LiteRT (TensorFlow Lite) model from other files by its FlatBuffer identifier. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def is_litert(path: Path) -> bool:
    """Whether the file begins as a FlatBuffer with the identifier ``TFL3``."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def find_litert(folder: Path, files: Iterable[str]) -> tuple[str, ...]:
    """Those of ``files`` that are LiteRT models."""
    return tuple(name for name in files if is_litert(folder / name))
