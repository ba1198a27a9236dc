"""The student: which smaller form of a network fits a budget, and what it takes over from its teacher before it learns.

What is copied: weights of the same name and shape; of fewer layers every second (third …) one; of narrower layers the
first channels; of fewer words those that are left.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.training.reopen import Reopened

_BYTES = 4
"""Of a weight, as it is written."""
_NUMBER = re.compile(r"\.(\d+)(?=\.)")


def parameters(network: nn.Module) -> int:
    """How many weights there are."""
    return sum(one.numel() for one in network.parameters())


def proposed(opened: Reopened, options: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A student with weights from nothing, and its size; raises InvalidInput for a budget that none meets.

    ``options`` says ``student`` (``smaller`` or ``same``), ``size``, ``ratio`` and ``max_bytes``.
    """
    whole = parameters(opened.network)
    if options.student == "same":
        return _born_again(opened.network), {}
    if options.size is not None:
        found = opened.build(options.size)
        if parameters(found) >= whole:
            raise InvalidInput(
                f"options.size: {dict(options.size)} has {parameters(found)} weights and the version {whole}; say a "
                "smaller one, or student=same"
            )
        return found, dict(options.size)
    if not opened.sizes:
        raise InvalidInput(
            "options.student: of this version's network no smaller form is known; say student=same, or make it smaller "
            "with the method prune-structured"
        )
    most = whole / (options.ratio or 2.0) if options.max_bytes is None or options.ratio else float(whole)
    if options.max_bytes is not None:
        most = min(most, options.max_bytes / _BYTES)
    return _fitting(opened, whole, most)


def _fitting(opened: Reopened, whole: int, most: float) -> tuple[nn.Module, dict[str, Any]]:
    """The largest that is small enough; sizes come from the largest on."""
    low, high = 0, len(opened.sizes)
    while low < high:
        middle = (low + high) // 2
        if parameters(opened.build(opened.sizes[middle])) <= most:
            high = middle
        else:
            low = middle + 1
    if low == len(opened.sizes):
        size = opened.sizes[-1]
        least = parameters(opened.build(size))
        raise InvalidInput(
            f"no student is so small: the smallest ({dict(size)}) has {least} weights ({least * _BYTES} bytes), "
            f"{whole / least:.1f} times fewer than the version; quantize it afterwards, or ask for less"
        )
    return opened.build(opened.sizes[low]), dict(opened.sizes[low])


def _born_again(network: nn.Module) -> nn.Module:
    """The same network with new weights, as far as its layers know how they begin."""
    found = copy.deepcopy(network)
    for layer in found.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
    return found


def copy_from(student: nn.Module, teacher: nn.Module) -> float:
    """Take over what fits; the share of the student's weights that were."""
    core, kept = getattr(student, "core", student), getattr(student, "kept", None)
    theirs, own = teacher.state_dict(), core.state_dict()
    depths = _depths(theirs), _depths(own)
    taken = 0
    with torch.no_grad():
        for name, tensor in own.items():
            found = theirs.get(_same_layer(name, *depths))
            if found is None or found.dim() != tensor.dim() or not tensor.dtype.is_floating_point:
                continue
            if kept is not None and found.dim() and tensor.shape[0] == len(kept) < found.shape[0]:
                found = found[torch.tensor(kept)]
            if any(mine > their for mine, their in zip(tensor.shape, found.shape, strict=True)):
                continue
            tensor.copy_(found[tuple(slice(size) for size in tensor.shape)])
            taken += tensor.numel()
    return float(taken / max(sum(one.numel() for one in own.values()), 1))


def layer_pairs(count: int, theirs: int) -> list[int]:
    """For each of the student's layers the teacher's that it stands for: the last of its share."""
    return [(at + 1) * theirs // count - 1 for at in range(count)]


def _depths(names: Mapping[str, Any] | Sequence[str]) -> dict[str, int]:
    """How many numbered parts each place has, by the place's name."""
    found: dict[str, int] = {}
    for name in names:
        for match in _NUMBER.finditer(name):
            place = name[: match.start()]
            found[place] = max(found.get(place, 0), int(match.group(1)) + 1)
    return found


def _same_layer(name: str, theirs: Mapping[str, int], own: Mapping[str, int]) -> str:
    """The teacher's name of a student's weight: numbers are those of the layers that it stands for."""
    found, end = "", 0
    for match in _NUMBER.finditer(name):
        found += name[end : match.start()]
        number, count, place = int(match.group(1)), own[name[: match.start()]], found
        there = theirs.get(place, count)
        found += f".{layer_pairs(count, there)[number] if there > count else number}"
        end = match.end()
    return found + name[end:]
