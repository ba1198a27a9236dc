"""Where a network can be left, the head that answers there, and both answers as one network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelport.compression.pruning.opened import weighted
from modelport.errors import InvalidInput

_IMAGE, _SEQUENCE, _ROWS = 4, 3, 2


class _Enough(Exception):
    """What comes after is not wanted."""


@dataclass(frozen=True, slots=True)
class Place:
    """A layer that a network may be left after."""

    name: str
    share: float
    """Of the network's multiplications, done by then."""
    features: int
    """Channels of its output."""
    is_block: bool
    """Whether there are layers in it."""


def places(network: nn.Module, inputs: tuple[Any, ...], macs: Mapping[str, int]) -> list[Place]:
    """In the order in which they are done; ``macs`` by layer."""
    done, found = 0, []
    total = max(sum(macs.values()), 1)
    rows = next(one.shape[0] for one in inputs if isinstance(one, torch.Tensor))
    layers = dict(weighted(network))

    def look(name: str, module: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, given: Any, output: Any) -> None:
            nonlocal done
            done += macs[name] if name in layers else 0
            if isinstance(output, torch.Tensor) and _ROWS <= output.dim() <= _IMAGE and output.shape[0] == rows:
                axis = -1 if output.dim() == _SEQUENCE else 1
                found.append(Place(name, done / total, output.shape[axis], bool(list(module.children()))))

        return hook

    hooks = [one.register_forward_hook(look(name, one)) for name, one in network.named_modules() if name]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for one in hooks:
            one.remove()
    names = [one.name for one in found]
    return [one for one in found if names.count(one.name) == 1 and one.share < 1]


def place_at(found: list[Place], name: str | None, share: float) -> Place:
    """The one of that name, or the block where about so much is done; raises InvalidInput when there is none."""
    if name is not None:
        named = next((one for one in found if one.name == name), None)
        if named is None:
            known = ", ".join(one.name for one in found if one.is_block) or ", ".join(one.name for one in found[:12])
            raise InvalidInput(
                f"options.at: the network cannot be left after {name[:100]!r}; it can after {known[:500]}"
            )
        return named
    blocks = [one for one in found if one.is_block] or found
    if not blocks:
        raise InvalidInput(
            "the network is one layer, or none that gives one tensor; there is no way out before its end"
        )
    nearest = min(abs(one.share - share) for one in blocks)
    return [one for one in blocks if abs(one.share - share) <= nearest + 1e-9][-1]


class Head(nn.Module):
    """Scores of classes from what a layer gives: its mean and its largest, and one layer of its own."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2 * features, hidden), nn.Linear(hidden, classes)
        self.norm = nn.BatchNorm1d(2 * features)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        if seen.dim() == _IMAGE:
            both = [seen.mean((2, 3)), seen.amax((2, 3))]
        elif seen.dim() == _SEQUENCE:
            both = [seen[:, 0], seen.mean(1)]
        else:
            both = [seen, seen]
        scores: torch.Tensor = self.last(torch.relu(self.first(self.norm(torch.cat(both, 1)))))
        return scores


class AtExit(nn.Module):
    """The head alone, behind what comes before it; that learns nothing."""

    def __init__(self, network: nn.Module, at: str, head: Head) -> None:
        super().__init__()
        self.network, self.head, self._at = network, head, at

    def forward(self, *given: Any, **named: Any) -> torch.Tensor:
        scores: torch.Tensor = self.head(self._seen(given, named).detach())
        return scores

    def _seen(self, given: Any, named: Any) -> torch.Tensor:
        seen: list[torch.Tensor] = []

        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            seen.append(output)
            raise _Enough

        handle = self.network.get_submodule(self._at).register_forward_hook(hook)
        try:
            with torch.no_grad():
                self.network(*given, **named)
        except _Enough:
            pass
        finally:
            handle.remove()
        return seen[0]


class WithExit(nn.Module):
    """For each row the head's scores where it is sure, else the network's: all of both is computed here."""

    def __init__(self, network: nn.Module, at: str, head: Head, threshold: float) -> None:
        super().__init__()
        self.network, self.head, self.threshold = network, head, threshold
        self._seen: list[torch.Tensor] = []
        network.get_submodule(at).register_forward_hook(lambda module, given, output: self._seen.append(output))

    def forward(self, *given: Any, **named: Any) -> torch.Tensor:
        self._seen.clear()
        last = self.network(*given, **named)
        first = self.head(self._seen.pop())
        return torch.where(sure(first, self.threshold)[:, None], first, last)


class Recalled(nn.Module):
    """Gives scores that are known already, row by row in their order."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.device_of = nn.Parameter(torch.zeros(1), requires_grad=False)
        self._scores, self._at = scores, 0

    def forward(self, *given: Any, **named: Any) -> torch.Tensor:
        rows = next(one.shape[0] for one in (*given, *named.values()) if isinstance(one, torch.Tensor))
        self._at += rows
        return self._scores[self._at - rows : self._at]


def sure(scores: torch.Tensor, threshold: float) -> torch.Tensor:
    """[rows] bool."""
    return torch.softmax(scores.float(), 1).amax(1) >= threshold
