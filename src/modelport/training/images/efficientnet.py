"""EfficientNet-Lite0: a network for small machines, whose weights are named as its published PyTorch files name them.

Tan and Le 2019, https://arxiv.org/abs/1905.11946; the lite form has ReLU6 and no squeeze-and-excitation.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from modelport.training.images.sizes import fewer, narrower

#: Repeats, kernel, stride, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


class _Same(nn.Conv2d):
    """A convolution whose output is its input's size divided by its stride, padded as TensorFlow pads."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, size: tuple[int, int], groups: int = 1):
        super().__init__(before, after, kernel, stride, groups=groups, bias=False)
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in size]
        self.pads = (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, self.pads))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """Wider, each channel filtered by itself, narrower again; beside a way around where the shapes agree."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expand: int, size: tuple[int, int]) -> None:
        super().__init__()
        inner = before * expand
        self.expands, self.around = expand > 1, stride == 1 and before == after
        if self.expands:
            self._expand_conv = nn.Conv2d(before, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = _Same(inner, inner, kernel, stride, size, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, after, 1, bias=False)
        self._bn2 = _norm(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        found = functional.relu6(self._bn1(self._depthwise_conv(found)))
        found = self._bn2(self._project_conv(found))
        return found + x if self.around else found


class EfficientNetLite0(nn.Module):
    """4.7 million weights with its 1,000 classes."""

    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, dropout: float, width: float = 1, depth: float = 1
    ) -> None:
        super().__init__()
        before, top = narrower(32, width), narrower(1280, width)
        self._conv_stem = _Same(channels, before, 3, 2, size)
        self._bn0 = _norm(before)
        size = (-(-size[0] // 2), -(-size[1] // 2))
        blocks = []
        for repeats, kernel, first_stride, expand, published in _STAGES:
            after = narrower(published, width)
            for index in range(fewer(repeats, depth)):
                stride = first_stride if index == 0 else 1
                blocks.append(_Block(before, after, kernel, stride, expand, size))
                before, size = after, (-(-size[0] // stride), -(-size[1] // stride))
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(before, top, 1, bias=False)
        self._bn1 = _norm(top)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(top, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(image)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        scores: torch.Tensor = self._fc(self._dropout(x.mean((2, 3))))
        return scores

    def blocks(self) -> list[nn.Module]:
        stem, top = nn.ModuleList([self._conv_stem, self._bn0]), nn.ModuleList([self._conv_head, self._bn1])
        return [stem, *self._blocks, top]

    def head(self) -> str:
        return "_fc"
