"""The HTTP server: uvicorn, with a short way through it for inference.

uvicorn gives every request an ASGI scope, a cycle and an event, which costs 35 µs of processor time before anything is
done. A request at a path that has been answered before, with a plain body of known length, needs none of it: its bytes
go from the parser to the gateway, and its answer leaves in one write (13 µs). Programs say the same head again and
again: one that has been parsed before is not parsed again (5 µs). All else (streams, chunked and packed bodies,
management, pipelined requests) goes uvicorn's own way, on the same connection. A caller that goes away cancels its
request; a head or a body that does not arrive, or an answer that is not read, ends its connection.

The one file that knows the HTTP server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import (
    HEADER_VALUE_RE,
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from modelport.api.messages import HttpResponse

if TYPE_CHECKING:
    import socket

    from modelport.api.gateway import Gateway, GatewayConfig, Known
    from modelport.api.proxy import Send

_KEEP_ALIVE_S = 75.0
_STALL_S = 30.0
"""How long a head may take from its first byte, and how long a body may pause."""
_LOOK_EVERY_S = 5.0
_MAX_HEAD = 64 << 10
_ONE_WRITE = 64 << 10
_MAX_HEADS = 4096
_MAX_KEPT_HEAD = 2048
_END = b"\r\n\r\n"


_PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"


class Server(uvicorn.Server):
    """uvicorn around a gateway, without its own signal handlers: draining comes before stopping."""

    def __init__(self, app: Gateway, config: GatewayConfig) -> None:
        around = app if app.tracing is None else app.tracing.around(app)
        protocol = type(
            "GatewayProtocol", (FrontProtocol,), {"gateway": app, "has_short_way": around is app, "heads": {}}
        )
        super().__init__(
            uvicorn.Config(
                around, loop="none", http=protocol, ws="none", lifespan="off", access_log=False, log_config=None,
                server_header=False, date_header=False, proxy_headers=False, backlog=2048,
                timeout_graceful_shutdown=30, ssl_certfile=config.tls_certificate, ssl_keyfile=config.tls_key,
            )
        )  # fmt: skip

    def capture_signals(self) -> Any:
        """Signals are the gateway's."""
        return nullcontext()

    async def serve_on(self, sockets: Sequence[socket.socket]) -> None:
        """Until ``should_exit``; then what is under way is answered."""
        await self.serve(sockets=list(sockets))


@dataclass(slots=True)
class Head:
    """What a request's head means; the same bytes mean the same for everybody."""

    known: Known
    headers: dict[str, str]
    length: int
    """Of the body, in bytes."""
    keep_alive: bool


class FrontProtocol(HttpToolsProtocol):
    """One connection."""

    gateway: Gateway
    has_short_way: bool
    heads: dict[bytes, Head]
    """Those that were parsed before, by their bytes; of all connections."""

    _heard = 0.0
    """When the caller last said anything."""
    _head_since = 0.0
    """When the head that is being read began; 0 between heads."""
    _head_bytes = 0
    _body_awaited = False
    _unsent = 0
    """Bytes of answers that the caller had not read at the last look, and since when they are so many."""
    _unsent_since = 0.0
    _missing = 0
    """Bytes of a body that the parser does not see."""
    _raw_head: bytes | None = None
    """Of the request that is being parsed, where it came in one piece."""
    _again: bytes | None = None
    """A head that asked for another protocol, without that wish."""
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._look = self.loop.call_later(_LOOK_EVERY_S, self._look_at_clock)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_at_clock(self) -> None:
        """One timer for the life of a connection costs less than one for every request."""
        now = self.loop.time()
        if self.transport.is_closing():
            pass  # only the reader is waited for
        elif self._head_since and now - self._head_since > _STALL_S:
            self._refuse(408, "the request's head did not arrive in time")
        elif self._body_awaited and not self.flow.read_paused and now - self._heard > _STALL_S:
            self._refuse(408, f"the request's body stalled for {_STALL_S:.0f} s")
        elif not self._head_since and self._is_idle() and now - self._heard > _KEEP_ALIVE_S:
            self.transport.close()
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > _STALL_S:
            self.transport.abort()  # closing would wait for the reader, for ever
        self._look = self.loop.call_later(_LOOK_EVERY_S, self._look_at_clock)

    def _is_idle(self) -> bool:
        return not self._body_awaited and (self.cycle is None or self.cycle.response_complete)

    def _refuse(self, status: int, why: str) -> None:
        cycle: object = self.cycle
        if isinstance(cycle, RequestResponseCycle) and cycle.response_started and not cycle.response_complete:
            self.transport.close()  # in the middle of an answer there is no room for another
            return
        body = b'{"error":"' + why.encode() + b'"}'
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._heard = self.loop.time()
        if self._missing:
            self._take_body(data)
            return
        if self.has_short_way and not self._head_since and not self._body_awaited and self._is_idle():
            end = data.find(_END) + 4
            if 4 <= end <= _MAX_KEPT_HEAD:
                raw = data[:end]
                head = self.heads.get(raw)
                if head is not None and len(data) - end <= head.length:
                    self.cycle = cast("RequestResponseCycle", Exchange(self, head))
                    self._missing = head.length
                    self._take_body(data[end:])
                    return
                self._raw_head = raw
        self._parse(data)

    def _take_body(self, data: bytes) -> None:
        exchange = cast("Exchange", self.cycle)
        rest = data[self._missing :]
        if rest:  # the next request's
            data = data[: self._missing]
        exchange.body.append(data)
        self._missing -= len(data)
        self._body_awaited = self._missing > 0
        if not self._missing:
            self._start(exchange)
            if rest:
                self._parse(rest)

    def _start(self, exchange: Exchange) -> None:
        exchange.task = task = self.loop.create_task(exchange.run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            again, self._again = self._again, None
            if again is not None:
                self.parser = httptools.HttpRequestParser(self)
                self._parse(again + data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(400, "this is not HTTP, or not as this server takes it")
            return
        if self._head_since:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD and not self.transport.is_closing():
                self._refuse(431, f"the request's head is larger than {_MAX_HEAD >> 10} KiB")

    # -- what the parser calls ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_since = self._heard
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Which way the request goes."""
        self._head_since = 0.0
        if self.parser.should_upgrade():
            self._stay_with_http_1()
            return
        self._body_awaited = True
        if self.has_short_way and (self.cycle is None or self.cycle.response_complete):
            known = self.gateway.known.get((self.parser.get_method(), self.url))
            if known is not None and self.parser.get_http_version() == "1.1":
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers}
                if self.gateway.is_plain(headers):
                    head = Head(known, headers, int(headers["content-length"]), self.parser.should_keep_alive())
                    self._remember(head)
                    self.cycle = cast("RequestResponseCycle", Exchange(self, head))
                    return
        self._raw_head = None
        url, headers_given = self.url, self.headers
        super().on_message_begin()
        self.url, self.headers = url, headers_given
        self.scope["headers"] = headers_given
        self.expect_100_continue = any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in headers_given
        )
        super().on_headers_complete()

    def _stay_with_http_1(self) -> None:
        """Java's client asks every new server for HTTP/2. The parser takes such a request for the end of HTTP and skips
        its body; it is read again without the question, which a server may ignore."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(405, "CONNECT is not spoken here: this server is no proxy")
            return
        kept = [line for line in self.headers if line[0] not in (b"upgrade", b"http2-settings", b"connection")]
        if not self.parser.should_keep_alive():
            kept.append((b"connection", b"close"))
        lines = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % line for line in kept]
        self._raw_head = None
        self._again = b"\r\n".join((*lines, b"", b""))

    def _remember(self, head: Head) -> None:
        raw, self._raw_head = self._raw_head, None
        if raw is None or "x-request-id" in head.headers or not head.length:
            return
        if raw.count(b"\n") != raw.count(b"\r\n"):  # where such a head ends is the parser's business alone
            return
        if len(self.heads) >= _MAX_HEADS:
            self.heads.clear()
        self.heads[raw] = head

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.body.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        if self._again is not None or self.transport.is_closing():
            return
        self._body_awaited = False
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            self._start(cycle)
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """uvicorn's, without its timer for every request."""
        self.server_state.total_requests += 1
        self._heard = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)


class Exchange:
    """One request on the short way, where uvicorn has its cycle."""

    __slots__ = ("_cycle", "_head", "_protocol", "body", "disconnected", "keep_alive", "response_complete", "task")

    def __init__(self, protocol: FrontProtocol, head: Head) -> None:
        self._protocol = protocol
        self._head = head
        self._cycle: RequestResponseCycle | None = None
        self.body: list[bytes] = []
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = head.keep_alive
        self.task: asyncio.Task[None] | None = None

    @property
    def message_event(self) -> Exchange:
        """What uvicorn sets when the caller has gone."""
        return self

    def set(self) -> None:
        """The caller has gone: nobody wants the answer."""
        if self.task is not None and not self.response_complete:
            self.task.cancel()

    async def run(self) -> None:
        """From the whole body to the written answer."""
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        gateway = self._protocol.gateway
        gateway.in_flight += 1
        try:
            response, request_id = await gateway.answer(self._head.known, self._head.headers, body, self._receive)
            if response.stream is not None or self._cycle is not None:  # a cycle that was begun has to end
                await gateway.send(response, request_id, "POST", cast("Send", self._ordinary().send))
            else:
                self._write(response, request_id)
        finally:
            gateway.in_flight -= 1

    async def _receive(self) -> dict[str, Any]:
        """All that is left to hear is that the caller has gone."""
        return cast("dict[str, Any]", await self._ordinary().receive())

    def _ordinary(self) -> RequestResponseCycle:
        """From here on uvicorn's own cycle: an answer in parts is its business."""
        if self._cycle is None:
            protocol = self._protocol
            self._cycle = RequestResponseCycle(
                scope=cast("Any", {"type": "http", "method": "POST"}), transport=protocol.transport,
                flow=protocol.flow, logger=protocol.logger, access_logger=protocol.access_logger, access_log=False,
                default_headers=[], message_event=asyncio.Event(), expect_100_continue=False,
                keep_alive=self.keep_alive, on_response=protocol.on_response_complete,
            )  # fmt: skip
            self._cycle.more_body = False
            if cast("object", protocol.cycle) is self:  # else the next request has come already
                protocol.cycle = self._cycle
        return self._cycle

    def _write(self, response: HttpResponse, request_id: str) -> None:
        protocol = self._protocol
        body = response.body
        if response.plain and self.keep_alive and not protocol.gateway.draining and type(body) is bytes:
            protocol.transport.write(_PLAIN % (request_id.encode(), len(body), body))
            self.response_complete = True
            protocol.on_response_complete()
            return
        buffers = [response.body] if isinstance(response.body, bytes) else response.body
        size = sum(len(buffer) for buffer in buffers)
        lines = [
            STATUS_LINE[response.status],
            f"content-type: {response.content_type}\r\nx-request-id: {request_id}\r\ncontent-length: {size}\r\n".encode(
                "latin-1"
            ),
        ]
        for name, value in response.headers:
            raw = value.encode("latin-1", "replace")
            if not HEADER_VALUE_RE.search(raw):
                lines.append(b"%s: %s\r\n" % (name.lower().encode("latin-1"), raw))
        if protocol.gateway.draining or not self.keep_alive:
            self.keep_alive = False
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if size <= _ONE_WRITE:
            protocol.transport.write(b"".join((*lines, *buffers)))
        else:
            protocol.transport.write(b"".join(lines))
            for buffer in buffers:
                protocol.transport.write(buffer)
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()
