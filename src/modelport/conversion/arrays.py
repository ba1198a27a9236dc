"""Named tensors in one file, without pickles: numpy's archive, with BYTES as their bytes and lengths.

Standard library and numpy only: converters in environments of their own read and write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelport.tensors import Array

#: What a tool writes into its folder.
ANSWERS, INPUTS = "answers.npz", "inputs.npz"
_BYTES, _LENGTHS, _SHAPE = "bytes", "lengths", "shape"


def save(tensors: Mapping[str, Array], path: Path) -> None:
    """Write tensors in their order."""
    found: dict[str, Array] = {}
    for number, (name, array) in enumerate(tensors.items()):
        about = f"{number:04} {name}"
        if array.dtype == object:
            flat = [bytes(value) for value in array.reshape(-1).tolist()]
            found[f"{about} {_BYTES}"] = np.frombuffer(b"".join(flat), np.uint8)
            found[f"{about} {_LENGTHS}"] = np.array([len(value) for value in flat], np.int64)
            found[f"{about} {_SHAPE}"] = np.array(array.shape, np.int64)
        elif array.dtype.name == "bfloat16":
            found[f"{about} plain"] = array.astype(np.float32)
        else:
            found[f"{about} plain"] = array
    with path.open("wb") as file:
        parts: dict[str, Any] = {f"k{place}": array for place, array in enumerate(found.values())}
        np.savez(file, names=np.array(list(found), np.str_), **parts)


def load(path: Path) -> dict[str, Array]:
    """What ``save`` has written; raises ValueError for anything else."""
    tensors: dict[str, Array] = {}
    with np.load(path, allow_pickle=False) as archive:
        parts = {str(name): archive[f"k{place}"] for place, name in enumerate(archive["names"])}
    for key, array in parts.items():
        name, _, part = key[5:].rpartition(" ")
        if part == "plain":
            tensors[name] = array
        elif part == _BYTES:
            whole, about = array.tobytes(), key.removesuffix(_BYTES)
            ends = np.cumsum(parts[about + _LENGTHS]).tolist()
            values = np.empty(len(ends), object)
            values[:] = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            tensors[name] = values.reshape(parts[about + _SHAPE].tolist())
    return tensors
