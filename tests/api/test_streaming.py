"""Answers in parts with a caller who reads slowly, or goes away: what is made waits for who reads it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from modelport.api.inference_grpc import serve_grpc
from modelport.api.messages import Caller
from modelport.api.streaming import events, until_gone
from modelport.engine.dataplane import Endpoint
from modelport.engine.requests import InferRequest, InferResult
from modelport.errors import Cancelled, RunFailed
from tests.api.plane import LocalPlane, zoo


class Parts:
    """Counts what it makes, without end; knows when it was closed."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.made, self.closed, self._fails_at = 0, False, fails_at

    async def __call__(self) -> AsyncGenerator[dict[str, int]]:
        try:
            while True:
                if self.made == self._fails_at:
                    raise RunFailed("the replica died")
                yield {"part": self.made}
                self.made += 1
        finally:
            self.closed = True


async def for_ever() -> dict[str, Any]:
    await asyncio.sleep(3600)
    raise AssertionError


async def test_an_event_is_made_when_the_one_before_has_been_taken() -> None:
    parts = Parts()
    stream = events(parts()).stream
    assert stream is not None
    chunks = until_gone(stream, for_ever)
    for expected in range(3):
        assert json.loads((await anext(chunks)).removeprefix(b"data: ")) == {"part": expected}
        await asyncio.sleep(0.01)
        assert parts.made == expected
    await chunks.aclose()
    assert parts.closed


async def test_who_goes_away_closes_what_is_made() -> None:
    gone, parts = asyncio.Event(), Parts()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def slow() -> AsyncGenerator[bytes]:
        try:
            async for part in parts():
                yield str(part).encode()
                await asyncio.sleep(3600)
        finally:
            parts.closed = True

    chunks = until_gone(slow(), receive)
    await anext(chunks)
    asyncio.get_running_loop().call_later(0.05, gone.set)
    with pytest.raises(Cancelled):
        await asyncio.wait_for(anext(chunks), 10)
    assert parts.closed


async def test_an_error_is_an_answer_before_the_first_event_and_an_event_after_it() -> None:
    for at in (0, 2):
        stream = events(Parts(fails_at=at)()).stream
        assert stream is not None
        if at == 0:
            with pytest.raises(RunFailed):
                await anext(stream)
        else:
            said = [json.loads(chunk.removeprefix(b"data: ")) async for chunk in stream]
            assert said == [{"part": 0}, {"part": 1}, {"error": "the replica died"}]


async def test_a_grpc_stream_makes_no_more_than_its_reader_takes(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane: LocalPlane = zoo()
    made, closed = 0, asyncio.Event()

    async def stream(endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
        nonlocal made
        try:
            while True:
                made += 1
                yield InferResult({"output": np.zeros(250_000, np.float32)})
        finally:
            closed.set()

    monkeypatch.setattr(plane, "stream", stream)
    address = f"127.0.0.1:{free_port}"
    server = await serve_grpc(plane, lambda _: Caller(), address, credentials=None, max_message_bytes=1 << 20)
    async with grpc.aio.insecure_channel(address) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(
            iter([pb.ModelInferRequest(model_name="scalar")])
        )
        await call.read()
        await asyncio.sleep(1)
        assert made < 50  # of 1 MB each
        before = made
        for _ in range(60):
            await call.read()
        assert made > before
        call.cancel()
        await asyncio.wait_for(closed.wait(), 10)
    await server.stop(None)
