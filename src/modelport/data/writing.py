"""Writes rows as Parquet parts: the same rows give the same bytes, however they arrive.

A row group ends after a fixed number of rows or bytes, a part after a fixed number of row groups' rows or bytes; both
are counted from the values. A part appears under its name when it is whole; what lies there already is gone on from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modelport.errors import InvalidInput
from modelport.storage.disk import flush, leave_room, told_of_disk
from modelport.tensors import Array

_UNFINISHED = ".unfinished"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Where row groups and parts end."""

    group_rows: int = 65_536
    group_bytes: int = 16 << 20
    part_rows: int = 8 * 65_536
    part_bytes: int = 128 << 20


class PartWriter:
    """Writes one table into a folder, as ``part-00000.parquet`` and on. Use it in a ``with``; it closes the last part.

    ``rows_done`` rows lie there already, in whole parts that an earlier attempt wrote: the caller begins after them.
    """

    def __init__(self, folder: Path, schema: pa.Schema, sizes: Sizes = Sizes()) -> None:
        self._folder, self.schema, self._sizes = folder, schema.remove_metadata(), sizes
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"*{_UNFINISHED}"):
            left.unlink()
        self.parts = parts_in(folder)
        self.rows_done = sum(rows_in(part) for part in self.parts)
        self.rows = self.rows_done
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._part_rows = self._part_bytes = 0
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows of the writer's schema; any number."""
        sizes = row_bytes(batch)
        start = 0
        while start < len(batch):
            room = self._sizes.group_rows - self._waiting_rows
            upto = np.cumsum(sizes[start : start + room])
            fitting = int(np.searchsorted(upto, self._sizes.group_bytes - self._waiting_bytes, side="left")) + 1
            taken = min(fitting, len(upto))
            self._waiting.append(batch.slice(start, taken))
            self._waiting_rows += taken
            self._waiting_bytes += int(upto[taken - 1])
            start += taken
            if self._waiting_rows >= self._sizes.group_rows or self._waiting_bytes >= self._sizes.group_bytes:
                self._write_group()
        self.rows += len(batch)

    def close(self) -> list[Path]:
        """Write what waits; the parts, at least one. A table without rows has one part without rows."""
        if self._waiting or not (self.parts or self._writer):
            self._write_group()
        self._end_part()
        return self.parts

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            with suppress(Exception):  # what went wrong is on its way already
                self._writer.close()
            self._path(_UNFINISHED).unlink(missing_ok=True)

    def _write_group(self) -> None:
        leave_room(self._folder)
        table = pa.Table.from_batches(self._waiting, self.schema).combine_chunks()
        with told_of_disk():
            if self._writer is None:
                self._writer = pq.ParquetWriter(
                    self._path(_UNFINISHED), self.schema, compression="zstd", compression_level=3, version="2.6"
                )
            self._writer.write_table(table, row_group_size=max(len(table), 1))
        self._part_rows += self._waiting_rows
        self._part_bytes += self._waiting_bytes
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        if self._part_rows >= self._sizes.part_rows or self._part_bytes >= self._sizes.part_bytes:
            self._end_part()

    def _end_part(self) -> None:
        if self._writer is None:
            return
        unfinished, whole = self._path(_UNFINISHED), self._path("")
        with told_of_disk():
            self._writer.close()
            self._writer = None
            flush(unfinished)
            unfinished.replace(whole)
        self.parts.append(whole)
        self._part_rows = self._part_bytes = 0

    def _path(self, ending: str) -> Path:
        return self._folder / f"part-{len(self.parts):05}.parquet{ending}"


def write_parts(folder: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> list[Path]:
    """Write a whole table; its parts."""
    with PartWriter(folder, schema) as writer:
        for batch in batches:
            writer.write(batch)
    return writer.parts


def parts_in(folder: Path) -> list[Path]:
    """The whole parts of a folder and of the folders in it, in order."""
    return sorted(folder.rglob("part-*.parquet"))


def rows_in(part: Path) -> int:
    """How many rows a part has, from its footer."""
    return int(pq.read_metadata(part).num_rows)


def schema_of(parts: Sequence[Path]) -> pa.Schema:
    """The schema that parts share."""
    return pq.read_schema(parts[0]).remove_metadata()


def read_parts(parts: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of parts in their order; a piece is at most a row group, so that memory stays bounded."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=columns).combine_chunks().to_batches()


def row_bytes(batch: pa.RecordBatch) -> Array:
    """Bytes that each row takes, from its values alone (int64)."""
    total = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        total += _value_bytes(column)
    return total


def _value_bytes(column: Any) -> Any:
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_string(kind):
        return _lengths(pc.binary_length(column)) + 4
    if pa.types.is_large_string(kind):
        return _lengths(pc.binary_length(column)) + 8
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        width = inner.bit_width // 8 if pa.types.is_primitive(inner) else 16
        return _lengths(pc.list_value_length(column)) * width + 4
    if pa.types.is_null(kind):
        return 1
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return 16


def _lengths(lengths: Any) -> Any:
    return pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)


def checked_schema(schema: pa.Schema) -> pa.Schema:
    """A schema as versions keep it: plain types, no metadata; raises InvalidInput for names that cannot be kept."""
    names = schema.names
    for name in names:
        if not name or len(name) > 300 or "\x00" in name:
            raise InvalidInput(f"column name {name[:60]!r}: 1 to 300 characters, none of them NUL; rename the column")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"column {twice[0][:100]!r} is there {names.count(twice[0])} times; rename one")
    if not names:
        raise InvalidInput("the source has no column; is it empty?")
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind) or str(kind) == "binary_view":
        return pa.binary()
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def as_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with exactly these columns and types: null where it lacks one. Raises InvalidInput for values that do
    not fit."""
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        column = pa.nulls(len(batch), field.type) if at < 0 else batch.column(at)
        if column.type != field.type:
            try:
                column = pc.cast(column, field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise InvalidInput(f"column {field.name[:100]!r}: {str(error)[:200]}; correct its type") from None
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
