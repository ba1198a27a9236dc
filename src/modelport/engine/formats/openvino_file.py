"""Tells OpenVINO's intermediate representation from other XML, by its beginning. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_PEEK = 4096
_START = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<net\s[^>]*\bversion=", re.DOTALL)


def is_openvino(path: Path) -> bool:
    """Whether the file begins as ``<net … version=…>``."""
    with path.open("rb") as file:
        return _START.match(file.read(_PEEK)) is not None


def find_openvino(folder: Path, files: Iterable[str]) -> tuple[str, ...]:
    """Those of ``files`` that describe a network of OpenVINO's."""
    return tuple(name for name in files if is_openvino(folder / name))


def weights_of(name: str) -> str:
    """The file with the weights of ``model.xml``."""
    return name.rpartition(".")[0] + ".bin"
