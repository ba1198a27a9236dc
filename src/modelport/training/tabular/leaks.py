"""Columns that tell the target all by themselves: probably made from it, or known only after it.

A column is suspected when a small tree that sees it alone predicts rows that it was not fitted on almost perfectly.
"""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modelport.tensors import Array

#: Rows that are looked at: fewer where there are many columns.
_MOST_ROWS, _MOST_VALUES, _FEWEST_OF_MANY = 5000, 500_000, 500
_SURE = 0.99
_FOLDS = 3
_FEWEST = 30


def leaking(features: Array, names: list[tuple[str, str]], target: Array, task: str, seed: int) -> dict[str, float]:
    """How much of the target each suspected column explains: balanced accuracy, or R²."""
    rows = np.arange(len(target))
    most = max(_FEWEST_OF_MANY, min(_MOST_ROWS, _MOST_VALUES // max(len(names), 1)))
    if len(rows) > most:
        rows = np.random.default_rng(seed).choice(rows, most, replace=False)
    features, target = np.nan_to_num(features[rows]), target[rows]
    if task == "classification":
        _, target, counts = np.unique(target, return_inverse=True, return_counts=True)
        if len(counts) < 2 or counts.min() < _FOLDS:
            return {}
    if len(target) < _FEWEST:
        return {}
    by_column: dict[str, list[int]] = {}
    for at, (column, _) in enumerate(names):
        by_column.setdefault(column, []).append(at)
    found = {}
    for column, places in by_column.items():
        share = _explained(features[:, places], target, task, seed)
        if share >= _SURE:
            found[column] = share
    return found


def _explained(features: Array, target: Array, task: str, seed: int) -> float:
    if task == "classification":
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
        tree = DecisionTreeClassifier(max_depth=8, min_samples_leaf=2, random_state=seed)
        guess = cross_val_predict(tree, features, target, cv=folds)
        return float(np.mean([(guess[target == code] == code).mean() for code in np.unique(target)]))
    guess = cross_val_predict(
        DecisionTreeRegressor(min_samples_leaf=2, random_state=seed),
        features, target, cv=KFold(_FOLDS, shuffle=True, random_state=seed),
    )  # fmt: skip
    spread = float(((target - target.mean()) ** 2).sum())
    return 1 - float(((target - guess) ** 2).sum()) / spread if spread else 0.0


def told(found: dict[str, float], task: str) -> list[str]:
    """As warnings."""
    figure = "balanced accuracy" if task == "classification" else "R²"
    return [
        f"column {column!r} alone predicts the target almost perfectly ({figure} {share:.3f} on rows not seen): is it "
        "made from it, or known only after it? exclude leaves it out"
        for column, share in found.items()
    ]
