"""A network called so that Torch-Pruning can follow it: what keeps the channels of an image is one step to it.

It reads a graph of gradients, in which a product with a matrix looks like a change of shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_IMAGE = 4


class _OneStep(torch.autograd.Function):
    """A module's work without what happens inside of it; nobody asks for its gradient."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, work: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The module's."""
        return work(x.clone())


def called(network: nn.Module, inputs: tuple[Any, ...]) -> torch.Tensor:
    """The network's output, to be followed back."""
    with _steps(network):
        found: torch.Tensor = network(*inputs)
    return found


@contextmanager
def _steps(network: nn.Module) -> Iterator[None]:
    """Modules without weights, and without modules in them, that give images of as many channels as they take."""
    plain: list[Any] = [
        module for module in network.modules()
        if not list(module.children()) and not list(module.parameters()) and "forward" not in vars(module)
    ]  # fmt: skip
    for module in plain:
        module.forward = _as_one(module.forward)
    try:
        yield
    finally:
        for module in plain:
            del module.forward


def _as_one(work: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*given: Any, **more: Any) -> Any:
        x = given[0] if len(given) == 1 and not more else None
        if not isinstance(x, torch.Tensor) or x.dim() != _IMAGE or not x.requires_grad:
            return work(*given, **more)
        with torch.no_grad():
            found = work(x.clone())
        same = isinstance(found, torch.Tensor) and found.dim() == _IMAGE and found.shape[:2] == x.shape[:2]
        return _OneStep.apply(x, work) if same else work(x)

    return forward
