"""Which weights learn how fast, from which epoch on, by which optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelport.training.loop import LoopOptions


@dataclass(slots=True)
class Group:
    """Modules that learn alike."""

    modules: Sequence[nn.Module]
    rate: float = 1.0
    """Factor of the learning rate."""
    from_epoch: int = 0
    """Until this epoch (counted from 0) they keep their weights and their statistics."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Each once."""
        return list(dict.fromkeys(found for module in self.modules for found in module.parameters()))


def build(options: LoopOptions, groups: Sequence[Group]) -> torch.optim.Optimizer:
    """The optimiser over groups; a parameter belongs to the first group that has it.

    Each of its ``param_groups`` knows ``base``, its own learning rate before the schedule.
    """
    taken: set[nn.Parameter] = set()
    found: list[dict[str, Any]] = []
    for group in groups:
        own = [parameter for parameter in group.parameters if parameter not in taken]
        taken.update(own)
        rate = options.learning_rate * group.rate
        for decay, parameters in (
            (options.weight_decay, [one for one in own if one.dim() > 1]),
            (0.0, [one for one in own if one.dim() <= 1]),
        ):
            if parameters:
                found.append({"params": parameters, "lr": rate, "base": rate, "weight_decay": decay})
    if options.optimizer in ("sgd", "momentum"):
        momentum = options.momentum if options.optimizer == "momentum" else 0.0
        return torch.optim.SGD(found, lr=options.learning_rate, momentum=momentum, fused=True)
    cls = torch.optim.Adam if options.optimizer == "adam" else torch.optim.AdamW
    return cls(found, lr=options.learning_rate, fused=True)


def thaw(groups: Sequence[Group], epoch: int) -> None:
    """Let those learn whose epoch has come; the others neither learn nor collect statistics.

    Where modules lie in several groups, the first one counts.
    """
    for group in reversed(groups):
        learns = epoch >= group.from_epoch
        for parameter in group.parameters:
            parameter.requires_grad_(learns)
        for module in group.modules:
            module.train(learns)
