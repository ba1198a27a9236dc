"""A line carries one request at a time and is used again: a kept connection of HTTP/1.1, parsed by httptools.

Whoever sends gets ``(line, status, message)`` when the answer is whole: status 200, what the server said instead, or 0
where no answer came. Knows no schedule; keeps no times but when its request is to be given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import httptools
import orjson

from modelport.bench.shots import Shot
from modelport.errors import Unavailable
from modelport.sdk.transport import CONNECT_TIMEOUT_S, Address

Done = Callable[["Line", int, str], None]
LATE = "no answer within --timeout"
_KEPT_OF_AN_ERROR = 4000


class Line(Protocol):
    """One request at a time to one server."""

    open: bool
    """Whether another request can be sent."""

    def send(self, shot: Shot, done: Done) -> None:
        """Send it; ``done`` is called once, later."""
        ...

    def drop(self, message: str) -> None:
        """Give the request up, and the line with it; ``done`` gets the message."""
        ...

    def close(self) -> None:
        """Close it; nobody is called."""
        ...


Opener = Callable[[], Awaitable[Line]]


class HttpLine(asyncio.Protocol):
    """A connection. Answers without an error are not kept, only counted."""

    def __init__(self, write: Callable[[Shot], bytes]) -> None:
        self._write = write
        self.open = False
        self._transport: Any = None
        self._parser: Any = None
        self._done: Done | None = None
        self._status = 0
        self._kept = b""

    def send(self, shot: Shot, done: Done) -> None:
        self._done, self._status = done, 0
        self._transport.write(self._write(shot))

    def drop(self, message: str) -> None:
        self.open = False
        self._transport.abort()
        self._finish(0, message)

    def close(self) -> None:
        self.open, self._done = False, None
        self._transport.close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = transport, True
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.drop(f"the answer is not HTTP/1.1 ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._finish(0, f"the connection broke ({error})" if error else "the server closed the connection")

    # What httptools calls

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        self._kept = b""

    def on_body(self, part: bytes) -> None:
        if self._status != 200 and len(self._kept) < _KEPT_OF_AN_ERROR:
            self._kept += part

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.open = False
            self._transport.close()
        self._finish(*self._outcome())

    def _outcome(self) -> tuple[int, str]:
        """Status and message of the answer that is whole now."""
        return self._status, "" if self._status == 200 else said(self._kept)

    def _finish(self, status: int, message: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self, status, message)


def said(body: bytes) -> str:
    """The message of an error's body, of whichever protocol."""
    try:
        error = orjson.loads(body)["error"]
        message = error["message"] if isinstance(error, dict) else error
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = body.decode(errors="replace")
    return " ".join(str(message).split())[:200]


def http_opener(address: Address, timeout: float, kind: type[HttpLine] = HttpLine) -> Opener:
    """Opens connections to a server; they raise Unreachable when nobody is there."""
    parts = urlsplit(address.url)
    host, port = parts.hostname or "", parts.port or (443 if address.tls else 80)
    common = {**address.headers, "host": parts.netloc.rpartition("@")[2], "x-request-timeout": f"{timeout:g}"}
    written: dict[Shot, bytes] = {}

    def write(shot: Shot) -> bytes:
        raw = written.get(shot)
        if raw is None:
            headers = {**common, **shot.headers, "content-length": str(len(shot.body))}
            lines = [f"POST {parts.path}{shot.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
            raw = written[shot] = "\r\n".join([*lines, "", ""]).encode() + shot.body
        return raw

    async def connect() -> Line:
        loop = asyncio.get_running_loop()
        tls: dict[str, Any] = {"ssl": address.tls, "server_hostname": host} if address.tls else {}
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, line = await loop.create_connection(lambda: kind(write), host, port, **tls)
        except TimeoutError as error:
            raise Unavailable(f"no connection to {address.url} within {CONNECT_TIMEOUT_S:g} s") from error
        except OSError as error:
            raise address.unreachable(error) from None
        return line

    return connect
