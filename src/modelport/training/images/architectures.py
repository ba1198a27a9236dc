"""Networks from pixels to scores of classes: what there is, where its layers may be frozen, how its pixels are scaled.

``vgg16`` and ``resnet18`` name their weights as torchvision does, so that its files fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from modelport.training.images.efficientnet import EfficientNetLite0
from modelport.training.images.sizes import fewer, narrower

Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation by channel, of pixels from 0 to 1."""
_IMAGENET: Scaling = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_TF: Scaling = ((127 / 255,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to build one."""

    build: Callable[[int, tuple[int, int], int, float, float, float], nn.Module]
    """Channels, height and width, classes, dropout, width and depth (1: as published) → a network with ``blocks()`` and
    ``head()``."""
    scaling: Scaling | None
    """What weights that somebody brings were trained with; None: that of the images at hand."""
    size: int
    """Height and width that such weights were trained with."""
    smallest: int


class Small(nn.Module):
    """Pairs of 3×3 convolutions with batch norm, half the size and more channels each time, then the mean."""

    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, dropout: float, width: float = 1, depth: float = 1
    ) -> None:
        super().__init__()
        wide, before, side = 32, channels, min(size)
        stages: list[nn.Module] = []
        while True:
            pool = side >= 8 and len(stages) < 5
            after = narrower(wide, width)
            stages.append(_stage(before, after, pool, fewer(2, depth)))
            before, wide, side = after, min(wide * 2, 256), side // 2 if pool else side
            if not pool or side < 4:
                break
        self.features = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(before, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.fc(self.dropout(self.features(image).mean((2, 3))))
        return scores

    def blocks(self) -> list[nn.Module]:
        return list(self.features)

    def head(self) -> str:
        return "fc"


def _stage(before: int, width: int, pool: bool, times: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inner in (before, *[width] * (times - 1)):
        layers += [nn.Conv2d(inner, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class _Residual(nn.Module):
    """Two convolutions beside a way around them."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        around = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(x + around)


class ResNet18(nn.Module):
    """He et al. 2015, https://arxiv.org/abs/1512.03385."""

    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, dropout: float, width: float = 1, depth: float = 1
    ) -> None:
        super().__init__()
        w1, w2, w3, w4 = (narrower(one, width) for one in (64, 128, 256, 512))
        self.conv1 = nn.Conv2d(channels, w1, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(w1)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(_Residual(before, after, stride), *(_Residual(after, after, 1) for _ in range(1, times)))
            for before, after, stride, times in (
                (w1, w1, 1, fewer(2, depth)), (w1, w2, 2, fewer(2, depth)), (w2, w3, 2, fewer(2, depth)),
                (w3, w4, 2, fewer(2, depth)),
            )
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(w4, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(torch.relu(self.bn1(self.conv1(image))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: torch.Tensor = self.fc(self.dropout(x.mean((2, 3))))
        return scores

    def blocks(self) -> list[nn.Module]:
        stem = nn.ModuleList([self.conv1, self.bn1])
        return [stem, *self.layer1, *self.layer2, *self.layer3, *self.layer4]

    def head(self) -> str:
        return "fc"


class Vgg16(nn.Module):
    """Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556, configuration D."""

    def __init__(
        self, channels: int, size: tuple[int, int], classes: int, dropout: float, width: float = 1, depth: float = 1
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, times in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(fewer(times, depth)):
                layers += [nn.Conv2d(channels, narrower(wide, width), 3, padding=1), nn.ReLU(inplace=True)]
                channels = narrower(wide, width)
            layers.append(nn.MaxPool2d(2))
        top = narrower(4096, width)
        self.features = nn.Sequential(*layers)
        self.avgpool = _MeanTo7(size[0] // 32, size[1] // 32)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, top), nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(top, top),
            nn.ReLU(inplace=True), nn.Dropout(dropout), nn.Linear(top, classes),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.classifier(self.avgpool(self.features(image)).flatten(1))
        return scores

    def blocks(self) -> list[nn.Module]:
        convolutions = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        return [*convolutions, self.classifier[0], self.classifier[3]]

    def head(self) -> str:
        return "classifier.6"


class _MeanTo7(nn.Module):
    """Adaptive mean over a 7×7 grid, as two products with matrices: the same in ONNX for any size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.same = (height, width) == (7, 7)
        self.register_buffer("rows", _averages(height), persistent=False)
        self.register_buffer("columns", _averages(width).T.contiguous(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.same else self.rows @ x @ self.columns


def _averages(side: int) -> torch.Tensor:
    """[7, side]: row i averages the part of ``side`` that torch's adaptive_avg_pool averages for i."""
    found = torch.zeros(7, side)
    for row in range(7):
        start, end = row * side // 7, -(-(row + 1) * side // 7)
        found[row, start:end] = 1 / (end - start)
    return found


ARCHITECTURES: dict[str, Architecture] = {
    "small": Architecture(Small, None, 64, 4),
    "resnet18": Architecture(ResNet18, _IMAGENET, 224, 32),
    "vgg16": Architecture(Vgg16, _IMAGENET, 224, 32),
    "efficientnet-lite0": Architecture(EfficientNetLite0, _TF, 224, 32),
}
