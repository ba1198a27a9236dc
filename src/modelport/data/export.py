"""Writes Parquet parts as one file, or images as files by label. What is written appears when it is whole.

One file is Parquet, CSV (bytes as base64) or JSON lines, by its ending.
"""

from __future__ import annotations

import base64
import shutil
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
    export_parts(parts_in(folder), file)


def export_parts(parts: Sequence[Path], file: Path, columns: Sequence[str] | None = None) -> None:
    """Write the rows of parts in their order, all columns or some."""
    unfinished = file.with_name(f".{file.name}.part")
    try:
        _WRITERS[file.suffix](parts, unfinished, columns)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def export_images(parts: Sequence[Path], folder: Path, image: str, label: str) -> None:
    """Write each row's image as ``LABEL/ROW.png``; images without a label lie under ``unlabelled``."""
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    row = 0
    for batch in read_parts(parts, [image, label]):
        for content, name in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
            if content is None:
                raise InvalidInput(f"column {image!r}: row {row} has no image; clean the dataset of such rows")
            place = unfinished / _folder_of(name, label)
            place.mkdir(exist_ok=True)
            (place / f"{row:08}{_ending(content)}").write_bytes(content)
            row += 1
    unfinished.replace(folder)


def _folder_of(value: Any, column: str) -> str:
    name = "unlabelled" if value is None else str(value)
    if not 0 < len(name.encode()) <= 200 or name.startswith(".") or "/" in name or not name.isprintable():
        raise InvalidInput(f"column {column!r}: {name[:80]!r} cannot be the name of a folder; rename that class")
    return name


def _ending(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return ".webp"
    return next((ending for begin, ending in _BEGINNINGS.items() if content.startswith(begin)), "")


def _schema(parts: Sequence[Path], columns: Sequence[str] | None) -> pa.Schema:
    schema = schema_of(parts)
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _parquet(parts: Sequence[Path], file: Path, columns: Sequence[str] | None) -> None:
    with pq.ParquetWriter(file, _schema(parts, columns), compression="zstd") as writer:
        for batch in read_parts(parts, columns):
            writer.write_batch(batch)


def _csv(parts: Sequence[Path], file: Path, columns: Sequence[str] | None) -> None:
    schema = _schema(parts, columns)
    plain = pa.schema([pa.field(f.name, pa.string() if _is_special(f.type) else f.type) for f in schema])
    with pcsv.CSVWriter(file, plain) as writer:
        for batch in read_parts(parts, columns):
            cells = [
                pa.array([_cell(value) for value in column.to_pylist()], pa.string()) if _is_special(f.type) else column
                for f, column in zip(schema, batch.columns, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(cells, schema=plain))


def _jsonl(parts: Sequence[Path], file: Path, columns: Sequence[str] | None) -> None:
    with file.open("wb") as stream:
        for batch in read_parts(parts, columns):
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


_Writer = Callable[[Sequence[Path], Path, Sequence[str] | None], None]
_WRITERS: dict[str, _Writer] = {".parquet": _parquet, ".csv": _csv, ".jsonl": _jsonl}
_BEGINNINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"BM": ".bmp", b"II*\x00": ".tif"}
