"""Parquet parts cut into shards of so many rows, and these into pieces, always at the same rows.

What belongs to no wanted shard is not decoded, as far as row groups tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one shard that follow one another."""

    shard: int
    offset: int
    """Of the first row, in its shard."""
    rows: pa.RecordBatch


def pieces(
    parts: Sequence[Path], columns: Sequence[str], wanted: Sequence[int], shard_rows: int, piece_rows: int
) -> Iterator[Piece]:
    """The rows of the wanted shards in order, ``piece_rows`` at a time; the last piece of a shard may be shorter."""
    numbers = set(wanted)
    held: list[pa.RecordBatch] = []
    held_rows = first = last = 0
    for start, batch in _batches(parts, columns, numbers, shard_rows):
        at = 0
        while at < len(batch):
            number, offset = divmod(start + at, shard_rows)
            if number not in numbers:
                at += min(shard_rows - offset, len(batch) - at)
                continue
            if not held:
                first = offset
            whole = min(piece_rows - held_rows, shard_rows - offset)
            taken = batch.slice(at, whole)
            held.append(taken)
            held_rows += len(taken)
            at += len(taken)
            if held_rows == piece_rows or offset + len(taken) == shard_rows:
                yield Piece(number, first, _joined(held))
                held, held_rows = [], 0
        last = start + len(batch) - 1
    if held:
        yield Piece(last // shard_rows, first, _joined(held))


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _batches(
    parts: Sequence[Path], columns: Sequence[str], numbers: set[int], shard_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Row groups that hold rows of the wanted shards, each with the number of its first row."""
    start = 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if rows and any(n in numbers for n in range(start // shard_rows, (start + rows - 1) // shard_rows + 1)):
                    at = start
                    for batch in file.read_row_group(group, columns=list(columns)).combine_chunks().to_batches():
                        yield at, batch
                        at += len(batch)
                start += rows
