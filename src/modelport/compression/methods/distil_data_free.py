"""Method ``distil-data-free``: a smaller network that learns from made-up inputs, without any training row.

Only what manifest and options tell is looked at here; the work is in ``compression.distilling``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

from pydantic import Field

from modelport.compression.method import Model
from modelport.compression.methods.distil import Student, StudentOptions
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class DataFreeOptions(StudentOptions):
    """How inputs are made up, and how a student learns from them."""

    sets: Annotated[int, Field(ge=1, le=20)] = 2
    """Generators, each with a student of its own; kept is the student that agrees with its teacher on most of the
    inputs that all of them make up and none has learnt from."""
    rounds: Annotated[int, Field(ge=1, le=1_000_000)] = 600
    """Rounds in which generator and student learn by turns."""
    student_steps: Annotated[int, Field(ge=1, le=100)] = 3
    """Steps of the student in a round; the generator makes one."""
    rows: Annotated[int, Field(ge=100, le=1_000_000)] = 8000
    """Inputs that are made up at the end, which the student learns from in ``epochs`` passes."""
    noise: Annotated[int, Field(ge=2, le=4096)] = 64
    """Numbers of noise that an input is made of."""
    sure: Annotated[float, Field(ge=0, le=100)] = 1.0
    """What it counts for the generator that the teacher is sure of a class."""
    balanced: Annotated[float, Field(ge=0, le=100)] = 2.0
    """What it counts that all classes come."""
    statistics: Annotated[float, Field(ge=0, le=100)] = 10.0
    """What it counts that the teacher's batch norms see what they saw in training."""
    against: Annotated[float, Field(ge=0, le=100)] = 0.5
    """What it counts that the student is still wrong."""


class DistilDataFree(Student):
    """A student without data."""

    summary = "Data-free distillation: a smaller network learns from inputs that a generator makes up"
    data = False
    Options: type[Options] = DataFreeOptions

    def check(self, model: Model, data: TrainingData | None, options: Any) -> list[str]:
        """Images and numbers alone; without data the version has to have an example."""
        if model.manifest.task not in ("", "classification"):
            raise InvalidInput(f"distil-data-free is for classes, and the version is for {model.manifest.task}")
        if any(step.kind == "text" for step in model.manifest.preprocessing):
            raise InvalidInput("distil-data-free makes up images and numbers, no texts; use distil")
        if data is None and not any(step.kind == "image" for step in model.manifest.preprocessing):
            raise InvalidInput(
                "data: give a data set, whose validation rows prove the file; without one only versions that take "
                "image files can be distilled"
            )
        return super().check(model, data, options)

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
        """Learn."""
        work = import_module("modelport.compression.distilling.data_free")
        trained: Trained = work.distil(run, model, data, options)
        return trained

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """A search has data."""
        return []
