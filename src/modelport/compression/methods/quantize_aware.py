"""Method ``quantize-aware``: a network learns on while its numbers are rounded, then becomes integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.method import Form, Model
from modelport.compression.methods.quantize import is_of_images
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class QuantizeAwareOptions(Options):
    """How a network learns to do with fewer bits."""

    mode: Literal["static", "dynamic", "weights"] | None = None
    """What is rounded while it learns, as for the method ``quantize``: weights and activations by known ranges, or by
    those of each batch, or weights alone. [static for images, weights where bits is 4, else dynamic]"""
    bits: Literal[4, 8] = 8
    """Of a weight; 4 with mode ``weights`` alone."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 3
    """Passes over the training rows, at most."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """[a tenth of that of the version's own training]"""
    weight_decay: Annotated[float, Field(ge=0, le=10)] | None = None
    """Pull of the weights towards 0, against overfitting. [that of the version's own training]"""
    stay: Annotated[float, Field(ge=0, le=1e6)] = 0.01
    """Pull of the weights towards those that learning begins with, against overfitting: what is added to the loss is
    half of this times the sum of the squared differences (L2-SP, arXiv 1802.01483)."""
    rows: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Training rows that ranges of activations are learnt from, at most."""


class QuantizeAware:
    """A network of a recipe in, an ONNX file of integers out."""

    summary = "Train on with quantization in mind: the network learns around the rounding, then computes in integers"
    extra = "compress"
    needs = ("torch", "onnxscript", "onnxruntime", "scipy", "pyarrow")
    forms: tuple[Form, ...] = ("network",)
    data = True
    Options: type[Options] = QuantizeAwareOptions

    def check(self, model: Model, data: TrainingData | None, options: QuantizeAwareOptions) -> list[str]:
        """What options tell."""
        if data is None:
            raise InvalidInput("data: this method needs rows to learn from; give a dataset, or use quantize")
        if options.bits == 4 and options.mode in ("static", "dynamic"):
            raise InvalidInput(f"options.bits: mode {options.mode} computes with 8 bits; 4 are for mode weights")
        return []

    def compress(
        self, run: TrainingRun, model: Model, data: TrainingData | None, options: QuantizeAwareOptions
    ) -> Trained:
        """Learn, write, compare."""
        aware = import_module("modelport.compression.quantizing.aware")
        made: Trained = aware.compress(run, model, data, options, mode_of(model, options))
        return made

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """8 bits, then 4."""
        return ({"bits": 8}, {"bits": 4})

    def preview(self, model: Model, options: QuantizeAwareOptions) -> QuantizeAwareOptions:
        """One epoch."""
        return options.model_copy(update={"epochs": 1})


def mode_of(model: Model, options: QuantizeAwareOptions) -> Literal["static", "dynamic", "weights"]:
    """The one that was given, or that suits."""
    if options.mode is not None:
        return options.mode
    if options.bits == 4:
        return "weights"
    return "static" if is_of_images(model) else "dynamic"
