"""Method ``quantize``: fewer bits for the numbers of an ONNX model, with nothing learnt anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.inputs import bound, model_signature
from modelport.compression.method import Form, Model
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

Mode = Literal["dynamic", "static", "float16", "bfloat16", "weights", "table"]
LayerName = Annotated[str, Field(min_length=1, max_length=300)]
_INTEGERS = ("dynamic", "static", "weights")
_MOST_INPUTS = 3
"""Numbers that a look-up table is made over, at most."""


class QuantizeOptions(Options):
    """How a model is quantized."""

    mode: Mode | None = None
    """``dynamic``: weights of 8 bits, activations looked at while it runs (transformers); ``static``: ranges of
    activations learnt from rows beforehand (convolutions); ``weights``: weights alone; ``float16``, ``bfloat16``;
    ``table``: the answers of a model of few numbers, looked up. [static where there are rows and the model has image
    files or four dimensions as input, else dynamic]"""
    bits: Literal[4, 8] | None = None
    """Of a weight; 4 with mode ``weights`` alone. [8; 4 for normal-float]"""
    levels: Literal["uniform", "codebook", "normal-float"] | None = None
    """With mode ``weights``: equal steps, the values that k-means finds, or a normal distribution's. [uniform]"""
    per: Literal["tensor", "channel"] = "channel"
    """What has a scale of its own: all of a layer's weights, or those of each output."""
    group: Literal[16, 32, 64, 128, 256] | None = None
    """Weights that share a scale, for uniform 4 bits and normal-float. [32]"""
    calibration: Literal["minmax", "entropy", "percentile"] | None = None
    """With mode ``static``: which range an activation gets: all that was seen, that which loses least information, or
    all but a few outliers. [minmax]"""
    percentile: Annotated[float, Field(ge=90, lt=100)] | None = None
    """Percent of an activation's values inside its range, with calibration ``percentile``. [99.99]"""
    rows: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Training rows that are looked at, at most."""
    include: Annotated[list[LayerName], Field(min_length=1, max_length=10_000)] | None = None
    """The layers to quantize, by name; ``*`` stands for anything. [all]"""
    exclude: Annotated[list[LayerName], Field(max_length=10_000)] = Field(default_factory=list)
    """Layers to leave as they are, by name."""
    max_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Loss of the main figure on validation rows that is allowed, as a share of what it was: the layers that hurt most
    are turned back until it is kept. [not looked at]"""
    validation_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Validation rows that answers are compared on, at most."""
    points: Annotated[int, Field(ge=2, le=100_000)] = 64
    """With mode ``table``: values of each input that an answer is stored for."""
    between: Literal["nearest", "linear"] = "linear"
    """With mode ``table``: what is answered between two points; classes and texts are always the nearest point's."""


class Quantize:
    """An ONNX file in, a smaller one out."""

    summary = "Quantize an ONNX model: 8-bit integers, 4-bit or codebook weights, 16-bit floats, or a look-up table"
    extra = "train"
    needs = ("onnxruntime", "sklearn", "scipy", "sympy", "pyarrow")
    forms: tuple[Form, ...] = ("onnx",)
    data = False
    Options: type[Options] = QuantizeOptions

    def check(self, model: Model, data: TrainingData | None, options: QuantizeOptions) -> list[str]:
        """What options, manifest and columns tell."""
        mode = mode_of(model, data, options)
        _check_together(mode, options)
        if mode in ("static", "table") and data is None:
            what = "the ranges of activations" if mode == "static" else "which values inputs have"
            raise InvalidInput(f"data: mode {mode} learns {what} from rows; give a dataset, or say mode dynamic")
        if options.max_drop is not None and (data is None or data.target is None):
            raise InvalidInput(
                "max_drop: how good answers are is measured on rows with a target; give a dataset with one"
            )
        if data is not None:
            bound(model, data.features)
        if mode == "table":
            numbers_of(model, options.points)
        return []

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: QuantizeOptions) -> Trained:
        """Quantize, compare, write."""
        mode = mode_of(model, data, options)
        made: Trained = import_module("modelport.compression.quantizing.work").compress(run, model, data, options, mode)
        return made

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """From weights alone to 4 bits of them."""
        if model.manifest.format != "onnx" or not any(s.datatype == "FP32" for s in model_signature(model).outputs):
            return ()
        return (
            {"mode": "float16"},
            {"mode": "weights", "bits": 8},
            {"mode": "static"} if is_of_images(model) else {"mode": "dynamic"},
            {"mode": "weights", "bits": 4},
        )


def mode_of(model: Model, data: TrainingData | None, options: QuantizeOptions) -> Mode:
    """The one that was given, or that suits."""
    if options.mode is not None:
        return options.mode
    if options.levels is not None or options.bits == 4:
        return "weights"
    return "static" if data is not None and is_of_images(model) else "dynamic"


def is_of_images(model: Model) -> bool:
    """Whether the file takes something of four dimensions."""
    return any(len(spec.shape) == 4 for spec in model_signature(model).inputs)


def numbers_of(model: Model, points: int) -> int:
    """How many numbers the model takes in a row; raises InvalidInput when that is not few."""
    total = 0
    for spec in model_signature(model).inputs:
        size = 1
        for one in spec.shape[1:]:
            size *= one
        if spec.datatype not in ("FP32", "FP64") or spec.shape[:1] != (-1,) or size < 1 or len(spec.shape) > 2:
            raise InvalidInput(
                f"mode: a table is made of models that take a few numbers in a row; input {spec.name!r} is "
                f"{spec.datatype}{list(spec.shape)}; say mode dynamic or weights"
            )
        total += size
    if total > _MOST_INPUTS:
        raise InvalidInput(
            f"mode: a table over {total} numbers with {points} points of each would have {points}^{total} = "
            f"{float(points) ** total:.3g} answers; a table is made over {_MOST_INPUTS} at most: say mode dynamic "
            "or weights"
        )
    return total


def _check_together(mode: Mode, options: QuantizeOptions) -> None:
    """Raise InvalidInput for options that contradict each other."""
    levels = options.levels or "uniform"
    wrong = ""
    if options.bits is not None and mode not in _INTEGERS:
        wrong = f"bits: mode {mode} settles the bits itself; leave bits out"
    elif options.bits == 4 and mode != "weights":
        wrong = f"bits: mode {mode} computes with 8 bits; 4 are for mode weights"
    elif options.levels is not None and mode != "weights":
        wrong = f"levels: they are for mode weights, not {mode}"
    elif levels == "normal-float" and options.bits == 8:
        wrong = "bits: normal-float has 4 bits; leave bits out, or say levels codebook"
    elif options.group is not None and not (
        mode == "weights" and (levels == "normal-float" or (levels == "uniform" and options.bits == 4))
    ):
        wrong = "group: scales for groups of weights are for mode weights with uniform 4 bits, or normal-float"
    elif options.calibration is not None and mode != "static":
        wrong = f"calibration: it is for mode static; mode {mode} looks at no activations beforehand"
    elif options.percentile is not None and options.calibration != "percentile":
        wrong = "percentile: it is for calibration percentile; say that too"
    elif options.include is not None and set(options.include) & set(options.exclude):
        wrong = f"exclude: {sorted(set(options.include) & set(options.exclude))[0][:100]!r} is in include as well"
    elif mode == "table" and (options.include is not None or options.exclude):
        wrong = "include: a table takes the place of the whole model; leave include and exclude out"
    if wrong:
        raise InvalidInput(f"options.{wrong}")
