"""Figures of predictions in one call, quick enough for every epoch: the same numbers that ``evaluate`` gives."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from modelport.errors import InvalidInput
from modelport.evaluation.classes import Classification
from modelport.evaluation.numbers import Forecast, Language, Regression, Similarity
from modelport.evaluation.ordered import Anomalies, Ordered
from modelport.schemas.training import Task
from modelport.tensors import Array

_LESS_IS_BETTER = ("mae", "mse", "rmse", "median_ae", "mape", "smape", "max_error", "mase", "log_loss", "brier",
                   "calibration_error", "perplexity", "token_loss")  # fmt: skip


class Judged(Protocol):
    """Rows whose truth is known, with what was predicted."""

    rows: int

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """All figures, where each row counts ``weights`` [rows] times."""
        ...


def score(task: Task, truth: Array, predicted: Array) -> dict[str, float]:
    """Figures by name. Raises InvalidInput for NaN and for no rows.

    ``classification``: ``truth`` [rows] codes of classes, ``predicted`` [rows, classes] probabilities, or [rows]: the
    positive class's probability where they are of floating point, else codes. ``ranking`` and ``anomaly``: relevance (0
    and 1) and scores. ``language``: tokens of every text, and its log-likelihood. Else numbers [rows] or [rows, steps].
    """
    judged = judged_of(task, np.asarray(truth), np.asarray(predicted))
    return judged.figures(np.ones(judged.rows))


def judged_of(task: Task, truth: Array, predicted: Array) -> Judged:
    """The rows of a task, prepared to be judged."""
    check_numbers(truth, "the truth")
    check_numbers(predicted, "the predictions")
    if len(truth) != len(predicted) or not len(truth):
        raise InvalidInput(f"{len(truth)} rows of truth and {len(predicted)} of predictions: there is nothing to judge")
    if task == "classification":
        return _classification(truth, predicted)
    if task == "ranking":
        return Ordered(truth, predicted, probabilities=True)
    if task == "anomaly":
        return Anomalies(truth, predicted)
    if task == "forecast":
        return Forecast(truth, predicted, None)
    if task == "language":
        return Language(truth, predicted)
    if task == "embedding":
        return Similarity(truth, predicted)
    return Regression(truth, predicted)


def _classification(truth: Array, predicted: Array) -> Classification:
    codes = truth.astype(np.int64)
    if predicted.ndim == 2 and predicted.shape[1] > 1:
        classes = max(predicted.shape[1], int(codes.max()) + 1)
        padded = np.pad(predicted, ((0, 0), (0, classes - predicted.shape[1])))
        return Classification(codes, np.argmax(predicted, axis=1), classes, padded)
    flat = predicted.reshape(len(truth))
    if flat.dtype.kind == "f" and codes.max() <= 1:
        return Classification(codes, (flat > 0.5).astype(np.int64), 2, np.stack([1 - flat, flat], axis=1))
    found = flat.astype(np.int64)
    return Classification(codes, found, max(int(codes.max()), int(found.max()), 1) + 1)


def check_numbers(values: Array, what: str) -> None:
    """Raise InvalidInput when a number is missing or infinite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
        raise InvalidInput(
            f"{what}: row {rows[0]} is NaN or infinite ({len(rows)} rows are); such rows cannot be judged: leave them "
            "out with `modelport data clean`"
        )


def is_better(figure: str, one: float, other: float) -> bool:
    """Whether ``one`` is the better value of this figure."""
    return one < other if less_is_better(figure) else one > other


def less_is_better(figure: str) -> bool:
    """Whether a small value of this figure is a good one."""
    return figure in _LESS_IS_BETTER or figure.startswith("pinball_")


def main_figure(task: Task, figures: dict[str, float]) -> str | None:
    """The one figure that tells most, among those there are."""
    wanted = {
        "classification": ("accuracy",), "regression": ("r2", "rmse"), "forecast": ("mae",),
        "language": ("perplexity",),
        "ranking": ("ndcg_at_10", "roc_auc"), "anomaly": ("roc_auc",), "embedding": ("spearman", "pearson"),
        "other": ("r2", "mae"),
    }[task]  # fmt: skip
    return next((name for name in wanted if name in figures), next(iter(figures), None))
