"""A model's outputs to a table: one row for each row that was asked about, in order, beside its ids.

Which columns there are has been settled by ``outputs``. Knows Arrow; knows no model and no destination.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelport.data.outputs import ERROR, LABEL, ROW, SCORE, Column, Wanted
from modelport.errors import InvalidInput
from modelport.schemas.predictions import Shard
from modelport.storage.disk import told_of_disk
from modelport.tensors import Array, TensorSpec

_ARROW: dict[str, Any] = {
    "BOOL": pa.bool_(), "UINT8": pa.uint8(), "UINT16": pa.uint16(), "UINT32": pa.uint32(), "UINT64": pa.uint64(),
    "INT8": pa.int8(), "INT16": pa.int16(), "INT32": pa.int32(), "INT64": pa.int64(), "FP16": pa.float32(),
    "BF16": pa.float32(), "FP32": pa.float32(), "FP64": pa.float64(),
}  # fmt: skip


def schema_of(wanted: Wanted, data: pa.Schema) -> pa.Schema:
    """Of the results."""
    fields = [pa.field(ROW, pa.int64())] if wanted.number else []
    fields += [pa.field(name, data.field(name).type) for name in wanted.beside]
    fields += [pa.field(column.name, _type(column, wanted.ranks)) for column in wanted.columns]
    return pa.schema([*fields, pa.field(ERROR, pa.string())] if wanted.record else fields)


class ShardTable:
    """The results of one shard while they come in, in any order."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._runs: list[tuple[Array, dict[str, Array]]] = []
        self._beside: dict[int, pa.RecordBatch] = {}
        self.errors: dict[int, str] = {}
        """By place in the shard."""

    def data(self, offset: int, batch: pa.RecordBatch) -> None:
        """Rows that are asked about, from a place on."""
        self._beside[offset] = batch.select(list(self._wanted.beside))

    def answered(self, places: Array, outputs: Mapping[str, Array]) -> None:
        """What the model gave for the rows at these places: outputs of shape [rows, …]."""
        self._wanted.learn(outputs)
        self._runs.append((places, dict(outputs)))

    def table(self, first: int, rows: int, schema: pa.Schema) -> pa.Table:
        """The whole; ``first`` is the number of its first row in the dataset."""
        order = np.full(rows, -1, np.int64)
        at = 0
        for places, _ in self._runs:
            order[places] = np.arange(at, at + len(places))
            at += len(places)
        missing = order < 0
        unknown = [place for place in np.flatnonzero(missing).tolist() if place not in self.errors]
        assert not unknown, f"no answer for the rows at {unknown[:5]}"
        indices = pa.array(order, mask=missing)
        beside = pa.Table.from_batches([self._beside[offset] for offset in sorted(self._beside)])
        arrays = [pa.array(np.arange(first, first + rows))] if self._wanted.number else []
        arrays += [beside.column(name) for name in self._wanted.beside]
        for column in self._wanted.columns:
            kind = schema.field(column.name).type
            found = [_values(column, outputs[column.output.name], kind) for _, outputs in self._runs]
            arrays.append(pa.chunked_array(found, kind).combine_chunks().take(indices))
        if self._wanted.record:
            arrays.append(pa.array([self.errors.get(place) for place in range(rows)], pa.string()))
        return pa.table(arrays, schema=schema)


def write_shard(table: pa.Table, file: Path, failed_rows: int) -> Shard:
    """Write a file that appears when it is whole; the same rows give the same bytes."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    with told_of_disk():
        pq.write_table(table.combine_chunks(), unfinished, compression="zstd", compression_level=3, version="2.6")
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        unfinished.replace(file)
    return Shard(rows=len(table), failed_rows=failed_rows, sha256=digest)


def _is_scalar(spec: TensorSpec) -> bool:
    """Whether each row has one value, also where the shape says [rows, 1]."""
    return spec.dims != ("...",) and len(spec.shape) > 1 and all(size == 1 for size in spec.shape[1:])


def _best(scores: Array, labels: Sequence[str], part: str, kind: Any) -> Any:
    """The class with the highest score, or that score; nothing where no score is a number."""
    plain = scores.astype(np.float64)
    best = np.argmax(np.where(np.isnan(plain), -np.inf, plain), axis=1)
    found = np.take_along_axis(scores, best[:, None], axis=1)[:, 0]
    if part == SCORE:
        return pa.array(found, kind)
    names = [
        None if np.isnan(score) else labels[at] if at < len(labels) else str(at)
        for at, score in zip(best.tolist(), found.astype(np.float64).tolist(), strict=True)
    ]
    return pa.array(names, kind)


def _texts(values: Array, kind: Any) -> Any:
    while pa.types.is_list(kind):
        kind = kind.value_type
    if pa.types.is_binary(kind):
        return pa.array(values.tolist(), kind)
    texts = [v.decode(errors="backslashreplace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    return pa.array(texts, kind)


def _type(column: Column, ranks: Mapping[str, int]) -> Any:
    """Its Arrow type; ``ranks`` has the number of dimensions of outputs that do not tell theirs."""
    if column.part == LABEL:
        return pa.string()
    if column.output.datatype == "BYTES":
        found = pa.binary() if column.output.name.endswith("_bytes") else pa.string()
    else:
        found = _ARROW[column.output.datatype]
    if column.part == SCORE or _is_scalar(column.output):
        return found
    for _ in range(ranks.get(column.output.name, len(column.output.shape) - 1)):
        found = pa.list_(found)
    return found


def _values(column: Column, rows: Array, kind: Any) -> Any:
    """An Arrow array of a run's output of shape [rows, …]."""
    if rows.dtype.kind == "V" or rows.dtype == np.float16:
        rows = rows.astype(np.float32)
    if column.part:
        return _best(rows.reshape(len(rows), -1), column.labels, column.part, kind)
    if not pa.types.is_list(kind):
        rows = rows.reshape(len(rows))
    flat = rows.reshape(-1)
    values = _texts(flat, kind) if rows.dtype.kind == "O" else pa.array(flat)
    for size in reversed(rows.shape[1:]):
        count = len(values) // size if size else int(np.prod(rows.shape[: rows.ndim - 1]))
        values = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * size), values)
    if values.type != kind:
        raise InvalidInput(
            f"output {column.output.name!r} has {rows.ndim - 1} dimensions for each row, other rows had others; it "
            "cannot be one column"
        )
    return values
