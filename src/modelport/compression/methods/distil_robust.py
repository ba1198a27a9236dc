"""Method ``distil-robust``: a smaller network that keeps its answer when somebody changes an image a little on purpose.

Only what manifest and options tell is looked at here; the work is in ``compression.distilling``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.compression.method import Model
from modelport.compression.methods.distil import Student, StudentOptions
from modelport.errors import InvalidInput
from modelport.training.recipe import Options, Trained, TrainingData, TrainingRun


class RobustOptions(StudentOptions):
    """How a student learns from examples that are made against it."""

    eps: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """How far each value may be changed: a share of the range that it has in the training rows (of an image from black
    to white; 8/255 is 0.031)."""
    steps: Annotated[int, Field(ge=1, le=100)] = 7
    """Steps in which an example is made while the student learns."""
    against: Literal["teacher", "truth"] = "teacher"
    """What an example leads away from: the ``teacher``'s answer (RSLAD), or the ``truth`` (ARD)."""
    clean: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """What the unchanged rows count, beside the changed ones."""
    attack_steps: Annotated[int, Field(ge=1, le=1000)] = 20
    """Steps of the attack that the report tells of."""
    beside: bool = True
    """Also teach the same student plainly, with the same seed, to tell what robustness costs and brings."""


class DistilRobust(Student):
    """A student that is hard to fool."""

    summary = "Adversarial distillation: a smaller network that small changes made against it do not fool"
    Options: type[Options] = RobustOptions

    def check(self, model: Model, data: TrainingData | None, options: Any) -> list[str]:
        """Classes of images or numbers alone."""
        if model.manifest.task not in ("", "classification"):
            raise InvalidInput(f"distil-robust is for classes, and the version is for {model.manifest.task}")
        if any(step.kind == "text" for step in model.manifest.preprocessing):
            raise InvalidInput("distil-robust changes images and numbers a little, which texts cannot be; use distil")
        return super().check(model, data, options)

    def compress(self, run: TrainingRun, model: Model, data: TrainingData | None, options: Any) -> Trained:
        """Learn."""
        assert data is not None
        work = import_module("modelport.compression.distilling.robust")
        trained: Trained = work.distil(run, model, data, options)
        return trained

    def strengths(self, model: Model) -> Sequence[Mapping[str, Any]]:
        """A search for size and speed has no use for it."""
        return []
