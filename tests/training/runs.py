"""A training run as a job gives it to a recipe, and what it told."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from modelport.training.recipe import Start, TrainingRun


@dataclass
class Told:
    """What a run said while it went."""

    progress: list[tuple[float, float | None, str, str]] = field(default_factory=list)
    metrics: list[tuple[str, float, int | None]] = field(default_factory=list)


def figures(task: str, truth: Any, predicted: Any) -> dict[str, float]:
    """Accuracy and log loss by scikit-learn, or the root of the mean squared error."""
    if predicted.ndim == 1:
        return {"rmse": float(np.sqrt(np.mean((truth - predicted) ** 2)))}
    from sklearn.metrics import accuracy_score, log_loss

    labels = list(range(predicted.shape[1]))
    return {
        "accuracy": float(accuracy_score(truth, predicted.argmax(1))),
        "log_loss": float(log_loss(truth, predicted, labels=labels)),
    }


def new_run(
    folder: Path, *, seed: int = 0, threads: int = 1, code: Path | None = None, start: Start | None = None,
    attempt: int = 1,
) -> tuple[TrainingRun, Told]:  # fmt: skip
    """A run in ``folder``, which may be one that was begun before."""
    told = Told()
    work, out = folder / "work", folder / "out"
    work.mkdir(parents=True, exist_ok=True)
    out.mkdir(exist_ok=True)
    run = TrainingRun(
        folder=work, out=out, code=code, seed=seed, threads=threads, attempt=attempt, score=figures,
        environment=lambda requirements: (sys.executable, {}),
        progress=lambda *told_now: told.progress.append(told_now),
        metric=lambda *told_now: told.metrics.append(told_now), start=start,
    )  # fmt: skip
    return run, told
