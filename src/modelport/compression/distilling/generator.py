"""A network that makes up inputs, and what it is asked for: that a teacher is sure of them, that all classes come, that
they are like those that it saw in training, and that a student still gets them wrong.

DAFL (Chen et al. 2019), the statistics of DeepInversion (Yin et al. 2020), the game of ZSKT (Micaelli, Storkey 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_WIDTH = 64


class Generator(nn.Module):
    """Noise [rows, noise] to inputs of one shape, about 0 with a deviation of 1, as recipes scale what is learnt."""

    def __init__(self, noise: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.noise, self.shape = noise, tuple(shape)
        if len(self.shape) == 3:
            channels, height, width = self.shape
            self.begin = (2 * _WIDTH, max(height // 4, 1), max(width // 4, 1))
            self.first = nn.Linear(noise, self.begin[0] * self.begin[1] * self.begin[2])
            self.layers = nn.ModuleList([_block(2 * _WIDTH, 2 * _WIDTH), _block(2 * _WIDTH, _WIDTH)])
            self.last: nn.Module = nn.Conv2d(_WIDTH, channels, 3, padding=1)
            self.norm: nn.Module = nn.BatchNorm2d(channels, affine=False)
            return
        count = int(torch.Size(self.shape).numel())
        self.first = nn.Linear(noise, 4 * _WIDTH)
        self.layers = nn.ModuleList([nn.Sequential(nn.BatchNorm1d(4 * _WIDTH), nn.LeakyReLU(0.2))])
        self.last, self.norm = nn.Linear(4 * _WIDTH, count), nn.BatchNorm1d(count, affine=False)

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        found = self.first(noise)
        if len(self.shape) == 3:
            found = found.view(-1, *self.begin)
            sizes = [tuple(max(side // 2, 1) for side in self.shape[1:]), self.shape[1:]]
            for layer, size in zip(self.layers, sizes, strict=True):
                found = layer(functional.interpolate(found, size=size, mode="nearest"))
        else:
            for layer in self.layers:
                found = layer(found)
        made: torch.Tensor = self.norm(self.last(found)).view(-1, *self.shape)
        return made


def _block(before: int, after: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(before), nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)
    )


class Statistics:
    """How far a batch is from what the teacher's batch norms saw in training; 0 where it has none."""

    def __init__(self, teacher: nn.Module) -> None:
        self._found: list[torch.Tensor] = []
        norms = [one for one in teacher.modules() if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d)]
        self._hooks = [norm.register_forward_pre_hook(self._look) for norm in norms if norm.running_mean is not None]

    def _look(self, norm: Any, given: tuple[torch.Tensor, ...]) -> None:
        if not torch.is_grad_enabled():
            return
        places = [0, *range(2, given[0].dim())]
        mean, variance = given[0].mean(places), given[0].var(places, unbiased=False)
        scale = norm.running_var + norm.eps
        self._found.append(((mean - norm.running_mean) ** 2 / scale + (variance / scale - 1) ** 2).mean())

    def loss(self) -> torch.Tensor:
        """Of the last run; forgets it."""
        found, self._found = self._found, []
        return torch.stack(found).mean() if found else torch.zeros(())

    def close(self) -> None:
        """Look no more."""
        for hook in self._hooks:
            hook.remove()


def asked_of(teacher: torch.Tensor, student: torch.Tensor, unlike: torch.Tensor, options: Any) -> torch.Tensor:
    """What a generator makes small; logits of teacher and student [rows, classes], ``unlike`` of the statistics."""
    best = teacher.argmax(1)
    mean = torch.softmax(teacher, 1).mean(0)
    total = options.sure * functional.cross_entropy(teacher, best)
    total = total + options.balanced * (mean * mean.clamp(min=1e-8).log()).sum()
    total = total + options.statistics * unlike
    apart = (torch.softmax(teacher, 1) - torch.softmax(student, 1)).abs().sum(1).mean()
    found: torch.Tensor = total - options.against * apart
    return found
