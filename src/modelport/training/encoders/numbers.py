"""Columns of numbers to scaled float32, all at once. A missing number becomes the median, and a column tells so.

NaN and infinities count as missing. ``keep_missing`` leaves them NaN, for estimators that learn from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import Rows

_FAR = 1e9


@dataclass(frozen=True, slots=True)
class Numbers:
    """``(x - mean) / scale``, cut at a thousand million."""

    columns: list[str]
    medians: list[float]
    means: list[float]
    scales: list[float]
    flagged: list[int]
    """Places of the columns that lacked values: each gets a column of 0 and 1 behind the numbers."""
    keep_missing: bool

    @classmethod
    def fit(cls, rows: Rows, columns: list[str], keep_missing: bool) -> Self:
        """Learn the medians, means and deviations of what is there."""
        values = _matrix(rows, columns)
        known = [column[~np.isnan(column)] for column in values.T]
        medians = [float(np.median(column)) if len(column) else 0.0 for column in known]
        filled = values if keep_missing else np.where(np.isnan(values), medians, values)
        means = [float(c[~np.isnan(c)].mean()) if (~np.isnan(c)).any() else 0.0 for c in filled.T]
        scales = [float(c[~np.isnan(c)].std()) or 1.0 if (~np.isnan(c)).any() else 1.0 for c in filled.T]
        flagged = [] if keep_missing else [at for at, c in enumerate(values.T) if np.isnan(c).any()]
        return cls(columns, medians, means, scales, flagged, keep_missing)

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and what of it, by place in the matrix."""
        return [(name, "") for name in self.columns] + [(self.columns[at], "missing") for at in self.flagged]

    def transform(self, rows: Rows) -> Array:
        """[rows, width] float32."""
        values = _matrix(rows, self.columns)
        missing = np.isnan(values)
        filled = values if self.keep_missing else np.where(missing, self.medians, values)
        scaled = np.clip((filled - self.means) / self.scales, -_FAR, _FAR).astype(np.float32)
        return np.concatenate([scaled, missing[:, self.flagged].astype(np.float32)], axis=1)

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX, from the inputs that bear the columns' names."""
        parts = [graph.input(name, "FP64") for name in self.columns]
        values = graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        missing = graph.add("Or", graph.add("IsNaN", values), graph.add("IsInf", values))
        instead = np.full((1, len(parts)), np.nan) if self.keep_missing else np.array([self.medians])
        filled = graph.add("Where", missing, graph.constant(instead), values)
        scaled = graph.add("Sub", filled, graph.constant([self.means], np.float64))
        scaled = graph.add("Div", scaled, graph.constant([self.scales], np.float64))
        # Min and Max give NaN for NaN, as numpy's do; Clip need not
        scaled = graph.add("Min", graph.add("Max", scaled, graph.constant(-_FAR)), graph.constant(_FAR))
        found = graph.cast(scaled, "FP32")
        if not self.flagged:
            return found
        flags = graph.add("Gather", graph.cast(missing, "FP32"), graph.constant(self.flagged, np.int64), axis=1)
        return str(graph.add("Concat", found, flags, axis=1))


def _matrix(rows: Rows, columns: list[str]) -> Array:
    values = np.stack([rows[name] for name in columns], axis=1).astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


@dataclass(frozen=True, slots=True)
class Flags:
    """Columns of true and false, none of which lacks a value."""

    columns: list[str]

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and what of it."""
        return [(name, "") for name in self.columns]

    def transform(self, rows: Rows) -> Array:
        """[rows, width] float32."""
        return np.stack([rows[name] for name in self.columns], axis=1).astype(np.float32)

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        parts = [graph.input(name, "BOOL") for name in self.columns]
        return graph.cast(graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0], "FP32")
