"""Callers that offer a rate whatever the answers do, in a process of their own: HTTP/1.1 keep-alive, gRPC, streams.

``python -m tests.chaos.client PLAN`` calls until its input ends, waits for what is under way, and prints what became
of every request as JSON. A latency counts from when the request was due, so that one that had to wait for a
connection is not flattered. Knows sockets and bytes; knows nothing of Modelport.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import grpc
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2, service_pb2_grpc

_TICK_S = 0.001
_END_S = 70.0
"""How long answers may take after the last request: longer than any deadline."""
_EXAMPLES = 5


@dataclass
class Plan:
    """What one group of callers does; the fields that its kind wants."""

    name: str
    kind: str
    """``http``, ``grpc`` or ``stream``."""
    url: str
    path: str = ""
    bodies: list[str] = field(default_factory=list)
    """Sent in turn."""
    expected: list[str] = field(default_factory=list)
    """What the answer to each holds; empty: anything."""
    headers: dict[str, str] = field(default_factory=dict)
    rate: float = 100.0
    """Requests per second; 0 for a closed loop; for streams how many are open at a time."""
    poisson: bool = False
    """Whether requests come at random moments, not at even ones."""
    connections: int = 16
    most_connections: int = 400
    model: str = ""
    parts: int = 0
    """Events of one whole stream."""


class Account:
    """What became of the requests of one group."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sent = self.answered = self.reconnects = 0
        self.statuses: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.examples: list[str] = []
        self.latencies = array("d")
        self.refused = array("d")
        """Seconds until a 429."""
        self.longest_gap_s = 0.0
        self.last_answer = self.began = time.monotonic()

    def answer(self, status: int, seconds: float) -> None:
        now = time.monotonic()
        self.statuses[status] += 1
        if status == 200:
            self.answered += 1
            self.latencies.append(seconds)
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_answer)
            self.last_answer = now
        elif status == 429:
            self.refused.append(seconds)

    def fail(self, reason: str, example: str = "") -> None:
        self.failures[reason] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"after {time.monotonic() - self.began:.2f} s: {reason} {example[:300]}")

    def report(self) -> dict[str, Any]:
        return {
            "sent": self.sent, "answered": self.answered, "statuses": dict(self.statuses),
            "failures": dict(self.failures), "examples": self.examples, "reconnects": self.reconnects,
            "longest_gap_s": round(self.longest_gap_s, 3), "seconds": round(time.monotonic() - self.began, 2),
            "latency_ms": _quantiles(self.latencies), "refused_ms": _quantiles(self.refused),
        }  # fmt: skip


def _quantiles(seconds: array[float]) -> dict[str, float]:
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        name: round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))
    }


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, callers: HttpCallers) -> None:
        self._callers = callers
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self.due = 0.0
        self.number = -1
        """Of the request under way; -1 for none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, number: int, due: float) -> None:
        assert self._transport is not None
        self.number, self.due = number, due
        self._transport.write(self._callers.requests[number % len(self._callers.requests)])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + length], b""
        number, self.number = self.number, -1
        self._callers.answered(number, int(head[9:12]), body, time.monotonic() - self.due)
        if b"connection: close" in head:
            self._callers.gone(self)
            self.close()
        else:
            self._callers.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.number >= 0:
            number, self.number = self.number, -1
            cut = "after a part of the answer" if self._buffer else "without an answer"
            self._callers.account.fail(f"connection lost {cut}", f"request {number} {exc!r}")
        self._callers.gone(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class HttpCallers:
    """An open loop over keep-alive connections; more are opened when all are busy."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.account = Account(plan)
        parts = urlsplit(plan.url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        extra = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
        self.requests = [
            f"POST {plan.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n{extra}"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
            for body in plan.bodies
        ]
        self._expected = [text.encode() for text in plan.expected]
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._due: deque[float] = deque()
        self._ended = False

    async def run(self, ended: asyncio.Event) -> None:
        for _ in range(self.plan.connections):
            self._open()
        if self._opening:
            await asyncio.wait(self._opening)
        following = self.account.began = self.account.last_answer = time.monotonic()
        chance = random.Random(1)
        while not ended.is_set():
            now = time.monotonic()
            if not self.plan.rate:
                self._due.extend(now for _ in self._idle)
            while self.plan.rate and following <= now:
                self._due.append(following)
                following += chance.expovariate(self.plan.rate) if self.plan.poisson else 1 / self.plan.rate
            self._dispatch()
            await asyncio.sleep(_TICK_S)
        self._ended = True
        deadline = time.monotonic() + _END_S
        while (self._due or any(c.number >= 0 for c in self._all)) and time.monotonic() < deadline:
            self._dispatch()
            await asyncio.sleep(0.01)
        for connection in self._all:
            if connection.number >= 0:
                self.account.fail("no answer")
                connection.number = -1
        for _ in self._due:
            self.account.fail("never sent: no connection")

    def _dispatch(self) -> None:
        while self._due and self._idle:
            self._idle.popleft().send(self.account.sent, self._due.popleft())
            self.account.sent += 1
        missing = len(self._due) - len(self._opening)
        room = self.plan.most_connections - len(self._all) - len(self._opening)
        for _ in range(min(missing, room)):
            self._open()

    def _open(self) -> None:
        task = asyncio.ensure_future(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError as error:
            self.account.fail("connection refused", repr(error))
            await asyncio.sleep(0.05)
            return
        self._all.add(connection)
        self._idle.append(connection)

    def answered(self, number: int, status: int, body: bytes, seconds: float) -> None:
        expected = self._expected[number % len(self._expected)] if self._expected else b""
        self.account.answer(status, seconds)
        if status not in (200, 429):
            self.account.fail(f"status {status}", body.decode(errors="replace"))
        elif status == 200 and expected not in body:
            self.account.fail("another answer", f"{expected!r} is not in {body!r}")

    def free(self, connection: Connection) -> None:
        if self.plan.rate or self._ended:
            self._idle.append(connection)
        else:  # the next at once
            connection.send(self.account.sent, time.monotonic())
            self.account.sent += 1

    def gone(self, connection: Connection) -> None:
        if connection in self._all:
            self._all.discard(connection)
            self.account.reconnects += 1
            if connection in self._idle:
                self._idle.remove(connection)


class GrpcCallers:
    """An open loop of ModelInfer on one channel."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.account = Account(plan)
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, ended: asyncio.Event) -> None:
        async with grpc.aio.insecure_channel(self.plan.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            start = time.monotonic()
            self.account.began = self.account.last_answer = start
            while not ended.is_set():
                while start + self.account.sent / self.plan.rate <= time.monotonic():
                    task = asyncio.ensure_future(self._call(stub, self.account.sent))
                    self.account.sent += 1
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                await asyncio.sleep(_TICK_S)
            if self._running:
                await asyncio.wait(self._running, timeout=_END_S)
            for _ in self._running:
                self.account.fail("no answer")

    async def _call(self, stub: Any, number: int) -> None:
        tensor = service_pb2.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[1, 1])
        tensor.contents.fp32_contents.append(float(number % 1000))
        request = service_pb2.ModelInferRequest(model_name=self.plan.model, inputs=[tensor])
        due = time.monotonic()
        metadata = tuple(self.plan.headers.items())
        try:
            answer = await stub.ModelInfer(request, timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined]
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.account.answer(429, time.monotonic() - due)
            else:
                self.account.fail(f"gRPC {code.name}", str(error.details()))  # type: ignore[attr-defined]
            return
        self.account.answer(200, time.monotonic() - due)
        found = answer.raw_output_contents
        value = np.frombuffer(found[0], np.float32)[0] if found else answer.outputs[0].contents.fp32_contents[0]
        if value != number % 1000:
            self.account.fail("another answer", f"{value} to {number % 1000}")


class StreamCallers:
    """So many streams open at any time, each read to its end."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.account = Account(plan)

    async def run(self, ended: asyncio.Event) -> None:
        self.account.began = self.account.last_answer = time.monotonic()
        await asyncio.gather(*(self._keep_open(ended) for _ in range(int(self.plan.rate))))

    async def _keep_open(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            began = time.monotonic()
            self.account.sent += 1
            try:
                await asyncio.wait_for(self._read_one(began), _END_S)
            except TimeoutError:
                self.account.fail("no answer")
            except (OSError, asyncio.IncompleteReadError) as error:
                self.account.fail("stream cut", repr(error))
                await asyncio.sleep(0.05)

    async def _read_one(self, began: float) -> None:
        parts = urlsplit(self.plan.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = self.plan.bodies[0]
        extra = "".join(f"{name}: {value}\r\n" for name, value in self.plan.headers.items())
        writer.write(
            f"POST {self.plan.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n{extra}"
            f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )
        try:
            text = await reader.read()
            while chunk := await reader.read():
                text += chunk
        finally:
            writer.close()
        status = int(text[9:12] or b"0")
        events = text.count(b"data: {")
        if status == 200 and b'"error"' not in text and events == self.plan.parts and text.endswith(b"0\r\n\r\n"):
            self.account.answer(200, time.monotonic() - began)
            return
        self.account.statuses[status] += 1
        died = b"died in the middle of this stream" in text
        reason = "its replica died" if died else f"status {status}, {events} of {self.plan.parts} parts"
        self.account.fail(reason, text[-200:].decode(errors="replace"))


KINDS: dict[str, Any] = {"http": HttpCallers, "grpc": GrpcCallers, "stream": StreamCallers}


async def _main(plans: list[Plan]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    groups = [KINDS[plan.kind](plan) for plan in plans]
    running = asyncio.gather(*(group.run(ended) for group in groups))
    sys.stdout.write("\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    ended.set()
    await running
    print(json.dumps({group.plan.name: group.account.report() for group in groups}))


def main() -> None:
    plans = [Plan(**plan) for plan in json.loads(sys.argv[1])]
    gc.disable()  # its pauses would be taken for the server's
    uvloop.run(_main(plans))


if __name__ == "__main__":
    main()
