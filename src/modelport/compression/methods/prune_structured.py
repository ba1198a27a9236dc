"""Method ``prune-structured``: a network with fewer channels, heads and layers, smaller and faster on any runtime.

Only what the options tell is looked at here; the work is in ``compression.pruning.structured``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from modelport.compression.method import Form, Model
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

Ratio = Annotated[float, Field(ge=0, le=0.98)]
LayerName = Annotated[str, Field(min_length=1, max_length=300)]
_TWICE = 2.0


class PruneStructuredOptions(Options):
    """How much is taken out, what is taken to matter, and how the rest learns to do without."""

    macs: Annotated[float, Field(gt=1, le=1000)] | None = None
    """How many times fewer multiplications there are to be. [2, where nothing else says how much]"""
    ratio: Ratio | None = None
    """Or the share of the channels to remove."""
    scope: Literal["global", "layer"] = "global"
    """``global``: where channels matter least, most are removed; ``layer``: the same share everywhere."""
    layers: Annotated[dict[LayerName, Ratio], Field(max_length=1000, default_factory=dict)]
    """Other shares for layers by name, such as ``{"layer4": 0.8}``; 0 leaves a layer alone."""
    importance: Literal["magnitude", "taylor"] = "taylor"
    """What a channel matters: the size of its weights, or what the loss would change without it (weights times their
    gradients over ``rows``)."""
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Training rows that importance is found by, at most."""
    heads: Ratio = 0.0
    """Share of the attention heads to remove."""
    drop_layers: Annotated[int, Field(ge=0, le=1000)] = 0
    """Whole blocks to leave out, of those that repeat and keep the shape: those whose loss is the least without."""
    steps: Annotated[int, Field(ge=1, le=100)] = 1
    """In so many steps, each followed by ``step_epochs`` of training."""
    step_epochs: Annotated[int, Field(ge=1, le=100_000)] = 1
    epochs: Annotated[int, Field(ge=0, le=100_000)] = 10
    """Epochs of training at the end."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    """[that of the version's own training]"""
    multiple: Annotated[int, Field(ge=1, le=256)] = 8
    """Layers keep a multiple of so many channels: processors are quicker with eights."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.macs is not None and self.ratio is not None:
            raise ValueError("macs and ratio are two ways to say how much; give one")
        return self

    @property
    def wanted(self) -> float | None:
        """How many times fewer multiplications; None where something else says how much."""
        given = self.ratio is not None or self.heads or self.drop_layers or self.layers
        return self.macs if self.macs is not None or given else _TWICE


class PruneStructured:
    """Whole channels, heads and layers."""

    summary = "Remove whole channels, attention heads and layers of a network, then train on"
    extra = "compress"
    needs = ("torch", "torch_pruning", "onnxscript", "pyarrow")
    forms: tuple[Form, ...] = ("network",)
    data = True
    Options: type[Options] = PruneStructuredOptions

    def check(self, model: Model, data: TrainingData | None, options: PruneStructuredOptions) -> list[str]:
        """Nothing can be known before the network is opened but what it is trained for."""
        return [] if options.epochs else ["without epochs of training after it, pruning costs much of the quality"]

    def compress(
        self, run: TrainingRun, model: Model, data: TrainingData | None, options: PruneStructuredOptions
    ) -> Trained:
        """Prune, train, write."""
        work = import_module("modelport.compression.pruning.structured")
        made: Trained = work.compress(run, model, data, options)
        return made

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """Fewer multiplications."""
        return [{"macs": 1.5}, {"macs": 2.0}, {"macs": 3.0}, {"macs": 4.0}, {"macs": 6.0}]

    def preview(self, model: Model, options: PruneStructuredOptions) -> PruneStructuredOptions:
        """Two epochs of training in the end."""
        return options.model_copy(update={"epochs": min(options.epochs, 2)})
