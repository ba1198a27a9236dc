"""How a network that was made smaller differs from the one that its recipe builds, and doing the same to a new one.

A pruned network has the modules of its recipe's, with smaller shapes and other numbers of channels and heads, and some
of them left out. That difference is kept as JSON beside the weights; it can only make a network smaller. Knows no
recipe and no way to prune.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from modelport.errors import InvalidInput

_OTHER = "the kept shape of the network does not fit what its recipe builds; take up the version before it"
Facts = dict[str, Any]
"""Plain attributes of a module by name."""
Shapes = dict[str, list[int]]


class Skipped(nn.Module):
    """Where a layer was left out: its first input goes on as it is."""

    def forward(self, first: torch.Tensor, *others: Any, **more: Any) -> torch.Tensor:
        return first


@dataclass(frozen=True, slots=True)
class _Seen:
    kind: type[nn.Module]
    facts: Facts
    shapes: Shapes
    """Of its own parameters and buffers."""


Outline = Mapping[str, _Seen]
"""All modules of a network, by name."""


@dataclass(slots=True)
class Difference:
    """What became of a network since it was built; JSON."""

    left_out: list[str] = field(default_factory=list)
    """Modules in whose place there is ``Skipped``."""
    facts: dict[str, Facts] = field(default_factory=dict)
    """Attributes that are others now, by module."""
    shapes: dict[str, list[int | None]] = field(default_factory=dict)
    """Parameters and buffers that are smaller now; None: a dimension as it was built."""

    def __bool__(self) -> bool:
        return bool(self.left_out or self.facts or self.shapes)

    def json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


def outline(network: nn.Module) -> Outline:
    """What can be seen of a network without its weights."""
    return {
        name: _Seen(
            type(module),
            {key: _plain(value) for key, value in vars(module).items() if _is_fact(key, value)},
            {key: list(tensor.shape) for key, tensor in _tensors(module)},
        )
        for name, module in network.named_modules(remove_duplicate=False)
    }


def difference(built: Outline, network: nn.Module) -> Difference | None:
    """What made ``network`` of what was built; None when it is another network altogether."""
    found, now = Difference(), dict(outline(network))
    found.left_out = [
        name for name, seen in now.items()
        if seen.kind is Skipped and name in built and built[name].kind is not Skipped
    ]  # fmt: skip
    gone = tuple(f"{name}." for name in found.left_out)
    for name in [name for name in built if not name.startswith(gone)]:
        if name in found.left_out:
            continue
        was, seen = built[name], now.pop(name, None)
        if seen is None or seen.kind is not was.kind or set(seen.shapes) != set(was.shapes):
            return None
        facts = {key: value for key, value in seen.facts.items() if key in was.facts and was.facts[key] != value}
        if facts:
            found.facts[name] = facts
        for key, shape in seen.shapes.items():
            before = was.shapes[key]
            if len(shape) != len(before) or any(a > b for a, b in zip(shape, before, strict=True)):
                return None
            if shape != before:
                kept: list[int | None] = [a if a != b else None for a, b in zip(shape, before, strict=True)]
                found.shapes[f"{name}.{key}".lstrip(".")] = kept
    return None if set(now) - set(found.left_out) else found


def repeat(network: nn.Module, kept: Mapping[str, Any]) -> None:
    """Make a network that was just built as small as one that became so; raises InvalidInput when they do not fit."""
    try:
        wanted = Difference(**kept)
        for name in wanted.left_out:
            _replace(network, name, Skipped())
        for name, facts in wanted.facts.items():
            module = network.get_submodule(name)
            for key, value in facts.items():
                _set_fact(module, key, value)
        for name, shape in wanted.shapes.items():
            owner, _, key = name.rpartition(".")
            _shrink(network.get_submodule(owner), key, shape)
    except (TypeError, AttributeError, KeyError, ValueError):
        raise InvalidInput(_OTHER) from None


def leave_out(network: nn.Module, name: str) -> None:
    """Put nothing where a module was."""
    _replace(network, name, Skipped())


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, key = name.rpartition(".")
    if not name or not isinstance(network.get_submodule(name), nn.Module):
        raise KeyError(name)
    network.get_submodule(owner)._modules[key] = module


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for found in (module._parameters, module._buffers):
        for key, tensor in found.items():
            if tensor is not None:
                yield key, tensor


def _is_fact(key: str, value: Any) -> bool:
    return (
        not key.startswith("_")
        and key != "training"
        and (type(value) in (int, float, bool) or (type(value) in (tuple, list, torch.Size) and _are_numbers(value)))
    )


def _are_numbers(values: Any) -> bool:
    return bool(values) and all(type(one) is int for one in values)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _set_fact(module: nn.Module, key: str, value: Any) -> None:
    """Only what is there already, and only by its like."""
    now = vars(module)[key]
    if not _is_fact(key, now) or type(_plain(now)) is not type(value) or not _is_fact(key, value):
        raise ValueError(key)
    setattr(module, key, tuple(value) if isinstance(now, tuple) else value)


def _shrink(module: nn.Module, key: str, shape: list[int | None]) -> None:
    """Keep the first places of each dimension."""
    tensor = dict(_tensors(module))[key]
    if len(shape) != tensor.dim() or any(
        one is not None and not 0 < one <= whole for one, whole in zip(shape, tensor.shape, strict=True)
    ):
        raise ValueError(key)
    part = tensor.detach()[tuple(slice(one) for one in shape)].clone()
    if key in module._parameters:
        module._parameters[key] = nn.Parameter(part, tensor.requires_grad)
    else:
        module._buffers[key] = part
