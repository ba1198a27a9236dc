"""Weights that somebody brings, or a version kept, into a network: what fits is taken, what does not is named.

Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from modelport.errors import InvalidInput
from modelport.training.outline import Outline, difference, repeat
from modelport.training.recipe import Start

_KEPT, _KEPT_TENSORS = "training/model.json", "training/weights.safetensors"
_KEPT_SHAPE = "training/shape.json"
_NESTED = ("state_dict", "model_state_dict", "model", "net")
_SHOWN = 3
T = TypeVar("T")


def file_among(code: Path | None, name: str) -> Path:
    """A file that the caller gave, by its path; raises InvalidInput."""
    folder = code.resolve() if code is not None else None
    path = (folder / name).resolve() if folder is not None else None
    if folder is None or path is None or not path.is_relative_to(folder) or not path.is_file():
        there = sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file()) if folder else []
        raise InvalidInput(f"options.weights: there is no file {name!r}; given are {', '.join(there[:10]) or 'none'}")
    return path


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, or of PyTorch's own with tensors alone, by name; raises InvalidInput."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError:
        raise InvalidInput(f"weights: {path.name!r} is not a whole safetensors file; copy or save it again") from None
    except Exception:  # damaged, or it holds more than tensors
        raise InvalidInput(
            f"weights: {path.name!r} cannot be read as tensors alone, and nothing else is loaded; save "
            "model.state_dict() with safetensors.torch.save_file"
        ) from None
    for key in _NESTED:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    tensors = (
        {str(name).removeprefix("module."): one for name, one in found.items() if isinstance(one, torch.Tensor)}
        if (isinstance(found, Mapping))
        else {}
    )
    if not tensors:
        raise InvalidInput(f"weights: {path.name!r} holds no tensors by name; save model.state_dict()")
    return tensors


def put(model: nn.Module, tensors: Mapping[str, torch.Tensor], head: str = "", what: str = "weights") -> list[str]:
    """Load all but what is below ``head`` where its shape differs; those names. Raises InvalidInput naming the first
    that are missing, unknown, or of another shape."""
    own = model.state_dict()
    new = {name for name in own if head and name.startswith(f"{head}.")}
    if new and all(name in tensors and tensors[name].shape == own[name].shape for name in new):
        new = set()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(set(own) - set(tensors) - new - counters)
    unknown = sorted(set(tensors) - set(own))
    if missing or unknown:
        parts = []
        if missing:
            parts.append(f"{len(missing)} are missing ({_some(missing)})")
        if unknown:
            parts.append(f"{len(unknown)} are unknown ({_some(unknown)})")
        raise InvalidInput(f"{what}: they do not fit the network: {' and '.join(parts)}; are they of another one?")
    other = sorted(name for name in tensors if name not in new and tensors[name].shape != own[name].shape)
    if other:
        name = other[0]
        raise InvalidInput(
            f"{what}: they do not fit the network: {name} is {list(tensors[name].shape)} and not "
            f"{list(own[name].shape)}{f', and {len(other) - 1} more' if len(other) > 1 else ''}"
        )
    model.load_state_dict({name: one for name, one in tensors.items() if name not in new}, strict=False)
    return sorted(new)


def keep(network: nn.Module, about: Any, out: Path, built: Outline | None = None) -> bool:
    """Write what another training needs beside the model that is served: the weights, and ``about``, a dataclass.

    ``built`` is what the recipe makes of ``about``, where the network may have become smaller since: how it differs is
    written too. False, and nothing is written, when it is another network altogether.
    """
    changed = difference(built, network) if built is not None else None
    if built is not None and changed is None:
        return False
    (out / "training").mkdir(exist_ok=True)
    (out / _KEPT).write_text(json.dumps(asdict(about), ensure_ascii=False, indent=1) + "\n")
    if changed:
        (out / _KEPT_SHAPE).write_text(json.dumps(changed.json(), indent=1) + "\n")
    tensors = {name: one.detach().cpu().clone().contiguous() for name, one in network.state_dict().items()}
    save_file(tensors, out / _KEPT_TENSORS)
    return True


def reshape(network: nn.Module, start: Start) -> None:
    """Make a network that was just built as small as the version's had become."""
    path = start.folder / _KEPT_SHAPE
    if path.exists():
        repeat(network, json.loads(path.read_text()))


def kept_of(start: Start, kind: type[T], recipe: str) -> T:
    """What a version of the same recipe kept; raises InvalidInput for any other version."""
    try:
        return kind(**json.loads((start.folder / _KEPT).read_text()))
    except (OSError, ValueError, TypeError):
        raise InvalidInput(
            f"start: this version was not made by the recipe {recipe}, so training cannot go on from it; "
            "start from one that was"
        ) from None


def kept_tensors(start: Start) -> dict[str, torch.Tensor]:
    """The weights that a version kept."""
    return read(start.folder / _KEPT_TENSORS)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
