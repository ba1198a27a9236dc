"""What a folder says about the model in it, in the file of the product that wrote it.

The formats find out by content what a model is; a declaration adds what content cannot tell: an example, names of
classes, the batch size that was chosen. It is as untrusted as the model, and is held against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from modelport.engine.runtime import Inspected
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.tensors import Array, Signature, TensorSpec, check_inputs, dtype_of

_LARGEST_TEXT = 1 << 20
_MOST_ELEMENTS = 20_000
Complete = Callable[[Inspected], Inspected]


@dataclass(frozen=True, slots=True)
class Declaration:
    """Of one folder. ``files`` are those that may be the model; ``advice`` is said when none of them is served."""

    files: tuple[str, ...]
    complete: Complete
    """Adds what is declared to what was found; raises ArtifactRefused where they contradict each other."""
    advice: str | None = None


def read_text(folder: Path, name: str) -> str:
    """A small text file of an artifact; raises ArtifactRefused."""
    path = folder / name
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise ArtifactRefused(f"{name[:100]!r} is larger than {_LARGEST_TEXT >> 20} MB: is it what it is called?")
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise ArtifactRefused(f"{name[:100]!r} is missing: push the whole folder") from None
    except UnicodeDecodeError:
        raise ArtifactRefused(f"{name[:100]!r} is not UTF-8 text: save it as such") from None


def read_yaml(folder: Path, name: str) -> Any:
    """A small YAML file; raises ArtifactRefused, also for merge keys, which can grow without bound."""
    text = read_text(folder, name)
    try:
        if "<<" not in text:
            return yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        pass
    raise ArtifactRefused(f"{name[:100]!r} is not plain YAML: save the model again")


def sample_of(signature: Signature, example: Any) -> dict[str, Any] | None:
    """An example (by input name, or bare for the only input) as a manifest's sample; None when it does not fit.

    A long one is cut to its first row, so that a manifest stays small.
    """
    if not isinstance(example, dict):
        if len(signature.inputs) != 1:
            return None
        example = {signature.inputs[0].name: example}
    try:
        arrays = {spec.name: _as_input(spec, example[spec.name]) for spec in signature.inputs}
        if signature.has_batch_dimension and sum(array.size for array in arrays.values()) > _MOST_ELEMENTS:
            arrays = {name: array[:1] for name, array in arrays.items()}
        check_inputs(signature, arrays)
    except (InvalidInput, KeyError, ValueError, TypeError, OverflowError):
        return None
    if sum(array.size for array in arrays.values()) > _MOST_ELEMENTS:
        return None
    return {"inputs": [_tensor(spec, arrays[spec.name]) for spec in signature.inputs]}


def _as_input(spec: TensorSpec, value: Any) -> Array:
    if spec.datatype == "BYTES":
        flat = np.asarray(value, dtype=object)
        array: Array = np.array([str(x).encode() for x in flat.reshape(-1)], dtype=object).reshape(flat.shape)
    else:
        array = np.asarray(value).astype(dtype_of(spec.datatype), casting="same_kind")
        if array.dtype.kind in "fV" and not np.isfinite(array.astype(np.float64)).all():
            raise ValueError("an example holds no NaN")
    if array.ndim == len(spec.shape) - 1 and spec.shape[:1] == (-1,):
        array = array[np.newaxis]
    if array.ndim == 2 and array.shape[1] == 1 and len(spec.shape) == 1:
        array = array[:, 0]
    return array


def _tensor(spec: TensorSpec, array: Array) -> dict[str, Any]:
    flat = array.reshape(-1)
    data = [element.decode() for element in flat.tolist()] if spec.datatype == "BYTES" else flat.tolist()
    if spec.datatype == "BF16":
        data = flat.astype(np.float32).tolist()
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape), "data": data}
