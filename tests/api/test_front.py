"""The HTTP server from the wire: both ways through it give the same answers, on one connection, in any pieces."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from modelport.api import front
from modelport.api.front import Server
from modelport.api.gateway import Gateway, GatewayConfig
from modelport.engine.dataplane import Endpoint
from modelport.engine.requests import InferRequest, InferResult
from modelport.engine.routing import RoutingTable
from modelport.errors import ModelRejectedInput
from tests.api.plane import LocalPlane
from tests.onnx_models import identity, mlp

ROW = json.dumps({"data": [[1.0, 2.0, 3.0]]}).encode()


class SlowPlane(LocalPlane):
    """Waits before it answers when told to; knows who went away meanwhile."""

    delay_s = 0.0
    cancelled = 0

    async def infer(self, endpoint: Endpoint, request: InferRequest) -> InferResult:
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().infer(endpoint, request)

    async def stream(self, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
        await asyncio.sleep(0.01)  # as long as the replica thinks about it
        if request.inputs["input"][0, 0] < 0:
            raise ModelRejectedInput("the model refuses this")
        yield await super().infer(endpoint, request)


class Served:
    """A gateway in a thread."""

    def __init__(self, max_body: int = 100_000) -> None:
        self.plane = SlowPlane()
        self.plane.deploy("m", mlp((3, 8, 2)))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.app: Gateway
        self._server: Server
        self._max_body = max_body
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._up.wait(10)

    async def _run(self) -> None:
        config = GatewayConfig("127.0.0.1", max_body=self._max_body)
        self.app = Gateway(config, None, self.plane)
        self.app.authenticate.update(RoutingTable(1))
        self.app.open = True
        self._server = Server(self.app, config)
        self._up.set()
        await self._server.serve_on([self.listener])

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self.listener.close()

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), timeout=10)


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.stop()


def request(body: bytes = ROW, path: str = "/predict/m", method: str = "POST", **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode() + body


def read(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1)
        assert more, f"the connection ended after {data!r}"
        data += more
    head, _, _ = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = b""
    while len(body) < int(headers["content-length"]):
        body += connection.recv(int(headers["content-length"]) - len(body))
    return int(first.split()[1]), headers, body


def exchange(connection: socket.socket, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    connection.sendall(raw)
    return read(connection)


def test_the_second_request_goes_the_short_way_and_answers_the_same(served: Served) -> None:
    with served.connect() as connection:
        first = exchange(connection, request())
        assert (b"POST", b"/predict/m") in served.app.known
        second = exchange(connection, request())
    assert first[0] == second[0] == 200
    assert first[2] == second[2]
    assert first[1].keys() == second[1].keys()
    assert served.app.http["predict", "m", 200] == 2


@pytest.mark.parametrize("size", [1, 7, 40])
def test_a_request_may_come_in_any_pieces(served: Served, size: int) -> None:
    with served.connect() as connection:
        expected = exchange(connection, request())[2]
        raw = request()
        for start in range(0, len(raw), size):
            connection.sendall(raw[start : start + size])
            time.sleep(0.0005)
        assert read(connection)[2] == expected


def test_pipelined_requests_are_answered_in_their_order(served: Served) -> None:
    with served.connect() as connection:
        exchange(connection, request())
        rows = [json.dumps({"data": [[float(i), 1.0, 2.0]]}).encode() for i in range(8)]
        ids = [f"id-{i}" for i in range(8)]
        connection.sendall(b"".join(request(row, x_request_id=name) for row, name in zip(rows, ids, strict=True)))
        answers = [read(connection) for _ in rows]
    assert [headers["x-request-id"] for _, headers, _ in answers] == ids
    assert [status for status, _, _ in answers] == [200] * 8


@pytest.mark.parametrize(
    ("raw", "status", "word"),
    [
        (request(b"{"), 400, b"JSON"),
        (request(b'{"data": [[1.0]]}'), 400, b"shape"),
        (request(content_encoding="br"), 415, b"br"),
        (request(b"x" * 100_001), 413, b"MAX_BODY"),
        (request(method="PUT"), 405, b"POST"),
        (request(path="/predict/other"), 404, b"other"),
        (request(authorization="Bearer mp_nobody"), 401, b"key"),
    ],
)
def test_bad_requests_are_refused_and_the_connection_serves_on(
    served: Served, raw: bytes, status: int, word: bytes
) -> None:
    with served.connect() as connection:
        assert exchange(connection, request())[0] == 200
        found = exchange(connection, raw)
        assert found[0] == status
        assert word in found[2]
    with served.connect() as connection:
        assert exchange(connection, request())[0] == 200


def test_chunked_and_packed_bodies_and_old_http_go_the_other_way(served: Served) -> None:
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ROW), ROW)
    head = b"POST /predict/m HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with served.connect() as connection:
        expected = exchange(connection, request())[2]
        assert exchange(connection, head + chunk)[2] == expected
        assert exchange(connection, request())[2] == expected
        connection.sendall(request(expect="100-continue"))
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert read(connection)[2] == expected
        old = exchange(connection, request().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert old[2] == expected
        assert connection.recv(1) == b""


def test_a_caller_that_would_rather_speak_http_2_is_answered_in_http_1(served: Served) -> None:
    """What Java's client says to every server that it does not know yet."""
    raw = request(connection="Upgrade, HTTP2-Settings", upgrade="h2c", http2_settings="AAEAAEAAAAIAAAABAAMAAABk")
    with served.connect() as connection:
        expected = exchange(connection, request())[2]
        for _ in range(3):
            assert exchange(connection, raw)[2] == expected
        assert exchange(connection, request())[2] == expected
    with served.connect() as connection:
        chunked = raw.partition(b"\r\n\r\n")[0].replace(b"content-length: %d" % len(ROW), b"transfer-encoding: chunked")
        pieces = chunked + b"\r\n\r\n", b"%x\r\n" % len(ROW) + ROW[:5], ROW[5:] + b"\r\n0\r\n\r\n"
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.01)
        assert read(connection)[2] == expected
        connection.sendall(
            b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        assert read(connection)[0] == 200
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
        assert read(connection)[0] == 405


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST /predict/m HTTP/9.9\r\n\r\n"])
def test_what_is_not_http_is_told_so(served: Served, junk: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(junk)
        assert read(connection)[0] == 400


def test_a_caller_that_goes_away_cancels_its_request(served: Served) -> None:
    with served.connect() as connection:
        exchange(connection, request())
        served.plane.delay_s = 30
        connection.sendall(request())
        _until(lambda: served.app.in_flight == 1)
    _until(lambda: served.plane.cancelled == 1 and served.app.in_flight == 0)


def test_an_endless_head_is_refused(served: Served) -> None:
    with served.connect() as connection:
        connection.sendall(b"POST /predict/m HTTP/1.1\r\n")
        answered = b""
        try:
            for number in range(2000):
                connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 100))
            answered = connection.recv(1000)
        except OSError:
            return
        assert answered.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /predict/m HTTP/1.1\r\nhost: x",
        request()[:-5],
        request(content_encoding="gzip")[:-5],
        b"POST /predict/m HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
    ],
)
def test_a_head_or_body_that_does_not_arrive_ends_its_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    with served.connect() as connection:
        exchange(connection, request())
    monkeypatch.setattr(front, "_STALL_S", 0.2)
    monkeypatch.setattr(front, "_LOOK_EVERY_S", 0.1)
    with served.connect() as connection:
        connection.sendall(sent)
        assert connection.recv(12) == b"HTTP/1.1 408"


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_KEEP_ALIVE_S", 0.3)
    monkeypatch.setattr(front, "_LOOK_EVERY_S", 0.1)
    with served.connect() as connection:
        exchange(connection, request())
        served.plane.delay_s = 1
        assert exchange(connection, request())[0] == 200
        assert connection.recv(1) == b""


def test_an_answer_that_nobody_reads_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_STALL_S", 0.3)
    monkeypatch.setattr(front, "_LOOK_EVERY_S", 0.1)
    served = Served(max_body=50_000_000)
    served.plane.deploy("wide", identity(shape=(1, -1)))
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 4_000_000], "data": [0] * 4_000_000}
    raw = request(json.dumps({"inputs": [tensor]}).encode(), "/v2/models/wide/infer")
    try:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(served.listener.getsockname())
            reader.sendall(raw)
            _until(lambda: served.connections == 1)
            _until(lambda: served.connections == 0)
    finally:
        served.stop()


def test_draining_says_so_and_hangs_up(served: Served) -> None:
    with served.connect() as connection:
        exchange(connection, request())
        served.app.draining = True
        status, headers, _ = exchange(connection, request())
        assert (status, headers["connection"]) == (200, "close")
        assert connection.recv(1) == b""


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_names_that_nobody_deployed_are_not_counted_by_name(served: Served) -> None:
    with served.connect() as connection:
        for number in range(20):
            assert exchange(connection, request(path=f"/predict/invented-{number}"))[0] == 404
            assert exchange(connection, request(path=f"/predict/x-{number}", authorization="Bearer mp_no"))[0] == 401
        assert exchange(connection, request(b"{"))[0] == 400
    assert served.app.http == {("predict", "", 404): 20, ("predict", "", 401): 20, ("predict", "m", 400): 1}


def test_a_stream_that_is_refused_before_it_begins_leaves_the_connection_free(served: Served) -> None:
    def stream(first: float) -> bytes:
        return request(json.dumps({"input": [[first, 2.0, 3.0]]}).encode(), "/v2/models/m/generate_stream")

    with served.connect() as connection:
        connection.sendall(stream(1))
        with connection.makefile("rb") as lines:  # a path takes the short way once it has answered well
            while lines.readline() != b"0\r\n":
                pass
    with served.connect() as connection:
        for _ in range(3):
            status, _, body = exchange(connection, stream(-1))
            assert (status, b"refuses this" in body) == (400, True)
            assert exchange(connection, request())[0] == 200
