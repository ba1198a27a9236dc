"""Rows cut by a column: each value for itself, numbers in ranges with as many rows each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.evaluation.score import Judged
from modelport.schemas.evaluation import Slice
from modelport.tensors import Array

_RANGES = 4
_MOST_VALUES = 50
_SMALL = 30
_MOST_WORK = 200_000_000
_MISSING = "(missing)"


def slices(judged: Judged, weights: Array, name: str, column: Any, work: int, warnings: list[str]) -> list[Slice]:
    """Figures of the rows of every slice of a column, the largest first; ranges in their order."""
    codes, names = _cut(name, column, warnings)
    ranks = work * len(names) <= _MOST_WORK
    if not ranks:
        warnings.append(f"slices of {name[:100]!r} have no areas under curves: there are too many rows")
    found = []
    for code, value in enumerate(names):
        inside = codes == code
        mine = weights * inside
        if mine.sum() > 0:
            rows = int(inside.sum())
            found.append(
                Slice(column=name, value=value, rows=rows, figures=judged.figures(mine, ranks), small=rows < _SMALL)
            )
    if small := [one.value for one in found if one.small]:
        warnings.append(
            f"{len(small)} slices of {name[:100]!r} have less than {_SMALL} rows: their figures tell little"
        )
    return found


def _cut(name: str, column: Any, warnings: list[str]) -> tuple[Array, list[str]]:
    """A slice's code for each row, and the slices' names."""
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if is_number and len(pc.unique(column)) > 2 * _RANGES:
        return _ranges(column)
    if not is_number and not (pa.types.is_string(column.type) or pa.types.is_boolean(column.type)):
        column = (
            pc.cast(column, pa.string())
            if not pa.types.is_nested(column.type)
            else pa.array(map(str, column.to_pylist()))
        )
    encoded = column.dictionary_encode()
    values = [str(value)[:200] for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
    values = [*values, _MISSING]
    counts = np.bincount(codes, minlength=len(values))
    order = np.argsort(-counts, kind="stable")
    kept = [int(code) for code in order[:_MOST_VALUES] if counts[code]]
    others = int(np.count_nonzero(counts)) - len(kept)
    place = np.full(len(values), len(kept))
    place[kept] = np.arange(len(kept))
    names = [values[code] for code in kept]
    if others:
        warnings.append(
            f"column {name[:100]!r} has {others + len(kept)} values; the {len(kept)} most frequent are shown, all "
            "others are one slice"
        )
        names.append(f"({others} other values)")
    return place[codes], names


def _ranges(column: Any) -> tuple[Array, list[str]]:
    values = column.cast(pa.float64(), safe=False).fill_null(np.nan).to_numpy(zero_copy_only=False)
    known = values[~np.isnan(values)]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _RANGES + 1)))
    codes = np.searchsorted(edges[1:-1], values, side="right")
    last = max(len(edges) - 1, 1)
    names = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)] or [f"{edges[0]:g}"]
    codes = np.where(np.isnan(values), last, np.minimum(codes, last - 1))
    return codes, [*names, _MISSING]
