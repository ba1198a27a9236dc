"""Tells an ONNX model from other files by its bytes: the outer fields of its protobuf message, never its name.

Reads a few bytes per field and seeks over the rest, so that the size of a model does not matter. Knows nothing of
what is inside the graph, and needs only the standard library: inspection and replicas both find the model with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal

_VARINT, _LENGTH = 0, 2
_IR_VERSION, _GRAPH, _OPSET_IMPORT = 1, 7, 8
_NEEDED = {_IR_VERSION, _GRAPH, _OPSET_IMPORT}
#: ModelProto's fields: number to wire type (ir_version, producer_name, producer_version, domain, model_version,
#: doc_string, graph, opset_import, metadata_props, training_info, functions, configuration).
_FIELDS = {
    _IR_VERSION: _VARINT,
    2: _LENGTH,
    3: _LENGTH,
    4: _LENGTH,
    5: _VARINT,
    6: _LENGTH,
    _GRAPH: _LENGTH,
    _OPSET_IMPORT: _LENGTH,
    14: _LENGTH,
    20: _LENGTH,
    25: _LENGTH,
    26: _LENGTH,
}
_MOST_FIELDS = 100_000

Likeness = Literal["model", "damaged", "other"]


def likeness(path: Path) -> Likeness:
    """Whether the file is an ONNX model, starts like one but is cut short or damaged, or is something else."""
    size = path.stat().st_size
    seen: list[int] = []
    with path.open("rb") as file:
        while file.tell() < size and len(seen) < _MOST_FIELDS:
            field = _read_field(file, size)
            if field is None:
                # Writers put ir_version first; that and a second good field are hardly an accident.
                return "damaged" if seen[:1] == [_IR_VERSION] and len(seen) > 1 else "other"
            seen.append(field)
    return "model" if set(seen) >= _NEEDED else "other"


def find_model(folder: Path, files: Iterable[str]) -> str | None:
    """The first of ``files`` that is an ONNX model."""
    return next((name for name in files if likeness(folder / name) == "model"), None)


def _read_field(file: BinaryIO, size: int) -> int | None:
    """Step over one field and return its number; None when it is none of ModelProto's or leaves the file."""
    key = _read_varint(file)
    if key is None or _FIELDS.get(key >> 3) != key & 7:
        return None
    value = _read_varint(file)
    if value is None:
        return None
    if key & 7 == _LENGTH:
        if file.tell() + value > size:
            return None
        file.seek(value, os.SEEK_CUR)
    return key >> 3


def _read_varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
