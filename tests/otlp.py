"""A collector of spans: OTLP over HTTP, as OpenTelemetry's own exporters send it."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """What a test wants to know of one span."""

    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    service: str
    failed: bool
    attributes: dict[str, Any]
    events: tuple[str, ...]


@dataclass
class Collector:
    """Everything that has arrived."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def until(self, enough: Callable[[list[Span]], bool]) -> list[Span]:
        """The spans, as soon as there are enough of them."""
        deadline = time.monotonic() + 20
        while not enough(self.spans):
            assert time.monotonic() < deadline, self.spans
            time.sleep(0.02)
        return self.spans

    def trace(self, trace: str, count: int) -> dict[str, Span]:
        """The spans of one trace by name, as soon as there are so many."""
        spans = self.until(lambda spans: sum(span.trace == trace for span in spans) >= count)
        return {span.name: span for span in spans if span.trace == trace}


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _read(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {item.key: _value(item.value) for item in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
                    span.start_time_unix_nano, span.end_time_unix_nano, about["service.name"],
                    span.status.code == 2, {item.key: _value(item.value) for item in span.attributes},
                    tuple(event.name for event in span.events),
                )  # fmt: skip


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port, ended with the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            collector.spans.extend(_read(body))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
