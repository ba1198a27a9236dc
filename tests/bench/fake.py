"""An HTTP server over real sockets, in a thread, that answers as a test tells it, and can stand still."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def status(code: int, body: str, *headers: str) -> bytes:
    """An answer of that status."""
    lines = [f"HTTP/1.1 {code} X", f"content-length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


@dataclass
class Got:
    """One request that arrived."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes


Answer = bytes | list[tuple[float, bytes]] | None
"""What is sent: at once, or each piece so many seconds after the request."""


@dataclass
class FakeServer:
    """``answer`` gets the request and its number from 0; None leaves it without an answer, b"" hangs up."""

    answer: Callable[[Got, int], Answer]
    url: str = ""
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    loop: asyncio.AbstractEventLoop | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    pause: tuple[float, float] | None = None

    def stall(self, seconds: float, after: float) -> None:
        """Stand still, all of it, so many seconds after the next request: as a process does that collects garbage.

        Counted from the request, because a busy machine begins to send when it can.
        """
        self.pause = after, seconds


class _Connection(asyncio.Protocol):
    def __init__(self, server: FakeServer) -> None:
        self.server, self.rest = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while b"\r\n\r\n" in self.rest:
            head, _, rest = self.rest.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            body, self.rest = rest[:length], rest[length:]
            if first.startswith("GET /metrics "):
                self.transport.write(status(404, ""))  # type: ignore[attr-defined]
                continue
            pause, self.server.pause = self.server.pause, None
            if pause is not None:
                assert self.server.loop is not None
                self.server.loop.call_later(pause[0], time.sleep, pause[1])
            got = Got(time.perf_counter(), first.split()[1], headers, body)
            self.server.got.append(got)
            raw = self.server.answer(got, len(self.server.got) - 1)
            if isinstance(raw, list):
                assert self.server.loop is not None
                for after, piece in raw:
                    self.server.loop.call_later(after, self.transport.write, piece)  # type: ignore[attr-defined]
            elif raw == b"":
                self.transport.close()  # type: ignore[attr-defined]
            elif raw is not None:
                self.transport.write(raw)  # type: ignore[attr-defined]


@contextmanager
def fake_server(answer: Callable[[Got, int], Answer] = lambda got, number: OK) -> Iterator[FakeServer]:
    """A server for a test."""
    server = FakeServer(answer)
    ready = threading.Event()

    async def serve() -> None:
        server.loop = asyncio.get_running_loop()
        listening = await server.loop.create_server(lambda: _Connection(server), "127.0.0.1", 0, backlog=1000)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        ready.set()
        await server.ended.wait()
        listening.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        assert server.loop is not None
        server.loop.call_soon_threadsafe(server.ended.set)
        thread.join(10)
    assert not thread.is_alive()
