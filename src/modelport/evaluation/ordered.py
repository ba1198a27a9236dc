"""Figures of an order: rare positives by their score, lists of every asker by their relevance, anomalies.

NDCG as scikit-learn's ``ndcg_score`` (linear gain, discount log2), without averaging over ties: rows of equal score
stand in the order in which they came.
"""

from __future__ import annotations

import numpy as np

from modelport.evaluation.scored import Scored
from modelport.tensors import Array

CUTS = (5, 10)


class Ordered:
    """Rows with a relevance (0 for none) and a score; ``groups`` [rows] are codes of the lists that they belong to."""

    def __init__(self, truth: Array, score: Array, groups: Array | None = None, probabilities: bool = False) -> None:
        self.rows = len(truth)
        self.truth, self.score = truth.astype(np.float64), score.astype(np.float64)
        self.is_binary = bool(np.all((self.truth == 0) | (self.truth == 1)))
        self.scored = Scored(self.truth > 0, self.score) if self.is_binary else None
        self.has_groups = groups is not None
        self._lists = [] if groups is None and self.is_binary else _lists(groups, self.rows)
        self._gains = _gains(self._lists, self.truth, self.score) if self._lists else {}
        self._sizes = np.array([rows[0] for rows in self._lists], np.int64)
        self._losses: dict[str, Array] = {}
        if probabilities and self.is_binary and self.rows and self.score.min() >= 0 and self.score.max() <= 1:
            eps = float(np.finfo(score.dtype if score.dtype.kind == "f" else np.float64).eps)
            sure = np.clip(self.score, eps, 1 - eps)
            self._losses["log_loss"] = -np.where(self.truth > 0, np.log(sure), np.log1p(-sure))
            self._losses["brier"] = (self.score - self.truth) ** 2

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """Of rows: areas under curves, log loss; of lists: NDCG, MRR. A list weighs what its first row weighs."""
        found: dict[str, float] = {}
        areas = self.scored.areas(weights) if self.scored is not None else None
        if areas is not None:
            found |= {"roc_auc": areas[0], "pr_auc": areas[1]}
        for name, losses in self._losses.items():
            found[name] = float(losses @ weights / weights.sum())
        if self._gains:
            lists = weights[self._sizes]
            for name, values in self._gains.items():
                known = ~np.isnan(values) & (lists > 0)
                if known.any():
                    found[name] = float(values[known] @ lists[known] / lists[known].sum())
        return found


class Anomalies(Ordered):
    """Rows that are ordinary (0) or not (1), and how odd they were found."""

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """With the precision among as many of the oddest rows as there are anomalies."""
        found = super().figures(weights, ranks)
        if self.scored is not None and "roc_auc" in found:
            hits, misses = self.scored.counts(weights)
            wanted = hits[-1]
            at = int(np.searchsorted(hits + misses, wanted))
            before = hits[at - 1] if at else 0.0
            seen = before + (misses[at - 1] if at else 0.0)
            tied = hits[at] + misses[at] - seen
            share = (wanted - seen) / tied if tied > 0 else 0.0  # of rows with the same score, the mean over orders
            found["precision_at_anomalies"] = float((before + share * (hits[at] - before)) / wanted)
        return found


def _lists(groups: Array | None, rows: int) -> list[Array]:
    """The rows of every list, in their order."""
    if groups is None:
        return [np.arange(rows)]
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order][0] - 1 if rows else 0))
    return list(np.split(order, starts[1:])) if rows else []


def _gains(lists: list[Array], truth: Array, score: Array) -> dict[str, Array]:
    """By figure, of every list; NaN where nothing in it is relevant."""
    found = {f"ndcg_at_{k}": np.full(len(lists), np.nan) for k in CUTS} | {"mrr": np.full(len(lists), np.nan)}
    for number, rows in enumerate(lists):
        gains = truth[rows]
        if not (gains > 0).any():
            continue
        ranked = gains[np.argsort(-score[rows], kind="stable")]
        ideal = np.sort(gains)[::-1]
        discount = 1 / np.log2(np.arange(len(rows)) + 2)
        for k in CUTS:
            found[f"ndcg_at_{k}"][number] = ranked[:k] @ discount[:k] / (ideal[:k] @ discount[:k])
        found["mrr"][number] = 1 / (int(np.argmax(ranked > 0)) + 1)
    return found
