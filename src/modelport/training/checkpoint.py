"""Keeps nested values with tensors in them as files that are whole or not there: safetensors, and JSON in its header.

A file appears under its name when it is on the disk; the name holds a checksum of it, and one that does not fit is
passed over for the one before. Nothing is unpickled. Knows no model and no optimiser.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from modelport.errors import Unavailable
from modelport.storage.disk import flush, is_full

_NAME = re.compile(r"^(?P<kind>[a-z]+)-(?P<step>\d{12})-(?P<sum>[0-9a-f]{8})\.safetensors$")
_UNFINISHED = ".unfinished"
_KEPT = 2
_CHUNK = 4 << 20


class Checkpoints:
    """The checkpoints in a folder: ``last`` ones, and the ``best`` weights that they point to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{_UNFINISHED}"):
            left.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The newest whole ``last`` one, or None."""
        for path in reversed(self._files("last")):
            value = self._read(path)
            if value is not None and (not value.get("best_file") or self.best(value["best_file"]) is not None):
                return value
        return None

    def best(self, name: str) -> dict[str, Any] | None:
        """The weights in a file that ``keep_best`` named; None when it is gone or torn."""
        return self._read(self._folder / name)

    def keep_best(self, step: int, weights: Mapping[str, Any]) -> str:
        """Keep weights; their file's name, which has to go into the next ``keep``."""
        return self._write("best", step, dict(weights)).name

    def keep(self, step: int, value: Mapping[str, Any]) -> None:
        """Keep ``value``, let go of what is older than the one before it. Raises Unavailable when the disk is full."""
        self._write("last", step, dict(value))
        last = self._files("last")
        for path in last[:-_KEPT]:
            path.unlink(missing_ok=True)
        for path in self._files("best")[:-_KEPT]:
            if path.name != value.get("best_file"):
                path.unlink(missing_ok=True)

    def _files(self, kind: str) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"{kind}-*.safetensors") if _NAME.match(path.name))

    def _write(self, kind: str, step: int, value: dict[str, Any]) -> Path:
        unfinished = self._folder / f"{kind}{_UNFINISHED}"
        try:
            write_tensors(unfinished, value)
            path = self._folder / f"{kind}-{step:012}-{_checksum(unfinished):08x}.safetensors"
            flush(unfinished)
            unfinished.replace(path)
            flush(self._folder)
        except (OSError, SafetensorError) as error:
            unfinished.unlink(missing_ok=True)
            if is_full(error):
                raise Unavailable(
                    f"the server's disk is full: no checkpoint could be kept at step {step}; "
                    "free space and resume the job, it goes on from the checkpoint before"
                ) from None
            raise
        return path

    def _read(self, path: Path) -> dict[str, Any] | None:
        match = _NAME.match(path.name)
        try:
            if match is None or _checksum(path) != int(match["sum"], 16):
                return None
            return read_tensors(path)
        except (OSError, SafetensorError, ValueError, KeyError):
            return None


def write_tensors(path: Path, value: Mapping[str, Any]) -> None:
    """Write dicts, lists, tuples, numbers, texts and tensors as one safetensors file."""
    tensors: dict[str, torch.Tensor] = {}
    shape = json.dumps(_taken_apart(dict(value), "", tensors, {}), allow_nan=True)
    save_file(tensors, path, metadata={"modelport": shape})


def read_tensors(path: Path) -> dict[str, Any]:
    """What ``write_tensors`` wrote; tensors are copies in memory."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        value = _put_together(json.loads(metadata["modelport"]), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert isinstance(value, dict)
    return value


def _taken_apart(value: Any, place: str, tensors: dict[str, torch.Tensor], seen: dict[Any, str]) -> Any:
    """JSON; tensors by their names. Weights that are tied (one storage) are kept once."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        key = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype) if value.numel() else place
        if key not in seen:
            seen[key] = place
            whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
            storage = ("storage", value.untyped_storage().data_ptr())
            tensors[place] = value.cpu().contiguous() if whole and storage not in seen else value.cpu().clone()
            seen[storage] = place
        return {"tensor": seen[key]}
    if isinstance(value, Mapping):
        return {"dict": [[key, _taken_apart(one, f"{place}.{key}", tensors, seen)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        items = [_taken_apart(one, f"{place}.{index}", tensors, seen) for index, one in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place or 'the value'} is a {type(value).__name__}, which no checkpoint can hold")


def _put_together(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_put_together(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "tensor":
        return tensors[inner].clone()
    if kind == "tuple":
        return tuple(_put_together(one, tensors) for one in inner)
    return {key: _put_together(one, tensors) for key, one in inner}


def _checksum(path: Path) -> int:
    found = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            found = zlib.crc32(piece, found)
    return found
