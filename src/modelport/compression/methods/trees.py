"""Method ``trees``: forests and boosting with fewer trees and leaves, or a small tree or net that answers like them.

Only what manifest and options tell is looked at here; the work is in ``compression.trees``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.method import Form, Model
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

_NODE = b"TreeEnsemble"


class TreesOptions(Options):
    """How trees become fewer."""

    into: Literal["trees", "tree", "mlp"] = "trees"
    """What is made: ``trees``, some of those there are; ``tree``, a single one, or ``mlp``, a small net, which learn
    what the trees answer to the training rows."""
    ratio: Annotated[float, Field(gt=1, le=10_000)] | None = None
    """The file becomes at least so many times smaller, and answers as nearly like the old one as that allows. [4; with
    ``max_drop`` alone: as small as that allows]"""
    max_drop: Annotated[float, Field(ge=0, le=1)] | None = None
    """What the main figure of the validation rows (accuracy, R²) may lose; 0.005 is half a point. [any]"""
    trees: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Trees that are kept. [several numbers are tried]"""
    leaves: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of those trees' leaves that are kept: leaves that say nearly the same are merged. [several are tried]"""
    refit: bool = True
    """Fit the leaves' values anew to what all trees answered together, where the validation rows are better for it."""
    bits: Annotated[int, Field(ge=2, le=24)] | None = 10
    """Steps of the leaves' values, in bits; small ones become 0 and need no place."""
    max_leaves: Annotated[int, Field(ge=2, le=100_000)] = 256
    """Leaves of a single ``tree``."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(min_length=1, max_length=4)] = (32,)
    """Width of each hidden layer of an ``mlp``."""
    rows: Annotated[int, Field(ge=50, le=1_000_000)] = 5000
    """Rows of each part that are looked at, at most; chosen by the seed."""


class Trees:
    """Fewer trees and leaves."""

    summary = "Forests and boosting: fewer trees and leaves, or a small tree or net in their place"
    extra = "train"
    needs: tuple[str, ...] = ("sklearn", "scipy", "pyarrow")
    forms: tuple[Form, ...] = ("onnx",)
    data = True
    Options: type[Options] = TreesOptions

    def check(self, model: Model, data: TrainingData | None, options: Any) -> list[str]:
        """What manifest and options tell."""
        if data is not None and data.target is None:
            raise InvalidInput("target: say which column is to be predicted: trees are chosen by it")
        if options.into != "trees":
            given = [name for name in ("trees", "leaves") if getattr(options, name) is not None]
            if given:
                raise InvalidInput(f"options.{given[0]} is for into=trees; leave it out")
        if options.trees is not None and options.leaves is not None and options.ratio is not None:
            raise InvalidInput("options.ratio: trees and leaves already say how small it becomes; leave one out")
        return []

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
        """Shrink."""
        assert data is not None
        work = import_module("modelport.compression.trees.shrink")
        with import_module("threadpoolctl").threadpool_limits(run.threads):
            found: Trained = work.shrink(run, model, data, options)
        return found

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """Ratios; in the end a net. None for a file without trees."""
        if not has_trees(model):
            return []
        return [{"ratio": 2}, {"ratio": 4}, {"ratio": 8}, {"ratio": 16}, {"into": "mlp"}, {"into": "tree"}]


def has_trees(model: Model) -> bool:
    """Whether its ONNX files name such a node; also where they are not here."""
    files = [model.folder / entry.path for entry in model.manifest.files if entry.path.endswith(".onnx")]
    there = [file for file in files if file.is_file()]
    return model.manifest.format != "onnx" or not there or any(_NODE in file.read_bytes() for file in there)
