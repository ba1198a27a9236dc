"""One class against all others by a score: areas under curves, and the curves. Knows rows that count more than once.

Formulas and ties as in scikit-learn (``roc_auc_score``, ``average_precision_score``); written here because a bootstrap
asks for them thousands of times over the same order of rows.
"""

from __future__ import annotations

import numpy as np

from modelport.tensors import Array

CURVE_POINTS = 200


class Scored:
    """Rows in the order of their score, sorted once."""

    def __init__(self, positive: Array, score: Array) -> None:
        """``positive`` [rows] of bool, ``score`` [rows] of numbers, higher for the class."""
        self._order = np.argsort(-score, kind="stable")
        ordered = score[self._order]
        self._positive = positive[self._order].astype(np.float64)
        self._ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        """The last row of every run of equal scores."""
        rows = np.flatnonzero(positive[self._order])
        self._rows = self._order[rows]
        groups, self._group = np.unique(np.searchsorted(self._ends, rows), return_inverse=True)
        self._group_ends = self._ends[groups] + 1
        self._group_starts = np.append(0, self._ends + 1)[groups]
        """Where runs that have rows of the class begin and end: nothing else has to be looked at for areas."""

    def counts(self, weights: Array) -> tuple[Array, Array]:
        """True and false positives at every threshold, from the highest on."""
        ordered = weights[self._order]
        hits = ordered * self._positive
        return np.cumsum(hits)[self._ends], np.cumsum(ordered - hits)[self._ends]

    def areas(self, weights: Array) -> tuple[float, float] | None:
        """ROC-AUC and average precision; None unless there are rows of both sorts."""
        seen = np.empty(len(self._order) + 1)
        seen[0] = 0.0
        np.cumsum(weights[self._order], out=seen[1:])
        hits = np.bincount(self._group, weights[self._rows], minlength=len(self._group_ends))
        tp = np.cumsum(hits)
        positives = tp[-1] if len(tp) else 0.0
        negatives = seen[-1] - positives
        if positives <= 0 or negatives <= 1e-12 * seen[-1]:
            return None
        ends = seen[self._group_ends]
        misses = (ends - tp + seen[self._group_starts] - (tp - hits)) / 2
        roc = 1 - float(hits @ misses) / float(positives * negatives)
        ends[ends <= 0] = 1.0
        return roc, float(hits @ (tp / ends)) / float(positives)

    def roc(self, weights: Array) -> tuple[list[float], list[float]]:
        """False and true positive rates, from (0, 0) to (1, 1)."""
        tp, fp = self.counts(weights)
        x, y = np.append(0.0, fp / fp[-1]), np.append(0.0, tp / tp[-1])
        return thinned(x, y)

    def precision_recall(self, weights: Array) -> tuple[list[float], list[float]]:
        """Recall and precision, from recall 0 on."""
        tp, fp = self.counts(weights)
        seen = tp + fp
        precision = np.divide(tp, seen, out=np.ones_like(tp), where=seen > 0)
        return thinned(np.append(0.0, tp / tp[-1]), np.append(1.0, precision))


def thinned(x: Array, y: Array) -> tuple[list[float], list[float]]:
    """At most ``CURVE_POINTS`` points, first and last among them, spread over the length of the curve."""
    if len(x) > CURVE_POINTS:
        way = np.cumsum(np.append(0.0, np.abs(np.diff(x)) + np.abs(np.diff(y))))
        wanted = np.linspace(0.0, way[-1], CURVE_POINTS)
        found = np.unique(np.append(np.searchsorted(way, wanted).clip(0, len(x) - 1), [0, len(x) - 1]))
        at = found.tolist() if len(found) <= CURVE_POINTS else [*found[: CURVE_POINTS - 1].tolist(), len(x) - 1]
        x, y = x[at], y[at]
    return [round(float(value), 6) for value in x], [round(float(value), 6) for value in y]
