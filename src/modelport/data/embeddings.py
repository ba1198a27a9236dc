"""Vectors that a model gave for the rows of a table, beside these rows: a column of lists, or one for each number.

A row's vector is null where the row had no value. Reads both in pieces, so that memory holds a piece of each. Principal
components are learnt from all vectors, in pieces too. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.decomposition import IncrementalPCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from modelport.data.writing import PartWriter, checked_schema, read_parts, schema_of
from modelport.errors import InvalidInput
from modelport.schemas.features import Embed
from modelport.tensors import Array

_PIECE = 8192
_LONGEST = 65_536
_MOST_COLUMNS = 4096


@dataclass(slots=True)
class _Measured:
    """What the vectors are like."""

    rows: int
    missing: int
    width: int


def put_beside(
    parts: Sequence[Path],
    vectors: Sequence[Path],
    step: Embed,
    folder: Path,
    told: Callable[[int, int], object],
) -> dict[str, Any]:
    """Write the table with its vectors; the report. ``vectors`` are parts with a column of its name, in order."""
    found = _measured(vectors, step)
    wanted, reduced = step.components or found.width, None
    if step.components is not None:
        reduced = _Principal(vectors, step.into, step.components, found)
    schema = _schema(schema_of(parts), step, wanted)
    done = 0
    with PartWriter(folder, schema) as writer:
        for rows, column in _together(parts, vectors, step.into):
            done, kept = done + len(rows), rows
            there = pc.is_valid(column).to_numpy(zero_copy_only=False)
            values = np.zeros((len(rows), wanted), np.float32)
            given = _matrix(column, found.width)
            values[there] = given if reduced is None or not len(given) else reduced(given)
            if step.missing == "drop" and not there.all():
                kept, values = rows.filter(pa.array(there)), values[there]
            writer.write(pa.RecordBatch.from_arrays([*kept.columns, *_columns(values, step.spread)], schema=schema))
            told(done, found.rows)
    report = {"into": step.into, "dimension": wanted, "rows": writer.rows, "missing": found.missing}
    if reduced is not None:
        report |= {"of_dimensions": found.width, "explained": reduced.explained}
    return report


def _measured(vectors: Sequence[Path], step: Embed) -> _Measured:
    rows = missing = 0
    widths: set[int] = set()
    for batch in read_parts(vectors, [step.into]):
        rows += len(batch)
        missing += batch.column(0).null_count
        widths |= set(pc.unique(pc.list_value_length(pc.drop_null(batch.column(0)))).to_pylist())
    if not widths:
        raise InvalidInput(f"no row has a value in {', '.join(step.columns)[:200]}: there is nothing to embed")
    if len(widths) > 1:
        raise InvalidInput(
            f"the model gives vectors of {', '.join(map(str, sorted(widths)[:5]))} numbers, which are no one column; "
            "take another output, or a model whose vectors are equally long"
        )
    (width,) = widths
    if not 0 < width <= _LONGEST:
        raise InvalidInput(f"the model's vectors have {width} numbers; 1 to {_LONGEST} can be kept")
    if step.spread and step.components is None and width > _MOST_COLUMNS:
        raise InvalidInput(f"spread: {width} columns are more than {_MOST_COLUMNS}; give components")
    return _Measured(rows, missing, width)


def _schema(before: pa.Schema, step: Embed, width: int) -> pa.Schema:
    names = [f"{step.into}_{index}" for index in range(width)] if step.spread else [step.into]
    taken = next((name for name in names if name in before.names), None)
    if taken is not None:
        raise InvalidInput(f"into: there is a column {taken[:100]!r} already; choose another name")
    kind = pa.float32() if step.spread else pa.list_(pa.float32())
    return checked_schema(pa.schema([*before, *(pa.field(name, kind) for name in names)]))


def _columns(values: Array, spread: bool) -> list[Any]:
    """Of shape [rows, width] to one Arrow array of lists, or ``width`` of numbers."""
    if spread:
        return [pa.array(np.ascontiguousarray(values[:, index])) for index in range(values.shape[1])]
    ends = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return [pa.ListArray.from_arrays(pa.array(ends), pa.array(values.reshape(-1)))]


def _matrix(column: Any, width: int) -> Array:
    """The vectors that are there: [those, width]."""
    found: Array = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return found


def _together(parts: Sequence[Path], vectors: Sequence[Path], name: str) -> Iterator[tuple[pa.RecordBatch, Any]]:
    """Rows, and as many vectors."""
    columns = (batch.column(0) for batch in read_parts(vectors, [name]))
    column, used = pa.array([], pa.list_(pa.float32())), 0
    for batch in read_parts(parts):
        at = 0
        while at < len(batch):
            if used == len(column):
                column, used = next(columns), 0
            count = min(_PIECE, len(batch) - at, len(column) - used)
            yield batch.slice(at, count), column.slice(used, count)
            at, used = at + count, used + count


class _Principal:
    """The first principal components of all vectors, by scikit-learn's incremental way; float32 from float64."""

    def __init__(self, vectors: Sequence[Path], name: str, components: int, found: _Measured) -> None:
        most = min(found.rows - found.missing, found.width)
        if components > most:
            raise InvalidInput(
                f"components: {found.rows - found.missing} vectors of {found.width} numbers have at most {most}"
            )
        self._model = IncrementalPCA(n_components=components)
        with threadpool_limits(limits=1):  # more threads add in another order
            for piece in _pieces(vectors, name, found.width, max(_PIECE, 2 * components)):
                self._model.partial_fit(piece)
        self.explained = round(float(self._model.explained_variance_ratio_.sum()), 6)

    def __call__(self, given: Array) -> Array:
        with threadpool_limits(limits=1):
            reduced: Array = self._model.transform(given.astype(np.float64)).astype(np.float32)
        return reduced


def _pieces(vectors: Sequence[Path], name: str, width: int, size: int) -> Iterator[Array]:
    """The vectors that are there, at least ``size`` at a time while there are as many."""
    held: list[Array] = []
    count = 0
    waiting: Array | None = None
    for batch in read_parts(vectors, [name]):
        held.append(_matrix(batch.column(0), width).astype(np.float64))
        count += len(held[-1])
        if count >= size:
            if waiting is not None:
                yield waiting
            waiting, held, count = np.concatenate(held), [], 0
    rest = [*([] if waiting is None else [waiting]), *held]  # a short rest goes with the last piece
    yield np.concatenate(rest)
