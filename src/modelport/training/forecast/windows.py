"""Series cut into windows: the last values, and those that follow. No window reaches over a gap in time.

What is learnt from ends before a moment, what it is judged by begins at it, whatever way the rows came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.table import joined, read_rows
from modelport.training.recipe import TrainingData
from modelport.training.recipes.forecast import time_column, window_of

#: A step longer than this times the usual one is a gap: months differ by a tenth.
_GAP = 1.5


@dataclass(slots=True)
class Windows:
    """Windows and what follows them."""

    past: Array
    """[windows, columns, window] float64: the target first, then the covariates."""
    future: Array
    """[windows, horizon] float64."""


@dataclass(slots=True)
class Series:
    """All of a dataset's series, in two times."""

    before: Windows
    after: Windows
    columns: list[str]
    notes: list[str] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)


def read(data: TrainingData, options: Any) -> Series:
    """Order, cut and divide; raises InvalidInput for what cannot be a series."""
    time = time_column(data, options.time)
    columns = [str(data.target), *options.covariates]
    wanted = [time, *columns, *([options.group] if options.group else [])]
    train, held = read_rows([*data.train, *data.replay], wanted), read_rows(data.validation, wanted)
    if not len(train[time]) or not len(held[time]):
        raise InvalidInput("the training or the validation part has no row; give both")
    notes: list[str] = []
    cut = _cut(_moments(train[time]), _moments(held[time]), notes)
    rows = joined(train, held)
    moments = _moments(rows.pop(time))
    values = np.stack([rows[name].astype(np.float64) for name in columns], axis=1)
    groups = rows[options.group].astype(str) if options.group else np.full(len(moments), "")
    known = ~np.isnan(moments)
    before, after = _Pile(), _Pile()
    reach, left_out = (window_of(options), options.horizon), 0
    for name in np.unique(groups):
        own = np.flatnonzero((groups == name) & known)
        own = own[np.argsort(moments[own], kind="stable")]
        left_out += _windows(moments[own], values[own], reach, cut, before, after, str(name))
    if left_out:
        notes.append(f"{left_out} windows were left out: a value is missing in them, or rows are")
    for pile, which in ((before, "learn from"), (after, "judge by")):
        if len(pile.past) < 2:
            raise InvalidInput(
                f"there are {len(pile.past)} windows to {which}; a window of {reach[0]} and a horizon of {reach[1]} "
                "need longer series, or shorten them"
            )
    report = {
        "series": len(np.unique(groups)), "windows": len(before.past), "validation_windows": len(after.past),
        "window": reach[0], "horizon": reach[1], "columns": columns,
    }  # fmt: skip
    return Series(before.whole(), after.whole(), columns, notes, report)


class _Pile:
    def __init__(self) -> None:
        self.past: list[Array] = []
        self.future: list[Array] = []

    def whole(self) -> Windows:
        return Windows(np.stack(self.past), np.stack(self.future))


def _moments(values: Array) -> Array:
    """As numbers that rise with time; NaN where it is missing."""
    if values.dtype.kind == "f":
        return values
    texts = [text or "NaT" for text in values.tolist()]
    moments = np.array(texts, "datetime64[s]")
    return np.where(np.isnat(moments), np.nan, moments.astype(np.int64).astype(np.float64))


def _cut(train: Array, held: Array, notes: list[str]) -> float:
    """The moment that divides: where validation begins, or where as large a share of the rows is left."""
    train, held = train[~np.isnan(train)], held[~np.isnan(held)]
    if not len(train) or not len(held):
        raise InvalidInput("options.time: no row of the training or the validation part has a time")
    if train.max() < held.min():
        return float(held.min())
    every = np.sort(np.concatenate([train, held]))
    notes.append(
        "the validation rows do not follow the training rows in time: the last ones of both together are judged by "
        "instead (split by time to choose which)"
    )
    return float(every[len(train)])


def _windows(
    moments: Array, values: Array, reach: tuple[int, int], cut: float, before: _Pile, after: _Pile, name: str
) -> int:
    """Add one series' windows; how many were left out."""
    steps = np.diff(moments)
    if len(steps) and steps.min() == 0:
        where = f" of series {name!r}" if name else ""
        raise InvalidInput(f"options.time: two rows{where} have the same time; say with options.group what differs")
    usual = float(np.median(steps)) if len(steps) else 0.0
    gaps = np.concatenate([[0], np.cumsum(steps > usual * _GAP)]) if len(steps) else np.zeros(len(moments))
    left_out = 0
    for past, future in _places(len(moments), reach):
        whole = gaps[past.start] == gaps[future.stop - 1]
        last, target = values[past], values[future, 0]
        if not whole or not np.isfinite(last).all() or not np.isfinite(target).all():
            left_out += 1
        elif moments[future.stop - 1] < cut:
            before.past.append(last.T)
            before.future.append(target)
        elif moments[future.start] >= cut:
            after.past.append(last.T)
            after.future.append(target)
    return left_out


def _places(rows: int, reach: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    window, horizon = reach
    for start in range(rows - window - horizon + 1):
        yield slice(start, start + window), slice(start + window, start + window + horizon)
