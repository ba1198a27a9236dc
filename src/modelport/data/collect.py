"""Collects rows from a source into parts. Killed and begun again it goes on from the parts that lie there.

What a file gave (rows kept, rows left out) is written down when it is done, so that a later attempt begins with the
file in which the last whole part ended. A source that has changed meanwhile is begun anew. Knows no registry.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from modelport.data.files import DOCUMENTS, IMAGES, file_rows
from modelport.data.reading import BadRows, Reading, format_of, of_format, rows_in, schema_in
from modelport.data.sources import SourceFile
from modelport.data.writing import PartWriter, as_schema, checked_schema, parts_in, schema_of
from modelport.errors import InvalidInput
from modelport.storage.disk import check_room

#: Called with the bytes (or rows) done, all of them (None when unknown), and what is being read.
Progress = Callable[[float, float | None, str], object]
_FILES_AT_ONCE = 256
#: Column types that can be told apart by which is greater.
_GROWING = (pa.types.is_integer, pa.types.is_floating, pa.types.is_temporal, pa.types.is_string)


@dataclass(slots=True)
class Wanted:
    """How a source is collected."""

    reading: Reading | None
    """None: by the files' endings."""
    skip_bad: bool = False
    union: bool = False
    """Whether files may lack columns."""
    after: Mark | None = None
    """Only rows beyond this are new."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A column that only grows, and how far earlier collections came."""

    column: str
    value: str | None = None

    def beyond(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Those rows that are new; a row without a value never is."""
        column = batch.column(self.column)
        if self.value is None:
            return batch.filter(pc.is_valid(column))
        return batch.filter(pc.fill_null(pc.greater(column, pa.scalar(self.typed(column.type), column.type)), False))

    def typed(self, kind: Any) -> Any:
        """The value as the column's own type has it."""
        if self.value is None or kind is None:
            return self.value
        return pc.cast(pa.scalar(self.value), kind).as_py()


@dataclass(slots=True)
class Collected:
    """What came of it."""

    parts: list[Path]
    new_rows: int
    format: str = ""
    report: dict[str, Any] = field(default_factory=dict)


def collect_files(
    files: Sequence[SourceFile], wanted: Wanted, folder: Path, scratch: Path, progress: Progress
) -> Collected:
    """The rows of the files, in their order, behind the parts that ``folder`` was given to begin with.

    Raises InvalidInput for an empty source, files of other columns, and rows that cannot be read.
    """
    if not files:
        raise InvalidInput("the source holds no file; hidden files do not count")
    kind = wanted.reading.format if wanted.reading is not None else format_of(files)
    reading = wanted.reading or Reading(kind)
    taken = of_format(files, kind)
    log = _Log(scratch, taken, folder)
    ignored = len(files) - len(taken)
    bad = BadRows(wanted.skip_bad)
    if kind in ("images", "documents"):
        schema, good = _file_schema(kind, taken), taken
        if kind == "images":  # they are kept as they are
            lying = sum(part.stat().st_size for part in parts_in(folder))
            check_room(scratch, sum(file.size for file in good) - lying, "source: its images")
        units = [good[i : i + _FILES_AT_ONCE] for i in range(0, len(good), _FILES_AT_ONCE)]
    else:
        schema, good = _union(taken, reading, wanted, bad)
        units = [[file] for file in good]
    check_same_schema(parts_in(folder), schema)
    with PartWriter(folder, schema) as writer:
        begun_with = log.begin(writer.rows)
        _collect(units, schema, kind, reading, wanted, writer, log, bad, progress, writer.rows_done - begun_with)
        new_rows = writer.rows - begun_with
    if not writer.rows:
        raise InvalidInput("the source has no row that can be read: nothing is collected")
    report = {"files": len(good), "rows": new_rows, "ignored_files": ignored, "left_out": bad.count}
    return Collected(writer.parts, new_rows, kind, {**report, "left_out_examples": bad.examples})


def collect_batches(batches: Iterable[pa.RecordBatch], folder: Path, progress: Progress) -> Collected:
    """Rows that come in one stream, such as a query's. Nothing is known of their order, so it is begun anew."""
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        raise InvalidInput("the source has no row: nothing is collected")
    schema = checked_schema(first.schema)
    check_same_schema(parts_in(folder), schema)
    with PartWriter(folder, schema) as writer:
        before = writer.rows
        for batch in itertools.chain((first,), iterator):
            writer.write(as_schema(batch, schema))
            progress(writer.rows - before, None, "rows read")
    if not writer.rows:
        raise InvalidInput("the source has no row: nothing is collected")
    return Collected(writer.parts, writer.rows - before, "rows", {"rows": writer.rows - before})


def unless_empty(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch] | None:
    """The same batches; None when they hold no row."""
    iterator = (batch for batch in batches if len(batch))
    first = next(iterator, None)
    return None if first is None else itertools.chain((first,), iterator)


def begin_with(folder: Path, parts: Sequence[Path]) -> None:
    """Put copies of an earlier version's parts first; those that are there already are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, part in enumerate(parts):
        target = folder / f"part-{index:05}.parquet"
        if not target.exists():
            shutil.copyfile(part, target.with_suffix(".copy"))
            target.with_suffix(".copy").replace(target)


def check_same_schema(parts: Sequence[Path], schema: pa.Schema) -> None:
    """Raise InvalidInput unless new rows fit those of the earlier version."""
    if parts and not schema_of(parts).equals(checked_schema(schema)):
        raise InvalidInput(
            f"the source's columns are not those of the newest version: {_differences(schema_of(parts), schema)}; "
            "collect without --incremental"
        )


class _Log:
    """What each unit of work gave, one JSON line each, in the job's folder."""

    def __init__(self, scratch: Path, files: Sequence[SourceFile], folder: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._listing, self._done = scratch / "listing.json", scratch / "done.jsonl"
        self._begun = scratch / "begun.json"
        listing = json.dumps([[file.name, file.size, file.mark] for file in files])
        same = self._listing.exists() and self._listing.read_text() == listing
        if self._listing.exists() and not same:  # the source has changed: its old rows are of no use
            kept = json.loads(self._begun.read_text())["parts"] if self._begun.exists() else 0
            for part in parts_in(folder)[kept:]:
                part.unlink()
        if not same:
            self._done.unlink(missing_ok=True)
            _write(self._listing, listing)
        self._parts = len(parts_in(folder))  # before the first attempt: those that it was given

    def begin(self, rows: int) -> int:
        """Rows that were there before the first attempt."""
        if not self._begun.exists():
            _write(self._begun, json.dumps({"rows": rows, "parts": self._parts}))
        return int(json.loads(self._begun.read_text())["rows"])

    def done(self) -> list[dict[str, Any]]:
        """What earlier attempts finished, in order; a last line that was cut does not count."""
        if not self._done.exists():
            return []
        whole = self._done.read_text().split("\n")[:-1]
        return [json.loads(line) for line in whole]

    def add(self, rows: int, bad: int, examples: Sequence[str]) -> None:
        """A unit is read to its end; ``rows`` is counted from the source's beginning."""
        with self._done.open("a") as file:
            file.write(json.dumps({"rows": rows, "bad": bad, "examples": list(examples)}) + "\n")

    def keep(self, count: int) -> None:
        """Forget all but the first lines."""
        lines = self._done.read_text().split("\n")[:count] if self._done.exists() else []
        _write(self._done, "".join(f"{line}\n" for line in lines))


def _collect(
    units: Sequence[Sequence[SourceFile]],
    schema: pa.Schema,
    kind: str,
    reading: Reading,
    wanted: Wanted,
    writer: PartWriter,
    log: _Log,
    bad: BadRows,
    progress: Progress,
    skip: int,
) -> None:
    total = sum(file.size for unit in units for file in unit)
    finished = [line for line in log.done() if line["rows"] <= skip][: len(units)]
    log.keep(len(finished))
    rows = 0
    if finished:
        rows, bad.count, bad.examples = finished[-1]["rows"], finished[-1]["bad"], finished[-1]["examples"]
    done = sum(file.size for unit in units[: len(finished)] for file in unit)
    for unit in units[len(finished) :]:
        for batch in _unit_rows(unit, schema, kind, reading, bad):
            new = batch if wanted.after is None else wanted.after.beyond(batch)
            already = min(max(skip - rows, 0), len(new))
            rows += len(new)
            if already < len(new):
                writer.write(new.slice(already))
            progress(done, total, unit[0].name)
        done += sum(file.size for file in unit)
        log.add(rows, bad.count, bad.examples)
        progress(done, total, unit[-1].name)


def _unit_rows(
    unit: Sequence[SourceFile], schema: pa.Schema, kind: str, reading: Reading, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    if kind in ("images", "documents"):
        for batch in file_rows(unit, kind, reading.encoding, bad):
            yield as_schema(batch, schema)
        return
    (file,) = unit
    for batch in rows_in(file, schema, reading, bad):
        try:
            yield as_schema(batch, schema)
        except InvalidInput as error:
            raise InvalidInput(f"{file.name[:200]!r}: {error.message}") from None


def _file_schema(kind: str, files: Sequence[SourceFile]) -> pa.Schema:
    """Without labels when no file lies in a folder."""
    schema = IMAGES if kind == "images" else DOCUMENTS
    has_folders = any("/" in file.name for file in files)
    return schema if has_folders else schema.remove(schema.get_field_index("label"))


def _union(
    files: Sequence[SourceFile], reading: Reading, wanted: Wanted, bad: BadRows
) -> tuple[pa.Schema, list[SourceFile]]:
    """The columns of all files, and the files that can be read at all."""
    whole: pa.Schema | None = None
    good: list[SourceFile] = []
    for file in files:
        try:
            found = checked_schema(schema_in(file, reading))
        except InvalidInput as error:
            if len(files) == 1 or not wanted.skip_bad:
                raise
            bad.found(file.name, error.message)
            continue
        good.append(file)
        whole = found if whole is None else joined_schema(whole, found, good[0].name, file.name, wanted.union)
    if whole is None:
        raise InvalidInput("none of the source's files can be read: nothing is collected")
    after = wanted.after
    if after is not None:
        if after.column not in whole.names:
            raise InvalidInput(f"incremental: there is no column {after.column[:100]!r}; say files, or a column")
        if not any(grows(whole.field(after.column).type) for grows in _GROWING):
            raise InvalidInput(f"incremental: column {after.column[:100]!r} cannot grow; choose a number or a time")
    return whole, good


def joined_schema(whole: pa.Schema, found: pa.Schema, first: str, name: str, union: bool) -> pa.Schema:
    """One schema for two tables (or files) of these names; raises InvalidInput when they do not fit."""
    missing = [n for n in whole.names if n not in found.names]
    extra = [n for n in found.names if n not in whole.names]
    if (missing or extra) and not union:
        raise InvalidInput(
            f"{name[:200]!r} has other columns than {first[:200]!r}: {_differences(whole, found)}; "
            "--on-schema union gives null where a file lacks one"
        )
    fields = []
    for column in whole:
        other = found.field(column.name).type if column.name in found.names else column.type
        kind = _common(column.type, other)
        if kind is None:
            raise InvalidInput(
                f"{name[:200]!r}: column {column.name[:100]!r} is {other}, but {column.type} in the files before "
                f"it; --type {column.name[:100]}=string reads both"
            )
        fields.append(pa.field(column.name, kind))
    return pa.schema([*fields, *(found.field(n) for n in extra)])


def _common(one: Any, other: Any) -> Any:
    if one.equals(other):
        return one
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.int64()
    numbers = (pa.types.is_integer, pa.types.is_floating)
    if all(any(is_number(kind) for is_number in numbers) for kind in (one, other)):
        return pa.float64()
    if pa.types.is_date(one) and pa.types.is_timestamp(other):
        return other
    if pa.types.is_timestamp(one) and pa.types.is_date(other):
        return one
    return None


def _differences(one: pa.Schema, other: pa.Schema) -> str:
    texts = []
    if missing := [name for name in one.names if name not in other.names]:
        texts.append(f"it lacks {', '.join(missing)[:200]}")
    if extra := [name for name in other.names if name not in one.names]:
        texts.append(f"it has {', '.join(extra)[:200]} besides")
    both = [name for name in one.names if name in other.names]
    changed = [name for name in both if not one.field(name).type.equals(other.field(name).type)]
    if changed:
        name = changed[0]
        texts.append(f"{name[:100]!r} is {other.field(name).type}, not {one.field(name).type}")
    return "; ".join(texts) or "they are in another order"


def _write(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    with part.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(file)
