"""Probabilities corrected by isotonic regression, each class by itself, on answers to rows that were not learnt from.

scikit-learn's CalibratedClassifierCV does the same; its ONNX converter takes the nearest knot instead of the line
between two, so this one is written with its nodes. Knots that lie closer than a thousandth are one: the curve between
them would be a cliff, off which float32 falls.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.graph import Graph

_CLOSE = 1e-3
_FOLDS = 5


class IsotonicCalibrated:
    """An estimator behind one curve for each class."""

    def __init__(self, estimator: Any, seed: int) -> None:
        self.estimator, self.seed = estimator, seed
        self.curves: list[tuple[Array, Array]] = []

    def get_params(self) -> dict[str, Any]:
        """Of the estimator."""
        found: dict[str, Any] = self.estimator.get_params()
        return found

    def fit(self, features: Array, target: Array, sample_weight: Array | None = None) -> Self:
        """Learn the curves on folds, then the estimator on all rows."""
        if np.bincount(target).min() < _FOLDS:
            raise InvalidInput(f"options.calibrate: isotonic needs {_FOLDS} rows of each class; take sigmoid or none")
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=self.seed)
        said = cross_val_predict(
            clone(self.estimator), features, target, cv=folds, method="predict_proba", params=weights
        )
        self.estimator.fit(features, target, **weights)
        self.curves = []
        for code in range(said.shape[1]) if said.shape[1] > 2 else [1]:
            curve = IsotonicRegression(y_min=0, y_max=1).fit(said[:, code], target == code, **weights)
            self.curves.append(_without_cliffs(curve.X_thresholds_, curve.y_thresholds_))
        return self

    def predict_proba(self, features: Array) -> Array:
        """[rows, classes]."""
        said = self.estimator.predict_proba(features)
        if len(self.curves) == 1:
            chance = np.interp(said[:, 1], *self.curves[0])
            return np.stack([1 - chance, chance], axis=1)
        found = np.stack([np.interp(said[:, code], *curve) for code, curve in enumerate(self.curves)], axis=1)
        found = np.maximum(found, 1e-9)
        scaled: Array = found / found.sum(axis=1, keepdims=True)
        return scaled

    def nodes(self, graph: Graph, said: str) -> str:
        """The same as ONNX, behind the estimator's probabilities."""
        if len(self.curves) == 1:
            chance = _line(graph, graph.columns(said, 1, 2), *self.curves[0])
            return str(graph.add("Concat", graph.add("Sub", graph.constant(np.float32(1)), chance), chance, axis=1))
        parts = [_line(graph, graph.columns(said, code, code + 1), *curve) for code, curve in enumerate(self.curves)]
        found = graph.add("Max", graph.add("Concat", *parts, axis=1), graph.constant(np.float32(1e-9)))
        total = graph.add("ReduceSum", found, graph.constant([1], np.int64), keepdims=1)
        return str(graph.add("Div", found, total))


def _line(graph: Graph, said: str, knots: Array, heights: Array) -> str:
    """Straight lines between knots, flat beyond the last: the sum of what each stretch rises."""
    widths = np.maximum(np.diff(knots), 1e-12)
    along = graph.add("Sub", said, graph.constant([knots[:-1]], np.float32))
    along = graph.add("Div", along, graph.constant([widths], np.float32))
    zero, one = graph.constant(np.float32(0)), graph.constant(np.float32(1))
    along = graph.add("Min", graph.add("Max", along, zero), one)
    risen = graph.add("MatMul", along, graph.constant(np.diff(heights)[:, None], np.float32))
    return str(graph.add("Add", risen, graph.constant(np.float32(heights[0]))))


def _without_cliffs(knots: Array, heights: Array) -> tuple[Array, Array]:
    """Knots that are close to the one before join it, with the mean of their heights."""
    group, last, number = np.zeros(len(knots), np.int64), knots[0], 0
    for at, knot in enumerate(knots):
        if knot - last > _CLOSE:
            last, number = knot, number + 1
        group[at] = number
    counts = np.bincount(group)
    joined, means = np.bincount(group, knots) / counts, np.bincount(group, heights) / counts
    if len(joined) == 1:  # a curve needs two ends
        return np.array([joined[0], joined[0] + 1]), np.array([means[0], means[0]])
    return joined, means
