"""Method ``early-exit``: a head half-way through a classifier answers for the rows that it is sure about.

Only what the options tell is looked at here; the work is in ``compression.exits``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

from pydantic import Field

from modelport.compression.method import Form, Model
from modelport.compression.methods.prune_structured import LayerName
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class EarlyExitOptions(Options):
    """Where the way out is, and how sure it has to be."""

    at: LayerName | None = None
    """The layer whose output the head looks at, by its name. [the block at ``place``]"""
    place: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of the multiplications that come before the head, about."""
    max_drop: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Accuracy that may be lost on the validation rows: 0.005 is half a point. As many rows leave as that allows."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Or: the probability from which on the head answers."""
    hidden: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Width of the head's own layer."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Epochs in which the head learns; the network stays as it is."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] = 2e-3


class EarlyExit:
    """A head half-way."""

    summary = "Add a head half-way that answers when it is sure: less work for easy rows"
    extra = "compress"
    needs = ("torch", "onnx", "onnxscript", "pyarrow")
    forms: tuple[Form, ...] = ("network",)
    data = True
    Options: type[Options] = EarlyExitOptions

    def check(self, model: Model, data: TrainingData | None, options: EarlyExitOptions) -> list[str]:
        """Classes alone can be sure."""
        task = model.manifest.task
        if task and task != "classification":
            raise InvalidInput(f"early-exit: a head is sure of classes, and this version is for {task}; prune it")
        return []

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: EarlyExitOptions) -> Trained:
        """Train the head, choose the threshold, write the file with its way out."""
        made: Trained = import_module("modelport.compression.exits.learn").compress(run, model, data, options)
        return made

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """Later and earlier ways out."""
        return [{"place": 0.6}, {"place": 0.4}, {"place": 0.25}]

    def preview(self, model: Model, options: EarlyExitOptions) -> EarlyExitOptions:
        """Three epochs."""
        return options.model_copy(update={"epochs": min(options.epochs, 3)})
