"""The parts of a transformers model by what they are for: word vectors, layers, head. Decides who learns how fast."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.training.optimizers import Group

_NEVER = 1 << 30


class Rates(Protocol):
    """The options that decide about layers."""

    freeze: int
    unfreeze_epoch: int | None
    layer_decay: float
    head_rate: float
    """Of layers that are not the body's; 1 where there are none."""


def layers_of(model: Any) -> list[nn.Module]:
    """The layers, from the bottom: the longest list of modules in the model's body."""
    lists = [list(module) for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len) if lists else []


def groups_of(model: Any, options: Rates) -> list[Group]:
    """Head, layers from the top, word vectors; raises InvalidInput when more layers are to be frozen than there are."""
    layers = layers_of(model)
    if options.freeze > len(layers):
        raise InvalidInput(f"options.freeze: the base model has {len(layers)} layers, not {options.freeze}")
    frozen = len(layers) if options.freeze < 0 else options.freeze
    later = _NEVER if options.unfreeze_epoch is None else options.unfreeze_epoch - 1
    body = model.base_model
    bottom: list[nn.Module] = []
    above: list[nn.Module] = []
    for part in _beside(body, {id(layer) for layer in layers}):
        reads = any(isinstance(module, nn.Embedding) for module in part.modules())
        (bottom if reads else above).append(part)
    head = [] if body is model else [module for _, module in model.named_children() if module is not body]
    groups = [Group(head, options.head_rate)]
    if above:
        groups.append(Group(above, 1.0, later if options.freeze < 0 else 0))
    for depth, layer in enumerate(reversed(layers)):
        waits = len(layers) - 1 - depth < frozen
        groups.append(Group([layer], options.layer_decay**depth, later if waits else 0))
    groups.append(Group(bottom, options.layer_decay ** len(layers), later if frozen else 0))
    return [group for group in groups if group.parameters]


def _beside(body: nn.Module, layers: set[int]) -> list[nn.Module]:
    """The largest parts of a body that neither are nor hold a layer."""
    found: list[nn.Module] = []
    for child in body.children():
        if id(child) in layers:
            continue
        holds = any(id(module) in layers for module in child.modules())
        found += _beside(child, layers) if holds else [child]
    return found


def head_of(model: Any, classes: int) -> str:
    """The name of the layer that scores so many classes; raises InvalidInput when there is none."""
    body = {id(module) for module in model.base_model.modules()}
    found = [
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes and id(module) not in body
    ]  # fmt: skip
    if not found:
        raise InvalidInput("base model: its head cannot be told from its body; begin from a model without a head")
    return str(found[-1])


def widened(head: nn.Linear, classes: int) -> nn.Linear:
    """A head for more classes that scores the first ones as it did."""
    if classes == head.out_features:
        return head
    found = nn.Linear(head.in_features, classes, bias=head.bias is not None)
    with torch.no_grad():
        found.weight[: head.out_features] = head.weight
        if head.bias is not None:
            found.bias[: head.out_features] = head.bias
    return found
