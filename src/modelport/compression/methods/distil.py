"""Method ``distil``: a smaller network, or one of the same size, that learns what teachers answer.

Only what manifest and options tell is looked at here; the work is in ``compression.distilling``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.method import Form, Model
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun

_SELF = "self"


class StudentOptions(Options):
    """Which student there is, and how it learns. Where a default is empty, it is that of the version's training."""

    student: Literal["smaller", "same"] = "smaller"
    """``same``: as large as its teacher, born again."""
    size: dict[str, Any] | None = None
    """The student's size, such as ``{width: 0.5}`` of images' and ``{layers: 2, vocabulary: 4000}`` of texts' networks.
    [the largest that fits ``ratio`` and ``max_bytes``]"""
    ratio: Annotated[float, Field(gt=1, le=10_000)] | None = None
    """So many times fewer weights, at least. [2 without ``size`` and ``max_bytes``]"""
    max_bytes: Annotated[int, Field(ge=1000)] | None = None
    """Bytes of the student's weights (4 each), at most."""
    weights: Literal["copied", "new"] = "copied"
    """Those that the student begins from: its teacher's (of the layers every second or third, of the channels the
    first), or random ones. A student that is the ``same`` always begins anew."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 3.0
    """Softens the chances that are learnt, so that the unlikely classes count."""
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.7
    """What the teacher's answers count; the rest is for the truth."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Passes over the training rows, at most."""
    learning_rate: Annotated[float, Field(gt=0, le=1000)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Rows that go through the network at once."""


_EPOCHS = 20


class DistilOptions(StudentOptions):
    """How a student learns from teachers."""

    teachers: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] = (_SELF,)
    """Whose answers are learnt, averaged: ``self``, the version's own network, and others by NAME or NAME:VERSION."""
    match: Literal["none", "features", "attention"] = "none"
    """Layers learn from the version's own as well: what they say (``features``), or what they look at."""
    match_weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """What that counts, beside the answers."""


class Student:
    """What methods with a student have in common."""

    extra = "train"
    needs: tuple[str, ...] = ("torch", "onnxscript", "pyarrow")
    forms: tuple[Form, ...] = ("network",)
    data = True

    def check(self, model: Model, data: TrainingData | None, options: Any) -> list[str]:
        """What options tell."""
        if options.student == "same":
            given = [name for name in ("size", "ratio", "max_bytes") if getattr(options, name) is not None]
            if given:
                raise InvalidInput(
                    f"options.{given[0]}: a student that is the same has the version's size; leave it out"
                )
        if options.size is not None and (options.ratio is not None or options.max_bytes is not None):
            raise InvalidInput("options.size: it says how large the student is; leave ratio and max_bytes out")
        return []


class Distil(Student):
    """A student of the version, and of others."""

    summary = "Distillation: a smaller network learns what the version (and others) answer"
    Options: type[Options] = DistilOptions

    def consulted(self, options: Any) -> Sequence[str]:
        """The other teachers."""
        return [name for name in options.teachers if name != _SELF]

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
        """Learn."""
        assert data is not None
        work = import_module("modelport.compression.distilling.learn")
        trained: Trained = work.distil(run, model, data, options)
        return trained

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """Budgets."""
        return [{"ratio": ratio} for ratio in (1.5, 2, 4, 8)]

    def preview(self, model: Model, options: DistilOptions) -> DistilOptions:
        """A quarter of the epochs."""
        return options.model_copy(update={"epochs": -(-(options.epochs or epochs_of(model)) // 4)})


def epochs_of(model: Model) -> int:
    """Those that the version was trained for, as far as somebody said."""
    said = model.story.get("params", {}).get("options", {}).get("epochs")
    return int(said) if isinstance(said, int) else _EPOCHS
