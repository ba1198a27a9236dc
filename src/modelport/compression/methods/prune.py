"""Method ``prune``: single weights of a network, or of an ONNX file, become zero.

Zeros save nothing on an ordinary runtime: the file compresses, and block-sparse runtimes and chips are faster. Only
what the options tell is looked at here; the work is in ``compression.pruning``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from modelport.compression.method import Form, Model
from modelport.compression.methods.prune_structured import LayerName
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

By = Literal["magnitude", "taylor", "activation", "uncertainty"]
_OF_FILES = ("magnitude", "activation")


class PruneOptions(Options):
    """Which weights go, and when."""

    by: By = "magnitude"
    """What a weight matters: its size; ``taylor``: what the loss would change without it (weight times gradient);
    ``activation``: its size times the norm of what it is given (Wanda); ``uncertainty``: its effect on the loss over
    batches, times how sure that is (its mean by its deviation)."""
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the weights that become zero. [0.7]"""
    threshold: Annotated[float, Field(gt=0)] | None = None
    """Or: those that matter less than this, in the terms of ``by``."""
    scope: Literal["global", "layer"] | None = None
    """``global``: where weights matter least, most go; ``layer``: the same share of each layer, of ``activation`` the
    same of each of its outputs. [layer for activation, else global]"""
    block: tuple[Annotated[int, Field(ge=1, le=256)], Annotated[int, Field(ge=1, le=256)]] = (1, 1)
    """Weights that go or stay together: rows (outputs) and columns (inputs) of the weights as a matrix."""
    when: Literal["once", "gradual", "learned"] = "once"
    """``once``: before training goes on; ``gradual``: more and more during the first half of it, fast at
    first (a cubic curve); ``learned``: what stays is learned with the weights (straight-through gradients of every
    weight's mask, added up as AdaGrad does), beginning with ``by``."""
    keep: Annotated[list[LayerName], Field(max_length=1000, default_factory=list)]
    """Layers that keep all their weights."""
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Training rows that are looked at for everything but ``magnitude``, at most."""
    epochs: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Epochs of training; of a network alone. [5]"""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """[that of the version's own training]"""
    every: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    """Steps of training between two looks at what goes, where that changes."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.ratio is not None and self.threshold is not None:
            raise ValueError("ratio and threshold are two ways to say how much; give one")
        if self.threshold is not None and self.when != "once":
            raise ValueError("a threshold says nothing of a curve; give ratio, or when once")
        if self.when != "once" and self.epochs == 0:
            raise ValueError(f"{self.when} happens during training; give it epochs")
        return self

    @property
    def share(self) -> float:
        """Of the weights that go."""
        return self.ratio if self.ratio is not None else 0.7

    @property
    def by_layer(self) -> bool:
        """Whether layers are looked at one by one."""
        return (self.scope or ("layer" if self.by == "activation" else "global")) == "layer"


class Prune:
    """Single weights."""

    summary = "Set weights that matter least to zero: smaller when zipped, faster on sparse runtimes alone"
    extra = "compress"
    needs = ("torch", "onnx", "onnxscript", "pyarrow")
    forms: tuple[Form, ...] = ("network", "onnx")
    data = False
    Options: type[Options] = PruneOptions

    def check(self, model: Model, data: TrainingData | None, options: PruneOptions) -> list[str]:
        """Rows are needed by all but the size of weights in a file."""
        if data is None and options.by != "magnitude":
            raise InvalidInput(f"data: {options.by} looks at rows; give a dataset, or by=magnitude")
        return ["zeros save nothing on an ordinary runtime: the file is smaller when it is zipped"]

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: PruneOptions) -> Trained:
        """The network where its recipe takes it up again and there are rows, else the file."""
        reopens = import_module("modelport.training.reopen").can_reopen(model.folder)
        if reopens and data is not None:
            work = import_module("modelport.compression.pruning.single")
        else:
            check_file(options, reopens)
            work = import_module("modelport.compression.pruning.files")
        made: Trained = work.compress(run, model, data, options)
        return made

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """None: a zero makes nothing smaller or faster that a budget can ask for."""
        return []


def check_file(options: PruneOptions, reopens: bool) -> None:
    """Raise InvalidInput for what a file cannot be pruned by."""
    if options.by in _OF_FILES and options.when == "once" and not options.epochs:
        return
    what = "when" if options.when != "once" else "epochs" if options.epochs else "by"
    why = "there are no rows to learn from" if reopens else "this version has no network that can learn"
    raise InvalidInput(
        f"options.{what}: {why}; its file can be pruned once, by magnitude or activation"
        + (", or give data" if reopens else "")
    )
