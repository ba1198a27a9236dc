"""What the columns of a table are like: counts, moments, quantiles, histograms, frequent values, class balance.

Reads the parts in pieces: once for counts and moments, once for histograms; Daft's sketches estimate quantiles, and
the number of distinct values where there are too many to count. A float's NaN counts as missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.data import engine
from modelport.data.writing import read_parts, rows_in, schema_of
from modelport.errors import NotFound
from modelport.schemas.datasets import Column, Facts, Histogram, ValueCount
from modelport.tensors import Array

BINS = 20
_TOP = 10
#: Distinct values that are counted one by one; beyond them they are estimated.
_COUNTED = 1000
_LONGEST_TEXT = 200
_MOST_CLASSES = 1000
#: Rows up to which quantiles are exact.
EXACT_ROWS = 1_000_000


@dataclass(slots=True)
class _Seen:
    """What a column has shown so far."""

    name: str
    kind: Any
    nulls: int = 0
    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""
    low: Any = None
    high: Any = None
    values: Counter[Any] | None = field(default_factory=Counter)
    counts: Array | None = None
    edges: Array | None = None

    @property
    def is_number(self) -> bool:
        return bool(pa.types.is_integer(self.kind)) or bool(
            pa.types.is_floating(self.kind) or pa.types.is_decimal(self.kind)
        )

    @property
    def is_ordered(self) -> bool:
        return self.is_number or pa.types.is_temporal(self.kind) or pa.types.is_string(self.kind)

    @property
    def is_counted(self) -> bool:
        return self.is_ordered or pa.types.is_boolean(self.kind)

    def add(self, column: Any) -> None:
        if pa.types.is_floating(self.kind):
            column = pc.if_else(pc.is_nan(column), None, column)
        self.nulls += column.null_count
        found = pc.drop_null(column)
        if not len(found):
            return
        if self.is_ordered:
            low, high = pc.min_max(found).as_py().values()
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)
        if self.is_number:
            self._add_moments(_numbers(found))
        else:
            self.count += len(found)
        if self.is_counted and self.values is not None:
            for item in pc.value_counts(found):
                self.values[item["values"].as_py()] += item["counts"].as_py()
                if len(self.values) > _COUNTED:
                    self.values = None
                    break
        elif not self.is_counted:
            self.values = None

    def _add_moments(self, values: Array) -> None:
        """Chan's way to join the moments of two sets; infinite values take no part."""
        finite = values[np.isfinite(values)]
        self.count += len(values)
        if not len(finite):
            return
        other, squares, count = float(finite.mean()), float(finite.var() * len(finite)), self._finite
        distance, whole = other - self.mean, count + len(finite)
        self.mean += distance * len(finite) / whole
        self.squares += squares + distance**2 * count * len(finite) / whole
        self._finite_count = whole

    _finite_count: int = 0

    @property
    def _finite(self) -> int:
        return self._finite_count

    def add_to_histogram(self, column: Any) -> None:
        values = _numbers(pc.drop_null(column))
        if self.edges is None:
            low, high = float(self.low), float(self.high)
            if not (math.isfinite(low) and math.isfinite(high)):
                finite = values[np.isfinite(values)]
                low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
            self.edges = _edges(low, high)
            self.counts = np.zeros(len(self.edges) - 1, np.int64)
        assert self.counts is not None
        self.counts += np.histogram(values[np.isfinite(values)], self.edges)[0]

    def shown(self, sketches: dict[str, Any]) -> Column:
        distinct = len(self.values) if self.values is not None else sketches.get(f"distinct:{self.name}")
        quantiles = sketches.get(f"quantiles:{self.name}") or []
        top = sorted(self.values.items(), key=lambda pair: (-pair[1], str(pair[0])))[:_TOP] if self.values else []
        is_number, moments = self.is_number, self._finite > 0
        histogram = None
        if self.edges is not None and self.counts is not None:
            histogram = Histogram(edges=[float(edge) for edge in self.edges], counts=[int(n) for n in self.counts])
        return Column(
            name=self.name,
            type=str(self.kind),
            nulls=self.nulls,
            distinct=None if distinct is None else int(distinct),
            distinct_exact=self.values is not None,
            min=_json(self.low),
            max=_json(self.high),
            mean=self.mean if is_number and moments else None,
            std=math.sqrt(max(self.squares, 0) / self._finite) if is_number and moments else None,
            quantiles={str(q): float(v) for q, v in zip(engine.QUANTILES, quantiles, strict=False) if v is not None},
            histogram=histogram,
            top=[ValueCount(value=_text(value), count=count) for value, count in top if count > 1 or len(top) < _TOP],
        )


def _edges(low: float, high: float) -> Any:
    """Of BINS bins; of one where floats do not tell so many apart, as between whole numbers of 18 digits."""
    try:
        return np.histogram_bin_edges(np.array([low, high]), BINS)
    except ValueError:
        return np.array([np.nextafter(low, -np.inf), np.nextafter(high, np.inf)])


def describe(parts: Sequence[Path], label: str | None = None) -> Facts:
    """Rows, columns with their statistics, and the class balance of ``label`` (a column of that name by default)."""
    schema = schema_of(parts)
    seen = [_Seen(column.name, column.type) for column in schema]
    label = label or ("label" if "label" in schema.names else None)
    if label is not None and label not in schema.names:
        raise NotFound(f"label: there is no column {label[:100]!r}; there are {', '.join(schema.names)[:500]}")
    classes: Counter[str] = Counter()
    for batch in read_parts(parts):
        for one, column in zip(seen, batch.columns, strict=True):
            one.add(column)
        if label is not None:
            for item in pc.value_counts(batch.column(label)):
                classes[_text(item["values"].as_py())] += item["counts"].as_py()
    numbers = [one.name for one in seen if one.is_number and one.count]
    _histograms(parts, seen, numbers)
    many = [one.name for one in seen if one.is_counted and one.values is None]
    rows = sum(rows_in(part) for part in parts)
    sketches = engine.sketch(parts, many, numbers if rows > EXACT_ROWS else [])
    if rows <= EXACT_ROWS:
        sketches |= {f"quantiles:{name}": quantiles(parts, name, engine.QUANTILES) for name in numbers}
    return Facts(
        rows=rows,
        columns=[one.shown(sketches) for one in seen],
        label=label,
        class_balance=dict(sorted(classes.items())) if len(classes) <= _MOST_CLASSES else {},
    )


def quantiles(parts: Sequence[Path], name: str, wanted: Sequence[float]) -> list[float]:
    """Quantiles of a column's finite values: exact for up to a million rows, beyond them from a sketch."""
    if sum(rows_in(part) for part in parts) > EXACT_ROWS:
        found = engine.sketch(parts, [], [name], wanted)[f"quantiles:{name}"]
        return [float(value) for value in found]
    pieces = [_numbers(pc.drop_null(batch.column(name))) for batch in read_parts(parts, [name])]
    values = np.concatenate(pieces) if pieces else np.empty(0)
    values = values[np.isfinite(values)]
    return [float(value) for value in np.quantile(values, wanted)] if len(values) else []


def _histograms(parts: Sequence[Path], seen: Sequence[_Seen], numbers: Sequence[str]) -> None:
    if not numbers:
        return
    for batch in read_parts(parts, numbers):
        for one in seen:
            if one.name in numbers:
                one.add_to_histogram(batch.column(one.name))


def _numbers(column: Any) -> Array:
    if pa.types.is_decimal(column.type):
        column = pc.cast(column, pa.float64())
    values: Array = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return values


def _json(value: Any) -> float | int | str | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "(missing)"
    return str(value)[:_LONGEST_TEXT]
