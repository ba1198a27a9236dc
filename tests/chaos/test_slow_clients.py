"""Callers that send or read at a snail's pace: the others do not feel them, and their connections end."""

from __future__ import annotations

import json
import socket
import threading
import time
from types import TracebackType

import pytest

from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, deployed, http, of
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
SECONDS = 60 if LONG else 4
HEADS, CHUNKS, READERS, STREAM_READERS = 200, 50, 20, 10
VALUES = 500_000
SLOWER = 2.0 if LONG else 4.0
SLACK_MS = 0.0 if LONG else 10.0
STALL_S = 30
"""How long the server lets them be."""


class Snails:
    """Connections that say a head byte by byte, a body six bytes at a time, and never read."""

    def __init__(self, server: Server) -> None:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        self._address = host, int(port)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._crawl)
        self._heads = [self._open() for _ in range(HEADS)]
        self._chunked = [self._open() for _ in range(CHUNKS)]
        for connection in self._chunked:
            connection.sendall(_head("crawled", "transfer-encoding: chunked"))
        tensor = {"name": "input", "datatype": "FP32", "shape": [1, VALUES], "data": [0.5] * VALUES}
        wide = json.dumps({"inputs": [tensor]})
        self.readers = [self._open(4096) for _ in range(READERS)]
        for connection in self.readers:
            connection.sendall(_head("wide", f"content-length: {len(wide)}") + wide.encode())
        words = json.dumps({"text_input": f"{'w' * 100_000} " * 40, "pause_ms": [1]})
        self.stream_readers = [self._open(4096) for _ in range(STREAM_READERS)]
        for connection in self.stream_readers:
            connection.sendall(_head("told", f"content-length: {len(words)}", "generate_stream") + words.encode())
        self._at = 0

    def _open(self, window: int = 0) -> socket.socket:
        connection = socket.socket()
        if window:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        connection.connect(self._address)
        return connection

    def _crawl(self) -> None:
        head = _head("crawled", "x-slow: " + "y" * 10_000)
        while not self._ended.wait(1.0):
            for connection in self._heads:
                _say(connection, head[self._at : self._at + 1])
            for connection in self._chunked:
                _say(connection, b"6\r\n      \r\n")
            self._at += 1

    def __enter__(self) -> Snails:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for connection in (*self._heads, *self._chunked, *self.readers, *self.stream_readers):
            connection.close()


def _head(model: str, line: str, verb: str = "infer") -> bytes:
    return f"POST /v2/models/{model}/{verb} HTTP/1.1\r\nhost: localhost\r\n{line}\r\n\r\n".encode()


def _say(connection: socket.socket, text: bytes) -> None:
    try:
        connection.send(text)
    except OSError:  # the server has had enough
        return


def handles(server: Server) -> int:
    return sum(process.num_fds() for process in of(server, "modelport.api.gateway"))


@pytest.mark.long
def test_slow_callers_do_not_slow_the_others(tree: Server, line: Line) -> None:
    with (
        deployed(tree, "crawled", naps.model(), **naps.spec(1, replicas=2)),
        deployed(tree, "wide", naps.model("wide"), **naps.spec(0)),
        deployed(tree, "told", naps.words(), runtime="words"),
    ):
        with Callers(tree, [http(tree, "crawled", 300)]) as alone:
            time.sleep(SECONDS)
        before = handles(tree)
        with Snails(tree):
            time.sleep(2)
            held = handles(tree) - before
            with Callers(tree, [http(tree, "crawled", 300)]) as callers:
                time.sleep(SECONDS)
            if LONG:  # those who do not read, and those whose heads do not come, are not waited for
                time.sleep(STALL_S + 10)
                left = handles(tree) - before
                assert left <= CHUNKS + 10, f"{left} of {held} connections are still held"
        time.sleep(0.5)
        left = handles(tree) - before
    quiet, slow = alone["HTTP"]["latency_ms"], callers["HTTP"]["latency_ms"]
    line(
        f"{HEADS + CHUNKS + READERS + STREAM_READERS} slow callers", callers,
        f"p99 {quiet['p99']:.1f} ms without, {slow['p99']:.1f} ms with them ({slow['p99'] / quiet['p99']:.1f} x); "
        f"p50 {quiet['p50']:.1f}, {slow['p50']:.1f}; handles {held:+d}, {left:+d} after",
    )  # fmt: skip
    assert callers.failures == {}
    assert slow["p99"] <= SLOWER * quiet["p99"] + SLACK_MS
    assert held >= HEADS + CHUNKS
    assert left <= 5
