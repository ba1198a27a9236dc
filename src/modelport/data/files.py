"""Files that are rows themselves: images (as their encoded bytes) and documents, each labelled by its folder."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from modelport.data.reading import BadRows
from modelport.data.sources import SourceFile
from modelport.errors import InvalidInput, MissingExtra, ModelportError

IMAGES = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
DOCUMENTS = pa.schema([("path", pa.string()), ("label", pa.string()), ("text", pa.string())])
_LARGEST = 512 << 20


def file_rows(files: Sequence[SourceFile], kind: str, encoding: str, bad: BadRows) -> Iterator[pa.RecordBatch]:
    """A row for each file, one at a time; an image is decoded whole once, so that a cut one is found."""
    schema = IMAGES if kind == "images" else DOCUMENTS
    for file in files:
        try:
            row = _row(file, kind, encoding)
        except InvalidInput as error:
            bad.found(file.name, error.message)
            continue
        yield pa.RecordBatch.from_pylist([row], schema=schema)


def _row(file: SourceFile, kind: str, encoding: str) -> dict[str, Any]:
    if file.size > _LARGEST:
        raise InvalidInput(f"has {file.size} bytes, more than {_LARGEST}")
    with file.opened() as stream:
        content = stream.read()
    folder = file.name.rpartition("/")[0]
    row: dict[str, Any] = {"path": file.name, "label": folder.rpartition("/")[2] or None}
    if kind == "documents":
        try:
            return {**row, "text": content.decode(encoding)}
        except UnicodeDecodeError as error:
            raise InvalidInput(f"is not {encoding} (byte {error.start})") from None
    width, height = _image_size(content)
    return {**row, "image": content, "width": width, "height": height}


def _image_size(content: bytes) -> tuple[int, int]:
    try:
        from PIL import Image  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("image", "collecting images") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return int(image.width), int(image.height)
    except ModelportError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever damage makes them raise
        raise InvalidInput(f"is no image that can be read ({type(error).__name__})") from None
