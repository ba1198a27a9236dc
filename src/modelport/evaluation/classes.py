"""Figures of a classification: from the confusion of classes, and from the probabilities where there are some.

The same numbers as scikit-learn's functions of these names give (golden tests say so); written here because a bootstrap
asks for all of them a thousand times. Classes are codes; names are the caller's.
"""

from __future__ import annotations

import numpy as np

from modelport.evaluation.scored import Scored
from modelport.tensors import Array

BINS = 15
_TOP = 5


class Classification:
    """Rows whose class is known, and what was predicted for them."""

    def __init__(
        self, truth: Array, predicted: Array, classes: int, probabilities: Array | None = None, positive: int = 1
    ) -> None:
        """``truth``, ``predicted`` [rows] codes below ``classes``; ``probabilities`` [rows, classes].

        ``positive`` is the class that a question of yes or no asks for.
        """
        self.truth, self.predicted, self.classes, self.positive = truth, predicted, classes, positive
        self.rows = len(truth)
        self.probabilities = probabilities
        self._pairs = truth.astype(np.int64) * classes + predicted
        if probabilities is not None:
            self._prepare(probabilities)

    def _prepare(self, given: Array) -> None:
        """What does not depend on weights."""
        eps = float(np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps)
        plain = given.astype(np.float64)
        own = plain[np.arange(self.rows), self.truth]
        self._loss = -np.log(np.clip(own, eps, 1 - eps))
        squares = np.sum(plain * plain, axis=1) - own * own + (1 - own) ** 2
        self._brier = squares / 2 if self.classes == 2 else squares
        wanted = [self.positive] if self.classes == 2 else list(range(self.classes))
        self.scored = {code: Scored(self.truth == code, plain[:, code]) for code in wanted}
        if self.classes > 2:
            k = min(_TOP, self.classes - 1)
            best = np.argsort(plain, axis=1, kind="mergesort")[:, ::-1][:, :k]
            self._top = (k, np.any(best == self.truth[:, None], axis=1).astype(np.float64))
        if self.classes == 2:
            self._sure, self._right = plain[:, self.positive], (self.truth == self.positive).astype(np.float64)
        else:
            self._sure = plain[np.arange(self.rows), self.predicted]
            self._right = (self.truth == self.predicted).astype(np.float64)
        self._bin = np.minimum((self._sure * BINS).astype(np.int64), BINS - 1).clip(0)

    def confusion(self, weights: Array) -> Array:
        """[classes of truth, classes of prediction] sums of weights."""
        counts = np.bincount(self._pairs, weights, minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes)

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """All of them; those of ranks (areas under curves) only when told so, as they take the longest."""
        confusion = self.confusion(weights)
        found = of_confusion(confusion, self.positive if self.classes == 2 else None)
        if self.probabilities is None:
            return found
        total = weights.sum()
        if ranks:
            found |= self._ranks(confusion.sum(axis=1), weights)
        found["log_loss"] = float(self._loss @ weights / total)
        found["brier"] = float(self._brier @ weights / total)
        sums, sure, right = self._binned(weights)
        gaps = np.abs(np.divide(sure - right, sums, out=np.zeros_like(sums), where=sums > 0))
        found["calibration_error"] = float(gaps @ sums / total)
        if self.classes > 2:
            k, hits = self._top
            found[f"top_{k}_accuracy"] = float(hits @ weights / total)
        return found

    def _ranks(self, support: Array, weights: Array) -> dict[str, float]:
        areas = {code: found for code, one in self.scored.items() if (found := one.areas(weights)) is not None}
        if not areas:
            return {}
        pairs = np.array(list(areas.values()))
        if self.classes == 2:
            return {"roc_auc": float(pairs[0, 0]), "pr_auc": float(pairs[0, 1])}
        shares = support[list(areas)]
        roc, pr = pairs.mean(axis=0), shares @ pairs / shares.sum()
        return {
            "roc_auc_macro": float(roc[0]), "roc_auc_weighted": float(pr[0]), "pr_auc_macro": float(roc[1]),
            "pr_auc_weighted": float(pr[1]),
        }  # fmt: skip

    def _binned(self, weights: Array) -> tuple[Array, Array, Array]:
        """By bin: weights, and with them the sums of probabilities and of what came true."""
        return (
            np.bincount(self._bin, weights, minlength=BINS),
            np.bincount(self._bin, weights * self._sure, minlength=BINS),
            np.bincount(self._bin, weights * self._right, minlength=BINS),
        )

    def calibration(self, weights: Array) -> list[tuple[float, float, float]]:
        """Of every bin that has rows: mean probability, share that came true, weight.

        With two classes of the positive one, else of the class that was predicted.
        """
        sums, sure, right = (values.tolist() for values in self._binned(weights))
        return [(s / n, r / n, n) for n, s, r in zip(sums, sure, right, strict=True) if n > 0]


def of_confusion(confusion: Array, positive: int | None) -> dict[str, float]:
    """Figures that the counts of classes tell; with a ``positive`` class its own, too."""
    total, hits = confusion.sum(), np.diag(confusion)
    truth, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall, f1 = per_class(confusion)
    there, seen = truth > 0, (truth > 0) | (predicted > 0)
    found = {"accuracy": float(hits.sum() / total), "balanced_accuracy": float(recall[there].mean())}
    named = {"precision": precision, "recall": recall, "f1": f1}
    if positive is not None:
        found |= {name: float(values[positive]) for name, values in named.items()}
    found |= {f"{name}_macro": float(values[seen].mean()) for name, values in named.items()}
    found |= {f"{name}_weighted": float(values @ truth / total) for name, values in named.items()}
    agreed = hits.sum() * total - truth @ predicted
    spread = (total**2 - predicted @ predicted) * (total**2 - truth @ truth)
    found["mcc"] = float(agreed / np.sqrt(spread)) if spread > 0 else 0.0
    return found


def per_class(confusion: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 [classes]; 0 where there is nothing to divide by."""
    hits, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, truth, out=np.zeros_like(hits), where=truth > 0)
    both = truth + predicted
    return precision, recall, np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
