"""Reading a request's body: whole, within the limit, decompressed, and not for ever."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from modelport.errors import Cancelled, DeadlineExceeded, InvalidInput, TooLarge, UnsupportedEncoding

_STALL_S = 30.0
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}

Receive = Callable[[], Awaitable[dict[str, Any]]]


async def read_body(receive: Receive, headers: dict[str, str], limit: int) -> bytes:
    """The body's plain bytes. ``limit`` holds for what arrives and for what it unpacks to, in bytes."""
    declared = headers.get("content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    message = await receive()
    if not message.get("more_body"):
        if message["type"] == "http.disconnect":
            raise Cancelled("the caller went away")
        body = message.get("body", b"")
    else:
        body = await _read_rest(receive, message, limit)
    if len(body) > limit:
        raise too_large(limit)
    encoding = headers.get("content-encoding")
    return body if encoding is None else unpack(body, encoding, limit)


async def _read_rest(receive: Receive, message: dict[str, Any], limit: int) -> bytes:
    chunks = bytearray(message.get("body", b""))
    while message.get("more_body"):
        try:
            message = await asyncio.wait_for(receive(), _STALL_S)
        except TimeoutError:
            raise DeadlineExceeded(f"the request's body stalled for {_STALL_S:.0f} s; send it without pauses") from None
        if message["type"] == "http.disconnect":
            raise Cancelled("the caller went away")
        chunks += message.get("body", b"")
        if len(chunks) > limit:
            raise too_large(limit)
    return bytes(chunks)


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding without ever holding more than ``limit`` bytes (a bomb is refused early)."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    bits = _WINDOW_BITS.get(name)
    if bits is None:
        raise UnsupportedEncoding(f"Content-Encoding {encoding[:40]!r} is not spoken here; use gzip, deflate or none")
    unpacker = zlib.decompressobj(bits)
    try:
        plain = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(
            f"the body is not {name} as its Content-Encoding says ({error}); correct one of them"
        ) from None
    if len(plain) > limit:
        raise too_large(limit)
    if not unpacker.eof:
        raise InvalidInput(f"the {name} body is cut short; send all of it")
    if unpacker.unused_data:
        raise InvalidInput(f"the {name} body has {len(unpacker.unused_data)} bytes after its end; send one stream")
    return plain


def too_large(limit: int) -> TooLarge:
    """The error for a body beyond the limit."""
    return TooLarge(
        f"the body is larger than {limit / 1e6:g} MB; send fewer rows at once, or raise MODELPORT_HTTP_MAX_BODY_MB"
    )
