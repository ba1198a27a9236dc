"""Reads files of every format as rows: the columns that a file has, and its rows piece by piece, in their order.

A row that cannot be read is told to ``BadRows``, which ends the reading or counts it. Nothing is read whole but a
single image or document. Knows no job.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from modelport.data.sources import SourceFile
from modelport.data.values import MISSING, TYPES, guess_type, read_objects, read_texts, type_of_objects
from modelport.errors import InvalidInput

_SAMPLE_BYTES = 4 << 20
_SAMPLE_ROWS = 20_000
_PIECE_BYTES = 16 << 20
_PIECE_ROWS = 65_536
_LONGEST_LINE = 256 << 20
_SHOWN = 20
_COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_ENDINGS = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
    ".pq": "parquet", ".txt": "text", ".text": "text", ".png": "images", ".jpg": "images", ".jpeg": "images",
    ".gif": "images", ".bmp": "images", ".webp": "images", ".tif": "images", ".tiff": "images",
}  # fmt: skip


@dataclass(slots=True)
class BadRows:
    """What could not be read."""

    skip: bool
    count: int = 0
    examples: list[str] = field(default_factory=list)
    """The first ones, each with its file, place and cause."""

    def found(self, where: str, cause: str) -> None:
        """Count one; raises InvalidInput unless they are skipped."""
        text = f"{where}: {cause}"
        if not self.skip:
            raise InvalidInput(f"{text}; correct it, or leave such rows out with --on-error skip")
        self.count += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(text[:500])


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read."""

    format: str
    types: dict[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str = "utf-8"


def format_of(files: Sequence[SourceFile]) -> str:
    """The one format that the files' endings say; raises InvalidInput when they say none, or several."""
    found: dict[str, str] = {}
    for file in files:
        ending = _ending(file.name)
        if ending in _ENDINGS:
            found.setdefault(_ENDINGS[ending], file.name)
    if len(found) > 1:
        named = ", ".join(f"{kind} ({name[:60]})" for kind, name in found.items())
        raise InvalidInput(f"the source holds files of several formats: {named}; say which with --format")
    if not found:
        raise InvalidInput(
            f"the format of {files[0].name[:100]!r} is not known by its ending; say it with --format "
            "csv, tsv, jsonl, parquet, text, documents or images"
        )
    (kind,) = found
    return "documents" if kind == "text" and any("/" in file.name for file in files) else kind


def of_format(files: Sequence[SourceFile], kind: str) -> list[SourceFile]:
    """Those of the files whose endings are of the format; all when there is none, for somebody said so."""
    wanted = "text" if kind == "documents" else kind
    return [file for file in files if _ENDINGS.get(_ending(file.name)) == wanted] or list(files)


def schema_in(file: SourceFile, reading: Reading) -> pa.Schema:
    """The columns of a file of a table format, from its footer or its first rows."""
    with file.opened() as stream, _told(file):
        if reading.format == "parquet":
            return pq.read_schema(stream)
        if reading.format == "text":
            return pa.schema([("text", pa.string())])
        head = _plain(file, stream).read(_SAMPLE_BYTES)
    if not head:
        raise InvalidInput(f"{file.name[:200]!r} is empty; leave it out")
    schema = _csv_schema(file, head, reading) if reading.format in ("csv", "tsv") else _jsonl_schema(file, head)
    unknown = sorted(set(reading.types) - set(schema.names))
    if unknown and reading.format in ("csv", "tsv"):
        raise InvalidInput(f"types: there is no column {unknown[0][:100]!r}; there are {', '.join(schema.names)[:300]}")
    fields = [pa.field(f.name, TYPES[reading.types[f.name]] if f.name in reading.types else f.type) for f in schema]
    return pa.schema([*fields, *(pa.field(name, TYPES[reading.types[name]]) for name in unknown)])


def rows_in(file: SourceFile, schema: pa.Schema, reading: Reading, bad: BadRows) -> Iterator[pa.RecordBatch]:
    """The rows of a file of a table format. Raises InvalidInput for a file that is not what it says it is."""
    readers: dict[str, Callable[..., Iterator[pa.RecordBatch]]] = {
        "csv": _csv_rows, "tsv": _csv_rows, "jsonl": _jsonl_rows, "parquet": _parquet_rows, "text": _text_rows,
    }  # fmt: skip
    with file.opened() as stream, _told(file):
        yield from readers[reading.format](file, stream, schema, reading, bad)


# Parquet


def _parquet_rows(
    file: SourceFile, stream: BinaryIO, schema: pa.Schema, reading: Reading, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(stream) as parquet:
        about = parquet.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        rows = max(1, min(_PIECE_ROWS, _PIECE_BYTES * max(about.num_rows, 1) // max(size, 1)))
        yield from parquet.iter_batches(rows, use_threads=False)


# CSV


def _csv_options(reading: Reading, names: list[str] | None, bad: Callable[[Any], str]) -> dict[str, Any]:
    delimiter = reading.delimiter or ("\t" if reading.format == "tsv" else ",")
    return {
        "read_options": pcsv.ReadOptions(use_threads=False, encoding=reading.encoding, block_size=4 << 20),
        "parse_options": pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=bad),
        "convert_options": pcsv.ConvertOptions(
            column_types={name: pa.string() for name in names or ()},
            null_values=MISSING,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    }


def _csv_schema(file: SourceFile, head: bytes, reading: Reading) -> pa.Schema:
    if len(head) == _SAMPLE_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    with _told(file):
        options = _csv_options(reading, None, lambda row: "skip")
        options["read_options"].autogenerate_column_names = False
        names = pcsv.read_csv(io.BytesIO(head.split(b"\n", 1)[0] + b"\n"), **options).column_names
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"{file.name[:200]!r}: column {twice[:100]!r} is there twice; rename one")
        table = pcsv.read_csv(io.BytesIO(head), **_csv_options(reading, names, lambda row: "skip"))
    sample = table.slice(0, _SAMPLE_ROWS)
    return pa.schema([(name, guess_type(sample.column(name))) for name in names])


def _csv_rows(
    file: SourceFile, stream: BinaryIO, schema: pa.Schema, reading: Reading, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    ragged: list[Any] = []

    def keep(row: Any) -> str:
        ragged.append(row)
        return "skip"

    # A file may have fewer of the columns than the schema (on_schema=union); those are read that it has.
    with pcsv.open_csv(_plain(file, stream), **_csv_options(reading, schema.names, keep)) as reader:
        number = 2  # of the next row; the first line names the columns
        for batch in _batches(reader):
            lines = _line_numbers(number, len(batch), ragged)
            for row in ragged:
                where = f"{file.name}, row {row.number or '?'}"
                bad.found(where, f"has {row.actual_columns} fields, not {row.expected_columns}: {row.text[:80]!r}")
            number = lines[-1] + 1 if lines else number
            ragged.clear()
            yield _typed(file, batch, schema, lines, bad)
        for row in ragged:
            bad.found(f"{file.name}, row {row.number or '?'}", f"has {row.actual_columns} fields: {row.text[:80]!r}")


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        if len(batch):
            yield batch


def _line_numbers(first: int, count: int, ragged: list[Any]) -> list[int]:
    """The numbers of rows among which others were left out."""
    left_out = {row.number for row in ragged if row.number is not None}
    numbers: list[int] = []
    while len(numbers) < count:
        if first not in left_out:
            numbers.append(first)
        first += 1
    return numbers


def _typed(
    file: SourceFile, batch: pa.RecordBatch, schema: pa.Schema, lines: list[int], bad: BadRows
) -> pa.RecordBatch:
    """A batch of texts as the schema's types, without the rows that do not fit."""
    columns, wrong = [], None
    for field_ in schema:
        at = batch.schema.get_field_index(field_.name)
        if at < 0:
            columns.append(pa.nulls(len(batch), field_.type))
            continue
        values, mask = read_texts(batch.column(at), field_.type)
        columns.append(values)
        if mask.any():
            wrong = mask if wrong is None else wrong | mask
            for index in mask.nonzero()[0]:
                text = batch.column(at)[int(index)].as_py()
                cause = f"{text[:80]!r} in column {field_.name!r} is no {field_.type}; is the column text?"
                bad.found(f"{file.name}, row {lines[index]}", f"{cause} (--type {field_.name}=string)")
                if not bad.skip:
                    break
    made = pa.RecordBatch.from_arrays(columns, schema=schema)
    return made if wrong is None else made.filter(pa.array(~wrong))


# JSON lines


def _jsonl_schema(file: SourceFile, head: bytes) -> pa.Schema:
    lines = head.split(b"\n")
    if len(head) == _SAMPLE_BYTES:
        lines = lines[:-1]
    columns: dict[str, list[Any]] = {}
    for line in lines[:_SAMPLE_ROWS]:
        for name, value in (_object(line) or {}).items():
            columns.setdefault(name, []).append(value)
    if not columns:
        cause = "holds one array" if head.lstrip()[:1] == b"[" else "has no JSON object in its first rows"
        raise InvalidInput(f"{file.name[:200]!r} {cause}; give one JSON object per line")
    return pa.schema([(name, type_of_objects(values)) for name, values in columns.items()])


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _jsonl_rows(
    file: SourceFile, stream: BinaryIO, schema: pa.Schema, reading: Reading, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    names = set(schema.names)
    for lines, piece in _lines(file, _plain(file, stream)):
        rows, numbers = [], []
        for number, line in zip(lines, piece, strict=True):
            if not line.strip():
                continue
            row = _object(line)
            if row is None:
                bad.found(f"{file.name}, row {number}", f"is no JSON object: {line[:80]!r}")
            elif row.keys() <= names:
                rows.append(row)
                numbers.append(number)
            else:
                extra = next(iter(row.keys() - names))
                bad.found(f"{file.name}, row {number}", f"has the field {extra[:80]!r}, which the first rows have not")
        yield _fields(file, rows, numbers, schema, bad)


def _fields(
    file: SourceFile, rows: list[dict[str, Any]], numbers: list[int], schema: pa.Schema, bad: BadRows
) -> pa.RecordBatch:
    columns, wrong = [], None
    for field_ in schema:
        values = [row.get(field_.name) for row in rows]
        made, mask = read_objects(values, field_.type)
        columns.append(made)
        if mask.any():
            wrong = mask if wrong is None else wrong | mask
            for index in mask.nonzero()[0]:
                cause = f"{str(values[index])[:80]!r} in {field_.name!r} is no {field_.type}"
                bad.found(f"{file.name}, row {numbers[index]}", f"{cause} (--type {field_.name}=string keeps it)")
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return batch if wrong is None else batch.filter(pa.array(~wrong))


# Text


def _text_rows(
    file: SourceFile, stream: BinaryIO, schema: pa.Schema, reading: Reading, bad: BadRows
) -> Iterator[pa.RecordBatch]:
    for lines, piece in _lines(file, _plain(file, stream)):
        texts = []
        for number, line in zip(lines, piece, strict=True):
            try:
                texts.append(line.decode(reading.encoding))
            except UnicodeDecodeError:
                bad.found(f"{file.name}, row {number}", f"is not {reading.encoding}; say which with --encoding")
        yield pa.RecordBatch.from_arrays([pa.array(texts, pa.string())], schema=schema)


def _lines(file: SourceFile, stream: Any) -> Iterator[tuple[range, list[bytes]]]:
    """Lines without their ends, in pieces, with their numbers from 1."""
    held, first = b"", 1
    while chunk := stream.read(_PIECE_BYTES // 4):
        parts = (held + chunk).split(b"\n")
        held = parts.pop()
        if len(held) > _LONGEST_LINE:
            raise InvalidInput(f"{file.name}, row {first + len(parts)}: a line of over {_LONGEST_LINE} bytes; cut it")
        if parts:
            yield range(first, first + len(parts)), [part.removesuffix(b"\r") for part in parts]
            first += len(parts)
    if held:
        yield range(first, first + 1), [held.removesuffix(b"\r")]


# What formats share


def _ending(name: str) -> str:
    base = name.rpartition("/")[2].lower()
    for packed in _COMPRESSED:
        base = base.removesuffix(packed)
    return f".{base.rpartition('.')[2]}" if "." in base else ""


def _plain(file: SourceFile, stream: BinaryIO) -> Any:
    """The stream, unpacked when the file's name says that it is packed."""
    for ending, kind in _COMPRESSED.items():
        if file.name.lower().endswith(ending):
            return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), kind)
    return stream


@contextmanager
def _told(file: SourceFile) -> Iterator[None]:
    """A file that is not of its format is the caller's to mend."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeError, LookupError) as error:
        cause = str(error).split("\n")[0][:200].replace("Error creating dataset. ", "")
        hint = "; say its encoding with --encoding" if "UTF8" in cause or isinstance(error, UnicodeError) else ""
        raise InvalidInput(
            f"{file.name[:200]!r} cannot be read: {cause}{hint or '; is it cut short or damaged?'}"
        ) from None
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # Arrow's own: damaged content
            raise InvalidInput(f"{file.name[:200]!r} cannot be read: {str(error)[:200]}; is it damaged?") from None
        raise
