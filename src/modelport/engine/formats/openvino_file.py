"""OpenVINO's intermediate representation: told from other XML by its beginning; which types its weights have.

Standard library only: what is read is found by patterns, so that no XML has to be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_PEEK = 4096
_START = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<net\s[^>]*\bversion=", re.DOTALL)

_CONSTANT = re.compile(rb'<data element_type="(\w{1,8})"[^<>]{0,4096}?\bsize="(\d{1,15})"')
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "f8e4m3": 8, "f8e5m2": 8, "i8": 8, "u8": 8, "nf4": 4, "i4": 4, "u4": 4}
_LARGEST = 1 << 28
"""Bytes of a network's description that are read."""


def is_openvino(path: Path) -> bool:
    """Whether the file begins as ``<net … version=…>``."""
    with path.open("rb") as file:
        return _START.match(file.read(_PEEK)) is not None


def find_openvino(folder: Path, files: Iterable[str]) -> tuple[str, ...]:
    """Those of ``files`` that describe a network of OpenVINO's."""
    return tuple(name for name in files if is_openvino(folder / name))


def weight_types(path: Path) -> dict[str, int]:
    """How many weights there are of each type, most first; of constants that are shapes and places nothing is said."""
    found: dict[str, int] = {}
    with path.open("rb") as file:
        for kind, size in _CONSTANT.findall(file.read(_LARGEST)):
            title = kind.decode()
            if bits := _BITS.get(title):
                found[title.upper()] = found.get(title.upper(), 0) + int(size) * 8 // bits
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def weights_of(name: str) -> str:
    """The file with the weights of ``model.xml``."""
    return name.rpartition(".")[0] + ".bin"
