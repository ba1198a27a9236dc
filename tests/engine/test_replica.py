"""What a replica does with one frame, with its runtime in this process."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.engine import frames
from modelport.engine.frames import HEAD, Frame, Item
from modelport.engine.heartbeat import Heartbeat
from modelport.engine.replica import Replica, Spec
from modelport.engine.running import Running
from modelport.engine.turns import Turns
from modelport.tensors import Array


class Doubling:
    """Remembers what it ran."""

    def __init__(self) -> None:
        self.ran: list[list[float]] = []

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.ran.append(inputs["x"].reshape(-1).tolist())
        return {"y": inputs["x"] * 2}


@pytest.fixture
def connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Any, Doubling, socket.socket, socket.socket]]:
    monkeypatch.chdir(tmp_path)
    runtime = Doubling()
    spec = Spec("1", "s", "h", "x", os.fspath(tmp_path), [], {}, {})
    replica: Any = Replica(spec, runtime, {}, Heartbeat(spec.id, spec.heartbeat))  # type: ignore[arg-type]
    replica._turns = Turns(Running.create("s"), replica._grant)
    here, there = socket.socketpair()
    replica._gateways[there] = None
    yield replica, runtime, here, there
    here.close()
    there.close()


def answers(connection: socket.socket, count: int) -> list[Frame]:
    found = []
    for _ in range(count):
        head = connection.recv(HEAD.size, socket.MSG_WAITALL)
        found.append(frames.decode(head, connection.recv(frames.body_size(head), socket.MSG_WAITALL)))
    return found


def test_what_has_expired_while_it_waited_is_not_run_and_its_neighbours_are(connected: Any) -> None:
    replica, runtime, here, there = connected
    past, later = time.monotonic_ns() - 1, time.monotonic_ns() + 10**10
    items = [Item(1, 1, deadline_ns=later), Item(2, 2, deadline_ns=past), Item(3, 1, deadline_ns=0)]
    x = np.arange(4, dtype=np.float32)[:, None]
    here.sendall(b"".join(frames.encode(frames.RUN, items, {"x": x})))
    replica._answer(there)
    first, second, third = answers(here, 3)
    assert runtime.ran == [[0.0], [3.0]]
    assert (first.kind, second.kind, third.kind) == (frames.RESULT, frames.FAILED, frames.RESULT)
    assert [frame.items[0].id for frame in (first, second, third)] == [1, 2, 3]
    assert bytes(second.data).startswith(b"deadline_exceeded\0")
    assert third.tensors["y"].tolist() == [[6.0]]


def test_a_batch_with_time_left_is_one_run(connected: Any) -> None:
    replica, runtime, here, there = connected
    later = time.monotonic_ns() + 10**10
    items = [Item(1, 1, deadline_ns=later), Item(2, 2, deadline_ns=later)]
    here.sendall(b"".join(frames.encode(frames.RUN, items, {"x": np.arange(3, dtype=np.float32)[:, None]})))
    replica._answer(there)
    (frame,) = answers(here, 1)
    assert runtime.ran == [[0.0, 1.0, 2.0]]
    assert [(item.id, item.rows) for item in frame.items] == [(1, 1), (2, 2)]


@pytest.mark.parametrize("unanswered", [frames.PASS, frames.CANCEL])
def test_a_frame_behind_one_that_is_not_answered_is_run(connected: Any, unanswered: int) -> None:
    """Both may come in one piece: a stream's END and its CANCEL cross, and the next request follows at once."""
    replica, runtime, here, there = connected
    before = frames.encode(unanswered, [Item(1, 0)] if unanswered == frames.CANCEL else [])
    run = frames.encode(frames.RUN, [Item(2, 1)], {"x": np.ones((1, 1), np.float32)})
    here.sendall(b"".join((*before, *before, *run)))
    replica._answer(there)
    assert runtime.ran == [[1.0]]
    assert answers(here, 1)[0].items[0].id == 2


def test_what_comes_ahead_is_run_before_what_waits(connected: Any) -> None:
    replica, runtime, here, there = connected
    ahead, its = socket.socketpair()
    with ahead, its:
        replica._gateways[its] = None
        replica._strangers.add(its)
        replica._selector.register(its, selectors.EVENT_READ, its)
        ahead.sendall(frames.encode(frames.AHEAD)[0])
        replica._answer(its)
        assert answers(ahead, 1)[0].kind == frames.HELLO
        for connection, value in ((here, 1.0), (ahead, 2.0)):
            x = np.full((1, 1), value, np.float32)
            connection.sendall(b"".join(frames.encode(frames.RUN, [Item(1, 1)], {"x": x})))
        replica._let_pass()
        replica._answer(there)
        assert runtime.ran == [[2.0], [1.0]]
        replica._let_pass()  # nothing waits there
        ahead.close()
        replica._let_pass()
        assert its not in replica._gateways
        assert not replica._ahead
