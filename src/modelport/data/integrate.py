"""Puts tables beside one another (join) and behind one another (concat).

Daft joins the keys alone; the rows are then gathered in the order of the left table, the right one read through a
memory map, so that memory holds keys and numbers, not rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from modelport.data import engine
from modelport.data.collect import joined_schema
from modelport.data.writing import PartWriter, as_schema, read_parts, rows_in, schema_of
from modelport.errors import InvalidInput
from modelport.schemas.datasets import JoinParams
from modelport.storage.disk import check_room, told_of_disk
from modelport.tensors import Array

Parts = Sequence[Path]


def join(left: Parts, right: Parts, wanted: JoinParams, folder: Path, scratch: Path) -> dict[str, Any]:
    """Write the joined rows; the report. A missing key meets nothing.

    Raises InvalidInput for keys of different types, and when a row of the left would be multiplied and is not meant to.
    """
    schema, others = _joined_schema(schema_of(left), schema_of(right), wanted)
    rows = sum(rows_in(part) for part in left)
    pairs = _pairs(left, right, wanted, rows, scratch)
    met = np.bincount(pairs[:, 0], minlength=rows) if len(pairs) else np.zeros(rows, np.int64)
    if wanted.expect == "one" and met.size and met.max() > 1:
        raise InvalidInput(
            f"join: {int((met > 1).sum())} of {rows} rows of {wanted.left} meet more than one row of {wanted.right} "
            f"(such as {_key(left, wanted.on, int(met.argmax()))}): {rows} rows would become {len(pairs)}; make the "
            "keys of the right unique, or declare --expect many"
        )
    with PartWriter(folder, schema) as writer:
        for batch in _gathered(left, right, pairs, met, wanted, others, schema, scratch):
            writer.write(batch)
    if not writer.rows:
        raise InvalidInput(f"join: no key of {wanted.left} is in {wanted.right}; are {', '.join(wanted.on)} the keys?")
    unmatched = int((met == 0).sum())
    return {"left_rows": rows, "rows": writer.rows, "unmatched": unmatched, "most_matches": int(met.max())}


def concat(tables: Sequence[Parts], names: Sequence[str], union: bool, folder: Path) -> dict[str, Any]:
    """Write the rows of all tables; the report. Raises InvalidInput for columns that do not fit."""
    check_room(folder.parent, sum(file.stat().st_size for parts in tables for file in parts) // 2, "concat: the rows")
    schema = schema_of(tables[0])
    for parts, name in zip(tables[1:], names[1:], strict=True):
        schema = joined_schema(schema, schema_of(parts), names[0], name, union)
    with PartWriter(folder, schema) as writer:
        for parts in tables:
            for batch in read_parts(parts):
                writer.write(as_schema(batch, schema))
    return {
        "rows": writer.rows,
        "from": {name: sum(map(rows_in, parts)) for name, parts in zip(names, tables, strict=True)},
    }


def _joined_schema(left: pa.Schema, right: pa.Schema, wanted: JoinParams) -> tuple[pa.Schema, dict[str, str]]:
    """The schema, and how each column of the right is called in it."""
    for key in wanted.on:
        one, other = left.field(key).type, right.field(key).type
        if not one.equals(other):
            raise InvalidInput(
                f"join: key {key[:100]!r} is {one} in {wanted.left} and {other} in {wanted.right}; clean one with a "
                "types rule"
            )
    others: dict[str, str] = {}
    for name in right.names:
        if name not in wanted.on:
            others[name] = f"{name}{wanted.suffix}" if name in left.names else name
    taken = [*left.names, *others.values()]
    if len(set(taken)) < len(taken):
        twice = next(name for name in taken if taken.count(name) > 1)
        raise InvalidInput(f"join: column {twice[:100]!r} would be there twice; choose another --suffix")
    return pa.schema([*left, *(pa.field(new, right.field(old).type) for old, new in others.items())]), others


def _pairs(left: Parts, right: Parts, wanted: JoinParams, rows: int, scratch: Path) -> Array:
    """Row numbers of left and right that meet, ordered: int64 of shape [pairs, 2]."""
    frames = [
        _keys(parts, wanted.on, f"row{side}", scratch / f"keys-{side}.parquet")
        for side, parts in enumerate((left, right))
    ]
    pieces, count = [], 0
    for batch in engine.met(frames[0], frames[1], wanted.on, ("row0", "row1")):
        pieces.append(np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], 1))
        count += len(batch)
        if wanted.expect == "one" and count > rows:  # some row is multiplied already; how often, a look at few tells
            break
    pairs = np.concatenate(pieces) if pieces else np.empty((0, 2), np.int64)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _keys(parts: Parts, keys: Sequence[str], name: str, file: Path) -> Any:
    start = 0
    schema = pa.schema([*(schema_of(parts).field(key) for key in keys), (name, pa.int64())])
    with told_of_disk(), pq.ParquetWriter(file, schema) as writer:
        for batch in read_parts(parts, list(keys)):
            numbers = pa.array(np.arange(start, start + len(batch)))
            columns = [batch.column(key) for key in keys]
            writer.write_batch(pa.RecordBatch.from_arrays([*columns, numbers], schema=schema))
            start += len(batch)
    return engine.frame_of([file])


def _gathered(
    left: Parts,
    right: Parts,
    pairs: Array,
    met: Array,
    wanted: JoinParams,
    others: dict[str, str],
    schema: pa.Schema,
    scratch: Path,
) -> Iterator[pa.RecordBatch]:
    beside = _mapped(right, list(others), scratch / "right.arrow")
    ends = np.concatenate([[0], np.cumsum(met)])
    start = 0
    for batch in read_parts(left):
        numbers = met[start : start + len(batch)]
        times = np.maximum(numbers, 1) if wanted.how == "left" else numbers
        own = batch.take(pa.array(np.repeat(np.arange(len(batch)), times)))
        theirs = np.full(len(own), -1, np.int64)
        theirs[np.repeat(numbers > 0, times)] = pairs[ends[start] : ends[start + len(batch)], 1]
        columns = list(own.columns)
        if others:
            taken = beside.take(pa.array(theirs, mask=theirs < 0)).combine_chunks()
            columns += [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in taken.columns]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
        start += len(batch)


def _mapped(parts: Parts, columns: Sequence[str], file: Path) -> Any:
    """A table whose rows stay on the disk."""
    schema = pa.schema([schema_of(parts).field(name) for name in columns])
    with told_of_disk(), pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in read_parts(parts, list(columns)) if columns else ():
            writer.write_batch(batch.select(columns))
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _key(parts: Parts, keys: Sequence[str], row: int) -> str:
    for batch in read_parts(parts, list(keys)):
        if row < len(batch):
            found = batch.slice(row, 1).to_pylist()[0]
            return ", ".join(f"{name}={str(value)[:60]}" for name, value in found.items())
        row -= len(batch)
    return "?"
