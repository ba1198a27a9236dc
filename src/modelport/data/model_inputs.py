"""Rows of a table to tensors of the types that a model takes; a row that does not fit is told by its place.

Which column goes where has been settled by ``binding``. Knows Arrow; knows no job and no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modelport.data.binding import Binding, Source
from modelport.data.values import iso_texts
from modelport.tensors import Array, dtype_of


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that can be run together."""

    rows: Array
    """Their places in what was read (int64)."""
    inputs: dict[str, Array]


def read(binding: Binding, table: pa.RecordBatch, nulls_are_nan: bool) -> tuple[list[Batch], dict[int, str]]:
    """The rows as tensors, those of one shape together; and what is wrong with rows that do not fit."""
    wrong: dict[int, str] = {}
    found = {s.spec.name: _read(s, table, nulls_are_nan, wrong) for s in binding.sources}
    good = np.array([row for row in range(len(table)) if row not in wrong], np.int64)
    if all(isinstance(value, np.ndarray) for value in found.values()):
        return ([Batch(good, {name: value[good] for name, value in found.items()})] if len(good) else []), wrong
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row in good.tolist():
        alike.setdefault(tuple(value[row].shape for value in found.values()), []).append(row)
    batches = [
        Batch(np.array(rows, np.int64), {name: np.stack([value[r] for r in rows]) for name, value in found.items()})
        for rows in alike.values()
    ]
    return batches, wrong


def alone(batch: Batch) -> list[Batch]:
    """Each row of a batch for itself."""
    return [
        Batch(batch.rows[at : at + 1], {n: a[at : at + 1] for n, a in batch.inputs.items()})
        for at in range(len(batch.rows))
    ]


def tensors(binding: Binding, batch: Batch) -> dict[str, Array]:
    """What the model is given."""
    return batch.inputs if binding.has_rows else {name: array[0] for name, array in batch.inputs.items()}


def _read(source: Source, table: pa.RecordBatch, nulls_are_nan: bool, wrong: dict[int, str]) -> Any:
    """An array of shape [rows, …], or a list of arrays where rows differ in shape."""
    columns = [table.column(name) for name in source.columns]
    if pa.types.is_list(columns[0].type):
        return _lists(source, columns[0], nulls_are_nan, wrong)
    parts = [
        _values(source, name, column, nulls_are_nan, wrong)
        for name, column in zip(source.columns, columns, strict=True)
    ]
    stacked = np.stack(parts, axis=1) if len(parts) > 1 else parts[0]
    shape = tuple(len(parts) if size == -1 else size for size in source.shape)
    return stacked.reshape(len(table), *shape)


def _values(source: Source, name: str, column: Any, nulls_are_nan: bool, wrong: dict[int, str]) -> Array:
    """One value for each row, of the input's type."""
    want = dtype_of(source.spec.datatype)
    if column.null_count:
        if want.kind in "fV" and nulls_are_nan:
            column = pc.fill_null(pc.cast(column, pa.float64(), safe=False), math.nan)
        elif want.kind == "O" and nulls_are_nan:
            column = pc.fill_null(_texts(column), _nothing(_texts(column).type))
        else:
            for row in np.flatnonzero(pc.is_null(column).to_numpy(zero_copy_only=False)).tolist():
                wrong.setdefault(row, f"column {name!r} is null")
            column = column.fill_null(_nothing(column.type))
    if want.kind == "O":
        return _bytes(column)
    return _converted(column.to_numpy(zero_copy_only=False), want, name, wrong)


def _nothing(kind: Any) -> Any:
    empty: Any = "" if pa.types.is_string(kind) else b"" if pa.types.is_binary(kind) else 0
    return pa.scalar(bool(empty) if pa.types.is_boolean(kind) else empty, kind)


def _bytes(column: Any) -> Array:
    made = np.empty(len(column), object)
    made[:] = [value.encode() if isinstance(value, str) else value for value in _texts(column).to_pylist()]
    return made


def _texts(column: Any) -> Any:
    return iso_texts(column) if pa.types.is_temporal(column.type) else column


def _converted(given: Array, want: np.dtype[Any], name: str, wrong: dict[int, str]) -> Array:
    """Of another type; rows whose value would have to change are wrong. ``given`` is [rows, …]."""
    if given.dtype == want:
        return given
    with np.errstate(all="ignore"):
        made = given.astype(want)
    if want.kind in "iu":
        changed = made != given if made.dtype.kind == given.dtype.kind else (made < 0) != (given < 0)
        changed |= made.astype(given.dtype) != given
    elif given.dtype.kind == "f":
        changed = np.isinf(made.astype(np.float64)) & ~np.isinf(given)
    else:
        return made
    for row in np.flatnonzero(changed.reshape(len(given), -1).any(axis=1)).tolist():
        wrong.setdefault(row, f"column {name!r}: its value does not fit {want.name}")
    return made


def _lists(source: Source, column: Any, nulls_are_nan: bool, wrong: dict[int, str]) -> Any:
    name, want, shape = source.columns[0], dtype_of(source.spec.datatype), source.shape
    lengths = pc.list_value_length(column)
    flat = column.flatten()
    if not column.null_count and not flat.null_count and not pa.types.is_list(flat.type) and len(column):
        sizes = pc.unique(lengths)
        fitted = _fit(shape, sizes[0].as_py()) if len(sizes) == 1 else None
        if fitted is not None and want.kind != "O":
            values = flat.to_numpy(zero_copy_only=False).reshape(len(column), *fitted)
            return _converted(values, want, name, wrong)
    rows: list[Array] = []
    for row, value in enumerate(column.to_pylist()):
        fitted_row = None if value is None else _one(source, row, value, nulls_are_nan, wrong)
        if value is None:
            wrong.setdefault(row, f"column {name!r} is null")
        rows.append(np.empty(0, want) if fitted_row is None else fitted_row)
    if len({rows[row].shape for row in range(len(rows)) if row not in wrong}) == 1:
        like = next(array for row, array in enumerate(rows) if row not in wrong)
        return np.stack([array if row not in wrong else np.zeros_like(like) for row, array in enumerate(rows)])
    return rows


def _one(source: Source, row: int, value: list[Any], nulls_are_nan: bool, wrong: dict[int, str]) -> Array | None:
    """One row's list as an array; None, with the reason in ``wrong``, when it does not fit."""
    name, want = source.columns[0], dtype_of(source.spec.datatype)
    try:
        given = np.array(value, object)
        elements = given.reshape(-1).tolist()
        if any(isinstance(element, list) for element in elements):
            raise ValueError
    except ValueError:
        wrong.setdefault(row, f"column {name!r}: its inner lists have different lengths")
        return None
    fitted = _fit(source.shape, len(elements))
    if fitted is None or (given.ndim == len(source.shape) > 1 and given.shape != fitted):
        wrong.setdefault(row, f"column {name!r} has {list(given.shape)} values, the input takes {list(source.shape)}")
        return None
    if any(element is None for element in elements) and not (nulls_are_nan and want.kind in "fV"):
        wrong.setdefault(row, f"column {name!r} holds a null")
        return None
    if want.kind == "O":
        texts = np.empty(len(elements), object)
        texts[:] = [element.encode() if isinstance(element, str) else element for element in elements]
        return texts.reshape(fitted)
    plain = np.array([math.nan if element is None else element for element in elements])
    found: dict[int, str] = {}
    made = _converted(plain.reshape(1, *fitted), want, name, found) if len(elements) else np.empty(fitted, want)[None]
    if found:
        wrong.setdefault(row, found[0])
    fitting: Array = made[0]
    return fitting


def _fit(shape: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """The shape of a row of so many values; None when there is none."""
    fixed = math.prod(size for size in shape if size != -1)
    free = shape.count(-1)
    if not free:
        return shape if fixed == count else None
    if fixed == 0 or count % fixed:
        return None
    first = shape.index(-1)
    return tuple(count // fixed if at == first else 1 if size == -1 else size for at, size in enumerate(shape))
