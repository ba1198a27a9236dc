"""One gateway: HTTP and gRPC on inherited sockets, no model inside, no state that matters.

Inference and health are answered here; every other route is streamed to control. Knows the adapters, the data plane
and who may call; ``front`` knows the HTTP server. The supervisor starts it with INDEX, FD and PULSE
(``modelport.starting``): it listens on FD, and says on the pipe PULSE that it lives, and when it leaves.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import resource
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from modelport.api import (
    anthropic,
    generate,
    health,
    inference_mlflow,
    inference_predict,
    inference_v1,
    inference_v2,
    openai,
)
from modelport.api.answers import NoSuchPath, error_answer, native_error_answer, notes
from modelport.api.anthropic.errors import error_answer as anthropic_error_answer
from modelport.api.auth import Authenticator
from modelport.api.bodies import read_body
from modelport.api.channel import Borrower, EndpointFigures, Report, follow_control
from modelport.api.front import Server
from modelport.api.messages import Caller, HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai.errors import error_answer as openai_error_answer
from modelport.api.proxy import ControlProxy, Receive, Send
from modelport.api.streaming import until_gone
from modelport.engine.dataplane import DataPlane
from modelport.engine.placement.pulse import ALIVE, EVERY_S, GOODBYE
from modelport.engine.requests import request_id_of
from modelport.engine.routing import RoutingTable
from modelport.errors import Cancelled, MethodNotAllowed, MissingExtra, ModelportError
from modelport.telemetry import configure, log

if TYPE_CHECKING:
    from modelport.api.tracing import Tracing

_DOCUMENTATION = ("/docs", "/openapi.json")
"""Of the routes that control answers, those that want no key: the same for everybody."""
_OPENAI = ("/v1/files", "/v1/batches")
_CONTROL_PREFIXES = ("/api/", "/metrics", "/v2/repository/", *_OPENAI, *_DOCUMENTATION)
ROOMS: dict[str, Any] = {
    "v2": inference_v2,
    "openai": openai,
    "anthropic": anthropic,
    "v1": inference_v1,
    "predict": inference_predict,
    "generate": generate,
    "mlflow": inference_mlflow,
    "health": health,
}
"""The adapters, by the name under which their requests are counted; the first whose path matches answers."""
_COLLECTOR = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_KNOWN_PATHS = 2048
_NOBODY = Caller(project="", role="nobody")
_ANY = re.compile("")
_DRAIN_S = 0.5
_GRACE_S = 25.0
"""How long gRPC calls under way may take when the gateway ends."""
_FIRST_TABLE_S = 5.0
"""How long callers are left in the kernel's queue until there is a table; then they are told that there is none."""
_GC_THRESHOLD = 20_000


@dataclass(slots=True)
class GatewayConfig:
    """What a gateway is told at its start."""

    host: str
    timeout_s: float = 60
    max_body: int = 256_000_000
    owner_token: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    grpc_address: str | None = None


@dataclass(slots=True)
class Known:
    """Who answers at a target."""

    protocol: str
    route: HttpRoute
    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]


class Gateway:
    """The ASGI application, over one data plane."""

    def __init__(self, config: GatewayConfig, proxy: ControlProxy | None, plane: DataPlane | None = None) -> None:
        self.tracing = _tracing()
        if plane is None:
            plane = DataPlane(config.timeout_s) if self.tracing is None else self.tracing.plane(config.timeout_s)
        self.plane = plane
        self.authenticate = Authenticator(config.host, config.owner_token)
        self.draining = False
        self.open = False
        """Set with the first routing table: before it, nobody's key could be checked."""
        self._opened = asyncio.Event()
        self.borrower = Borrower()
        if proxy is not None:
            plane.allowances.lender = self.borrower
        self.in_flight = 0
        self.http: Counter[tuple[str, str, int]] = Counter()
        """Answers by protocol, model and status."""
        self._limit = config.max_body
        self._proxy = proxy
        self.repository = proxy.repository if proxy is not None else None
        self._routes = [(name, route) for name, room in ROOMS.items() for route in room.routes(plane)]
        self.known: dict[tuple[bytes, bytes], Known] = {}
        """Who answers, by method and target as they stand on the wire, where that has gone well before."""

    def also(self, protocol: str, route: HttpRoute) -> None:
        """Answer one more path, where nobody else does."""
        self._routes.append((protocol, route))

    async def act(self, table: RoutingTable) -> None:
        """Go by a new routing table."""
        self.authenticate.update(table)
        await self.plane.update(table)
        self.open = True
        self._opened.set()

    async def opened(self, seconds: float) -> None:
        """Returns with the first routing table, or after so long without one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), seconds)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request, by the server."""
        if scope["type"] != "http":
            return
        self.in_flight += 1
        try:
            await self._handle(scope, receive, send)
        finally:
            self.in_flight -= 1

    async def _handle(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        method, path = scope["method"], scope["path"]
        if self._proxy is not None and path.startswith(_CONTROL_PREFIXES):
            await self._forward(scope, headers, receive, send)
            return
        query = scope["query_string"]
        target = (method.encode(), scope["raw_path"] + (b"?" + query if query else b""))
        known = self.known.get(target) or self._match(method, path, query)
        response, request_id = await self.answer(known, headers, None, receive)
        if response.status < 300 and target not in self.known:  # strangers cannot fill it
            if len(self.known) >= _KNOWN_PATHS:
                self.known.clear()
            self.known[target] = known
        await self.send(response, request_id, method, send)

    def is_plain(self, headers: dict[str, str]) -> bool:
        """Whether a body is of a known, allowed length and needs no unpacking."""
        length = headers.get("content-length", "")
        return (
            length.isascii()
            and length.isdigit()
            and int(length) <= self._limit
            and not ("transfer-encoding" in headers or "content-encoding" in headers or "expect" in headers)
        )

    async def answer(
        self, known: Known, headers: dict[str, str], body: bytes | None, receive: Receive
    ) -> tuple[HttpResponse, str]:
        """The answer to one request and its id. ``body`` is None where it is still to be received."""
        request_id, traced = request_id_of(headers.get("x-request-id"))
        route, caller, request = known.route, _NOBODY, None
        try:
            if not self.open and not route.public:
                raise NotYetOpen("the server is starting; try again in a moment")
            if not route.public:
                caller = self.authenticate(headers)
            if body is None:
                body = await read_body(receive, headers, self._limit) if route.method == "POST" else b""
            request = HttpRequest(known.method, known.path, known.query, headers, body, caller, request_id, traced)
            response = await route.handler(request, known.params)
            if response.stream is not None:
                response.stream = until_gone(response.stream, receive)
                response.body = await anext(response.stream, b"")
        except ModelportError as error:
            response = route.error(error)
        except Exception:
            log("internal_error", request_id=request_id, path=known.path, error=traceback.format_exc())
            response = route.error(ModelportError(f"internal error; the log has it under request id {request_id}"))
        if request is not None and request.asked is not None:
            response.headers += notes(request.asked)
        name = known.params.get("model", "")
        if response.status >= 400 and not self.plane.has(caller.project, name):  # inventions are not kept
            name = ""
        self.http[known.protocol, name, response.status] += 1
        return response, request_id

    def _match(self, method: str, path: str, query: bytes) -> Known:
        """Who answers at a path; for a path that is nobody's, somebody who says so."""
        parameters = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {}
        allowed: list[HttpRoute] = []
        for name, route in self._routes:
            found = route.pattern.fullmatch(path)
            if found is None:
                continue
            if route.method == method or (method == "HEAD" and route.method == "GET"):
                params = {k: v for k, v in found.groupdict().items() if v is not None}
                return Known(name, route, method, path, params, parameters)
            allowed.append(route)
        return Known("none", _refusal(method, path, allowed), method, path, {}, parameters)

    async def _forward(self, scope: dict[str, Any], headers: dict[str, str], receive: Receive, send: Send) -> None:
        assert self._proxy is not None
        path = scope["path"]
        request_id, _ = request_id_of(headers.get("x-request-id"))
        try:
            if not self.open:
                raise NotYetOpen("the server is starting; try again in a moment")
            if not path.startswith(_DOCUMENTATION):
                self.authenticate(headers)
            status = await self._proxy(scope, receive, send, request_id)
        except ModelportError as error:
            if path.startswith("/api/"):
                response = native_error_answer(error, request_id)
            else:
                response = openai_error_answer(error) if path.startswith(_OPENAI) else error_answer(error)
            status = response.status
            await self.send(response, request_id, scope["method"], send)
        self.http["api", "", status] += 1

    async def send(self, response: HttpResponse, request_id: str, method: str, send: Send) -> None:
        """Write an answer by ASGI."""
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        headers = [(b"content-type", response.content_type.encode()), (b"x-request-id", request_id.encode())]
        if response.stream is None:
            headers.append((b"content-length", str(len(body)).encode()))
        headers += [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in response.headers]
        if self.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        if response.stream is None:
            await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
        else:
            await _send_as_it_comes(body, response.stream, send)

    def report(self, index: int, with_figures: bool) -> Report:
        """What control wants to know of this gateway."""
        report = Report(index, os.getpid(), self.plane.number)
        if with_figures:
            for endpoint in self.plane.all_endpoints():
                route, dispatcher = endpoint.route, endpoint.dispatcher
                report.endpoints.append(
                    EndpointFigures(
                        route.project, route.name, route.model, route.version, endpoint.stats,
                        dispatcher.waiting, dispatcher.in_flight, dispatcher.texts,
                    )
                )  # fmt: skip
            report.http = {"|".join(map(str, key)): count for key, count in self.http.items()}
            report.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return report


async def _send_as_it_comes(first: bytes, rest: AsyncGenerator[bytes], send: Send) -> None:
    try:
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in rest:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except Cancelled:
        return
    finally:
        await rest.aclose()


def _refusal(method: str, path: str, allowed: list[HttpRoute]) -> HttpRoute:
    """What answers where nothing does, in the form of whoever answers there to other methods, or would.
    It wants a key: what exists is not told to strangers."""

    async def refuse(request: HttpRequest, params: dict[str, str]) -> HttpResponse:
        if allowed:
            methods = ", ".join(sorted({route.method for route in allowed}))
            raise MethodNotAllowed(f"this path takes {methods}, not {method[:20]}")
        raise NoSuchPath("there is nothing at this path; see /docs and the protocol's own paths")

    return HttpRoute("", _ANY, refuse, allowed[0].error if allowed else _form_at(path))


def _form_at(path: str) -> Callable[[ModelportError], HttpResponse]:
    """The form of errors where nobody answers: of the protocol whose paths begin so."""
    if f"{path}/".startswith("/v1/messages/"):
        return anthropic_error_answer
    return openai_error_answer if f"{path}/".startswith("/v1/") else error_answer


def _tracing() -> Tracing | None:
    """Spans cost an import, and some 0.3 ms of each request: only where the operator has named a collector."""
    if not any(name in os.environ for name in _COLLECTOR):
        return None
    try:
        from modelport.api import tracing  # noqa: PLC0415
    except MissingExtra as error:
        log("tracing_is_off", reason=error.message)
        return None
    return tracing.start()


class NotYetOpen(ModelportError):
    """The first routing table has not come yet."""

    code = "unavailable"
    status = 503
    grpc_status = "UNAVAILABLE"


async def serve_http(
    app: Gateway,
    sockets: Sequence[socket.socket],
    config: GatewayConfig,
    grpc_server: Any = None,
    leave: Callable[[], object] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is under way, announcing ``Connection: close`` first.

    The gRPC server ends with it, and the data plane after both. ``leave`` is called first.
    """
    server = Server(app, config)
    loop = asyncio.get_running_loop()
    grpc_ends: asyncio.Task[None] | None = None

    async def stop() -> None:
        nonlocal grpc_ends
        if app.draining:
            return
        app.draining = True
        if leave is not None:
            leave()
        if grpc_server is not None:
            grpc_ends = asyncio.ensure_future(grpc_server.stop(grace=_GRACE_S))
        await asyncio.sleep(_DRAIN_S if app.in_flight else 0.05)
        server.should_exit = True

    stopping: set[asyncio.Task[None]] = set()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, lambda: stopping.add(asyncio.ensure_future(stop())))
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)  # a request leaves no cycles behind; looking for them costs 3 %
    await server.serve_on(sockets)
    if grpc_ends is not None:
        await grpc_ends
    app.plane.close()
    if app.tracing is not None:
        app.tracing.close()


async def run(index: int, fd: int, pulse: int, boot: dict[str, Any]) -> None:
    """One gateway of the tree, until a signal."""
    http = boot["settings"]["http"]
    endpoint = boot["endpoint"]
    config = GatewayConfig(
        boot["host"], http["timeout_s"], http["max_body_mb"] * 1_000_000, endpoint["token"],
        boot["tls_certificate"], boot["tls_key"], _grpc_address(boot),
    )  # fmt: skip
    app = Gateway(config, ControlProxy())
    os.set_blocking(pulse, False)
    beating = asyncio.create_task(_beat(pulse))
    following = asyncio.create_task(follow_control(app.act, lambda figures: app.report(index, figures), app.borrower))
    await app.opened(_FIRST_TABLE_S)
    grpc_server = await start_grpc(app, config)
    await serve_http(app, [socket.socket(fileno=fd)], config, grpc_server, lambda: _say(pulse, GOODBYE))
    following.cancel()
    beating.cancel()


async def _beat(pulse: int) -> None:
    """By the loop that answers callers, so that its silence is theirs."""
    while True:
        _say(pulse, ALIVE)
        await asyncio.sleep(EVERY_S)


def _say(pulse: int, word: bytes) -> None:
    with suppress(OSError):  # nobody has listened for hours
        os.write(pulse, word)


def _grpc_address(boot: dict[str, Any]) -> str | None:
    endpoint = boot["endpoint"]["grpc"]
    if endpoint is None:
        return None
    host = boot["host"]
    return f"[{host}]:{endpoint.rpartition(':')[2]}" if ":" in host else f"{host}:{endpoint.rpartition(':')[2]}"


async def start_grpc(app: Gateway, config: GatewayConfig) -> Any:
    """The gRPC server of this gateway, or None when it is switched off."""
    if config.grpc_address is None:
        return None
    from modelport.api import inference_grpc  # noqa: PLC0415  (not paid for where gRPC is off)

    credentials = None
    if config.tls_certificate and config.tls_key:
        key, chain = Path(config.tls_key), Path(config.tls_certificate)
        credentials = inference_grpc.tls_credentials(
            await asyncio.to_thread(key.read_bytes), await asyncio.to_thread(chain.read_bytes)
        )
    return await inference_grpc.serve_grpc(
        app.plane,
        app.authenticate,
        config.grpc_address,
        credentials=credentials,
        max_message_bytes=config.max_body,
        repository=app.repository,
        tracing=app.tracing,
    )


def main() -> None:
    """Entry of the process."""
    boot = json.loads(os.environ.pop("MODELPORT_BOOT"))
    configure(boot["settings"]["log"]["level"])
    import uvloop  # noqa: PLC0415

    uvloop.run(run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), boot))


if __name__ == "__main__":
    main()
