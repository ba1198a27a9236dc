"""Writes Parquet parts as one file: Parquet, CSV (bytes as base64) or JSON lines. The file appears when it is whole."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from modelport.data.writing import parts_in, read_parts, schema_of
from modelport.errors import InvalidInput


def check_target(file: Path) -> None:
    """Raise InvalidInput for a file that cannot be written."""
    if file.suffix not in _WRITERS:
        raise InvalidInput(f"{file.name!r}: give a name that ends in {', '.join(_WRITERS)}, or a folder")
    if file.exists():
        raise InvalidInput(f"{file.name!r} exists; give another name")


def export(folder: Path, file: Path) -> None:
    """Write the rows of all parts below ``folder``."""
    parts, unfinished = parts_in(folder), file.with_name(f".{file.name}.part")
    try:
        _WRITERS[file.suffix](parts, unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _parquet(parts: Sequence[Path], file: Path) -> None:
    with pq.ParquetWriter(file, schema_of(parts), compression="zstd") as writer:
        for batch in read_parts(parts):
            writer.write_batch(batch)


def _csv(parts: Sequence[Path], file: Path) -> None:
    schema = schema_of(parts)
    plain = pa.schema([pa.field(f.name, pa.string() if _is_special(f.type) else f.type) for f in schema])
    with pcsv.CSVWriter(file, plain) as writer:
        for batch in read_parts(parts):
            columns = [
                pa.array([_cell(value) for value in column.to_pylist()], pa.string()) if _is_special(f.type) else column
                for f, column in zip(schema, batch.columns, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=plain))


def _jsonl(parts: Sequence[Path], file: Path) -> None:
    with file.open("wb") as stream:
        for batch in read_parts(parts):
            for row in batch.to_pylist():
                stream.write(orjson.dumps(row, default=_json, option=orjson.OPT_APPEND_NEWLINE))


def _is_special(kind: Any) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind))


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    return _json(value) if isinstance(value, bytes) else orjson.dumps(value, default=_json).decode()


def _json(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


_WRITERS: dict[str, Callable[[Sequence[Path], Path], None]] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
