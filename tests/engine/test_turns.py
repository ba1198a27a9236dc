"""Two gateways at one replica: whose turn it is, and that a batch grows until it is."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from modelport.engine import frames
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.frames import Item
from modelport.engine.requests import InferRequest
from modelport.engine.routing import RoutingTable
from modelport.engine.running import Running
from modelport.engine.turns import Turns
from tests import onnx_models
from tests.engine.replicas import Engine, engine

Sockets = tuple[socket.socket, ...]


@pytest.fixture
def gateways() -> Iterator[Sockets]:
    ours, theirs = zip(*(socket.socketpair() for _ in range(3)), strict=True)
    yield ours
    for end in (*ours, *theirs):
        end.close()


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.chdir(tmp_path)
    return Running.create("s")


def test_turns_are_granted_one_at_a_time_in_the_order_of_asking(gateways: Sockets, mark: Running) -> None:
    granted: list[socket.socket] = []
    turns = Turns(mark, granted.append)
    first, second, third = gateways
    turns.begin(third)
    turns.ask(second)
    turns.ask(first)
    turns.give()
    turns.give()
    assert granted == [second]
    assert mark.connection == third.fileno(), "whose frame is run"
    turns.end()
    assert mark.connection == second.fileno(), "whose frame is expected: others ask meanwhile"
    turns.begin(second)
    turns.give()
    turns.end()
    assert granted == [second, first]
    turns.leave(first)
    assert mark.connection == 0


def test_a_gateway_that_hesitates_does_not_hold_up_the_next(gateways: Sockets, mark: Running) -> None:
    granted: list[socket.socket] = []
    turns = Turns(mark, granted.append)
    first, second, _ = gateways
    turns.ask(first)
    assert turns.patience is None
    turns.give()
    turns.ask(second)
    patience = turns.patience
    assert patience is not None
    assert 0 < patience < 1
    time.sleep(patience)
    turns.give()
    assert granted == [first, second]


def test_who_has_gone_holds_up_nobody(gateways: Sockets, mark: Running) -> None:
    granted: list[socket.socket] = []
    turns = Turns(mark, granted.append)
    first, second, third = gateways
    for gateway in gateways:
        turns.ask(gateway)
    turns.give()
    turns.leave(second)
    turns.leave(first)
    assert granted == [first, third]
    assert mark.connection == third.fileno()


async def other_gateway(endpoint: Endpoint) -> tuple[DataPlane, Endpoint]:
    plane = DataPlane()
    await plane.update(RoutingTable(1, (endpoint.route,)))
    return plane, plane.find("default", "model")


def rows(value: float, count: int = 1) -> InferRequest:
    return InferRequest({"input": np.full((count, 1), value, np.float32)})


async def learn_to_share(plane: DataPlane, endpoint: Endpoint) -> None:
    """Until runs of eight rows have been found worth it; and no more is learnt that might change the size again."""
    sizes: Any = endpoint.dispatcher._batch_size
    while sizes.limit < 8:
        await asyncio.gather(*(plane.infer(endpoint, rows(n)) for n in range(16)))
    sizes.learn = lambda *_: None


@asynccontextmanager
async def busy_for_another(made: Engine, here: Endpoint, link: Any) -> AsyncIterator[asyncio.Future[Any]]:
    """The replica stands still in the middle of a run of ``here``: no slow machine ends it before its time."""
    (process,) = made.processes.values()

    while True:
        busy = asyncio.ensure_future(made.plane.infer(here, rows(0)))
        while not (link.others_turn or busy.done()):
            await asyncio.sleep(0.001)  # a run is shorter than what ``until`` sleeps
        process.send_signal(signal.SIGSTOP)
        await made.until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        await asyncio.sleep(0.05)  # an answer that had left before arrives
        if not busy.done():
            break
        process.send_signal(signal.SIGCONT)  # it was faster than we: once more
    try:
        yield busy
    finally:
        process.send_signal(signal.SIGCONT)


async def test_a_batch_grows_while_another_gateways_is_run() -> None:
    async with engine(onnx_models.slow(100), replicas=1, batching=True) as (made, here):
        plane, there = await other_gateway(here)
        await learn_to_share(plane, there)
        runs = there.stats.executions
        (link,) = there.dispatcher._links.values()
        async with busy_for_another(made, here, link) as busy:
            calls = []
            for number in range(6):
                calls.append(asyncio.ensure_future(plane.infer(there, rows(number))))
                await asyncio.sleep(0.005)
            assert not busy.done()
            assert there.dispatcher.waiting == 6, "none is sent before it is their turn"
        answers = await asyncio.gather(*calls)
        assert there.stats.executions == runs + 1
        assert [float(answer.outputs["output"][0, 0]) for answer in answers] == [0, 1, 2, 3, 4, 5]
        plane.close()


async def test_a_turn_that_nobody_needs_any_more_is_passed_on() -> None:
    async with engine(onnx_models.slow(60), replicas=1, batching=True) as (made, here):
        plane, there = await other_gateway(here)
        await learn_to_share(plane, there)
        (link,) = there.dispatcher._links.values()
        async with busy_for_another(made, here, link) as busy:
            gone = asyncio.ensure_future(plane.infer(there, rows(1)))
            await made.until(lambda: link not in there.dispatcher._idle)  # it has asked
            gone.cancel()
        await busy
        running: Any = link._running
        await made.until(lambda: running.connection == 0)  # nobody's frame is expected any more
        await plane.infer(there, rows(3))
        plane.close()


@pytest.mark.parametrize("seed", range(2))
async def test_rows_of_two_gateways_go_back_to_whom_they_belong(seed: int) -> None:
    """Random arrivals at both, with a replica killed in between."""
    rng = random.Random(seed)
    async with engine(onnx_models.slow(2), replicas=2, batching=True, max_batch=8) as (made, here):
        plane, there = await other_gateway(here)

        async def call(number: int) -> None:
            await asyncio.sleep(rng.random() * 1.5)
            count = rng.choice([1, 1, 2, 3])
            at = (made.plane, here) if number % 2 else (plane, there)
            answer = await at[0].infer(at[1], rows(number, count))
            np.testing.assert_array_equal(answer.outputs["output"], np.full((count, 1), number, np.float32))

        async def killer() -> None:
            await asyncio.sleep(0.3)
            made.kill("1")

        await asyncio.gather(killer(), *(call(number) for number in range(200)))
        plane.close()


async def test_a_gateway_that_hangs_when_it_is_its_turn_does_not_hang_the_replica() -> None:
    """Its question is heard after another's run, with nothing behind it."""
    async with engine(onnx_models.slow(20), replicas=1) as (made, _):
        (process,) = made.processes.values()
        works, *hang = (socket.socket(socket.AF_UNIX) for _ in range(3))
        run = b"".join(frames.encode(frames.RUN, [Item(1, 1)], {"input": np.ones((1, 1), np.float32)}))
        with works, hang[0], hang[1]:
            for gateway in (works, *hang):
                gateway.settimeout(10)
                gateway.connect("r-1.sock")
                gateway.sendall(frames.encode(frames.CONNECT)[0])
                assert next_kind(gateway) == frames.HELLO
            process.send_signal(signal.SIGSTOP)
            await made.until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
            hang[0].sendall(frames.encode(frames.ASK)[0])
            works.sendall(run)
            hang[1].sendall(frames.encode(frames.ASK)[0])  # whatever the order in which the three are heard
            process.send_signal(signal.SIGCONT)
            assert next_kind(works) == frames.RESULT
            works.sendall(run)
            assert next_kind(works) == frames.RESULT


def next_kind(connection: socket.socket) -> int:
    """Of the next frame that somebody is sent."""
    while True:
        head = connection.recv(frames.HEAD.size, socket.MSG_WAITALL)
        connection.recv(frames.body_size(head), socket.MSG_WAITALL)
        if frames.kind_of(head) != frames.ALIVE:
            return frames.kind_of(head)
