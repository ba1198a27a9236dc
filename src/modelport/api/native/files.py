"""A version's file as an answer: whole, or the rest that an interrupted download needs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Header, Path
from fastapi.responses import StreamingResponse

from modelport.schemas.models import FileEntry

BINARY = {"schema": {"type": "string", "format": "binary"}}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": BINARY}},
    206: {"description": "The rest", "content": {"application/octet-stream": BINARY}},
}
"""What such a route answers, for its documentation."""
FilePath = Annotated[str, Path(max_length=500)]
Range = Annotated[str, Header(alias="range", description="`bytes=N-`: what is left.")]
IfRange = Annotated[str, Header(description="The ETag of what is there already.")]
#: The only range that an interrupted download needs.
_REST = re.compile(r"bytes=(\d{1,18})-")


def file_answer(
    entry: FileEntry, iterate: Callable[[int], Iterator[bytes]], range_: str, if_range: str
) -> StreamingResponse:
    """The file from where ``range_`` begins; a range of another form, or beyond the end, gets the whole file.

    ``iterate`` gives its chunks from a place on. The ETag is the file's SHA-256.
    """
    etag = f'"{entry.sha256}"'
    found = _REST.fullmatch(range_) if if_range in ("", etag) else None
    start = int(found[1]) if found is not None and int(found[1]) < entry.size else 0
    chunks = iterate(start)
    first = next(chunks)  # a lost content is a clean error, not half an answer
    headers = {
        "accept-ranges": "bytes",
        "content-length": str(entry.size - start),
        "etag": etag,
        "content-disposition": f"attachment; filename*=UTF-8''{quote(entry.path.rpartition('/')[2], safe='')}",
        "x-content-type-options": "nosniff",
    }
    if start:
        headers["content-range"] = f"bytes {start}-{entry.size - 1}/{entry.size}"
    status = 206 if start else 200
    return StreamingResponse(itertools.chain((first,), chunks), status, headers, "application/octet-stream")
