"""Spans of a request from the socket to the runtime, sent by OTLP over HTTP.

    POST /v2/models/{}/infer      the server's span; its parent is the caller's ``traceparent``
    └─ modelport.infer            from the data plane's door to the answer: endpoint, version, rows, replica
       ├─ modelport.queue         until a replica took it
       └─ modelport.run           the runtime's own time; ``modelport.batch_size`` is what shared the run

On when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set, and set up by OpenTelemetry's own variables; only then is this module
imported. A replica knows no tracing: it reports how long its run took, and the span is placed in the middle between
the frame's way out and back.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from modelport.api.health import LIVE, READY
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.requests import InferRequest, InferResult
from modelport.errors import MissingExtra, ModelportError
from modelport.telemetry import log

try:
    from opentelemetry import context, trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    raise MissingExtra("otel", "tracing (OTEL_EXPORTER_OTLP_ENDPOINT is set)") from None

_NOT_TRACED = frozenset((*LIVE, *READY, "/v2/health/live", "/v2/health/ready", "/metrics"))
_NAMED = re.compile(r"(?<=/)(models|versions|labels|predict|endpoints|deployments|blobs|keys|repository)/[^/:]+")
_CLOSE_S = 3.0

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Tracing:
    """The tracer of one gateway process."""

    def __init__(self) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "modelport")
        self._provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("modelport")
        self._propagator = TraceContextTextMapPropagator()

    def plane(self, default_timeout_s: float) -> DataPlane:
        """A data plane whose inferences are spans."""
        return TracedPlane(default_timeout_s, self._tracer)

    def begin(self, name: str, carrier: Mapping[str, str]) -> Span:
        """The span of one call from outside, ended by whoever asked for it. The calling task is the call's own."""
        parent = self._propagator.extract(carrier)
        span = self._tracer.start_span(name, parent, kind=SpanKind.SERVER)
        context.attach(trace.set_span_in_context(span))
        return span

    def traceparent(self, span: Span) -> str:
        """The span as a caller's own tracing knows it."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span))
        return carrier["traceparent"]

    def around(self, app: Any) -> Any:
        """An ASGI application with a span for every request that is not a probe; answers carry ``traceparent``."""

        async def traced(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] in _NOT_TRACED:
                await app(scope, receive, send)
                return
            method, route = scope["method"], _NAMED.sub(r"\1/{}", scope["path"])
            headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
            span = self.begin(f"{method} {route}", headers)
            span.set_attributes({"http.request.method": method, "http.route": route, "url.path": scope["path"]})

            async def seen(message: dict[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    _note_answer(span, message)
                    message["headers"].append((b"traceparent", self.traceparent(span).encode()))
                await send(message)

            try:
                await app(scope, receive, seen)
            finally:
                span.end()

        return traced

    def close(self) -> None:
        """Send what has not been sent, within 3 s: a collector that is away must not hold up the end."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_CLOSE_S)


def start() -> Tracing | None:
    """The tracer that the environment asks for; None, with a line in the log, where it cannot be had."""
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL"))
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    if protocol not in (None, "http/protobuf"):
        log("tracing_is_off", reason=f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; here it is http/protobuf")
        return None
    return Tracing()


def _note_answer(span: Span, message: dict[str, Any]) -> None:
    status = message["status"]
    span.set_attribute("http.response.status_code", status)
    request_id = dict(message["headers"]).get(b"x-request-id")
    if request_id is not None:
        span.set_attribute("modelport.request_id", request_id.decode("latin-1"))
    if status >= 500:
        span.set_status(StatusCode.ERROR)


class TracedPlane(DataPlane):
    """A data plane that leaves spans; everything else is as without."""

    def __init__(self, default_timeout_s: float, tracer: Tracer) -> None:
        super().__init__(default_timeout_s)
        self._tracer = tracer

    async def infer(self, endpoint: Endpoint, request: InferRequest) -> InferResult:
        started = time.time_ns()
        span = self._begin("modelport.infer", started, endpoint, request)
        try:
            result = await super().infer(endpoint, request)
            self._divide(span, started, result)
        except BaseException as error:
            _note_failure(span, error)
            raise
        finally:
            span.end()
        return result

    async def stream(self, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
        if not endpoint.route.streams:
            yield await self.infer(endpoint, request)
            return
        started, parts = time.time_ns(), 0
        span = self._begin("modelport.stream", started, endpoint, request)
        try:
            async with aclosing(super().stream(endpoint, request)) as found:
                async for part in found:
                    if not parts:
                        self._child(span, "modelport.queue", started, started + part.queue_ns)
                        span.add_event("first part")
                    parts += 1
                    yield part
        except BaseException as error:
            _note_failure(span, error)
            raise
        finally:
            span.set_attribute("modelport.parts", parts)
            span.end()

    def _begin(self, name: str, started: int, endpoint: Endpoint, request: InferRequest) -> Span:
        route, span = endpoint.route, self._tracer.start_span(name, start_time=started)
        span.set_attributes(
            {
                "modelport.endpoint": route.name,
                "modelport.model": route.model,
                "modelport.version": route.version,
                "modelport.project": route.project,
                "modelport.request_id": request.request_id,
            }
        )
        return span

    def _divide(self, span: Span, started: int, result: InferResult) -> None:
        """The parts of an inference, by what its result tells of itself. Times in ns."""
        ended = time.time_ns()
        sent = min(started + result.queue_ns, ended)
        ran = min(result.compute_ns, ended - sent)
        began = sent + (ended - sent - ran) // 2
        self._child(span, "modelport.queue", started, sent)
        run: dict[str, str | int] = {"modelport.batch_size": result.run_rows, "modelport.replica": result.replica}
        self._child(span, "modelport.run", began, began + ran, run)
        span.set_attribute("modelport.queue_ms", result.queue_ns / 1e6)
        span.set_attributes(run)

    def _child(
        self, span: Span, name: str, start: int, end: int, attributes: Mapping[str, str | int] | None = None
    ) -> None:
        parent = trace.set_span_in_context(span)
        self._tracer.start_span(name, parent, attributes=attributes, start_time=start).end(end)


def _note_failure(span: Span, error: BaseException) -> None:
    if isinstance(error, ModelportError):
        span.set_attribute("error.type", error.code)
        span.set_status(StatusCode.ERROR, error.message)
    elif isinstance(error, Exception):
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR)
    else:
        span.set_attribute("error.type", "cancelled")
