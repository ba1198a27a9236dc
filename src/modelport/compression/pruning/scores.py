"""What each weight of a network matters: by its size, the loss, what it is given, or how sure its effect is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from modelport.compression.methods.prune import By
from modelport.compression.pruning import opened as networks
from modelport.training.reopen import Reopened

_TINY = 1e-12
_FEW = 16
"""Rows of a batch whose effect is looked at."""
Scores = dict[str, torch.Tensor]
"""As large as the weights, by layer."""


def scores(found: Reopened, layers: Mapping[str, Any], by: By, rows: int) -> Scores:
    """``layers``: convolutions and linear layers by name."""
    if by == "magnitude":
        return {name: own(layer).detach().abs() for name, layer in layers.items()}
    found.network.eval()
    if by == "activation":
        norms = input_norms(found, layers, rows)
        return {name: own(layer).detach().abs() * norms[name] for name, layer in layers.items()}
    mean, deviation = effects(found, layers, rows)
    if by == "taylor":
        return mean
    return {name: one * one / (deviation[name] + _TINY) for name, one in mean.items()}


def input_norms(found: Reopened, layers: Mapping[str, Any], rows: int) -> Scores:
    """The root of the mean square of what each weight is given, in the shape of the weights or one that spreads to it.

    Sun et al. 2023, https://arxiv.org/abs/2306.11695; a convolution's by input channel.
    """
    squares: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def look(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            x = given[0].detach()
            axis = -1 if isinstance(module, nn.Linear) else 1
            flat = x.movedim(axis, -1).reshape(-1, x.shape[axis])
            squares[name] = squares.get(name, 0) + flat.square().sum(0)
            counts[name] = counts.get(name, 0) + len(flat)

        return hook

    hooks = [layer.register_forward_hook(look(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            for batch in networks.batches(found, rows):
                found.network(*found.inputs(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: spread((squares[name] / counts[name]).sqrt(), layer) if name in squares else torch.ones(())
        for name, layer in layers.items()
    }


def own(layer: Any) -> torch.Tensor:
    """A layer's weights, without the mask that may lie over them."""
    found: torch.Tensor = layer.parametrizations.weight.original if is_parametrized(layer) else layer.weight
    return found


def spread(norms: torch.Tensor, layer: Any) -> torch.Tensor:
    """Of input channels [channels], in the shape of the layer's weights."""
    weight = layer.weight
    if isinstance(layer, nn.Linear):
        return norms.expand_as(weight)
    trailing = [1] * (weight.dim() - 2)
    if layer.transposed:
        return norms.view(-1, 1, *trailing).expand_as(weight)
    by_group = norms.view(layer.groups, 1, -1).expand(-1, weight.shape[0] // layer.groups, -1)
    return by_group.reshape(weight.shape[0], weight.shape[1], *trailing).expand_as(weight)


def effects(found: Reopened, layers: Mapping[str, Any], rows: int) -> tuple[Scores, Scores]:
    """What a batch's loss would change without each weight, about: its size times its gradient. Mean and deviation over
    small batches: over all rows at once, a trained network's gradients cancel out."""
    total = {name: torch.zeros_like(own(layer)) for name, layer in layers.items()}
    squares = {name: torch.zeros_like(one) for name, one in total.items()}
    seen = 0
    for batch in networks.batches(found, rows, _FEW):
        found.network.zero_grad(set_to_none=True)
        found.loss(found.network(*found.inputs(batch)), batch).backward()
        seen += 1
        for name, layer in layers.items():
            weight = own(layer)
            if weight.grad is not None:
                effect = (weight * weight.grad).detach().abs()
                total[name] += effect
                squares[name] += effect.square()
    found.network.zero_grad(set_to_none=True)
    mean = {name: one / seen for name, one in total.items()}
    return mean, {name: (squares[name] / seen - one.square()).clamp_min(0).sqrt() for name, one in mean.items()}
