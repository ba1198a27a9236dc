"""A gateway's connection to one replica: sends a batch, hears the answers, notices the end.

The replica grants one slot per connection, so at most one frame is under way. Knows frames and pending requests;
knows no queue and no balance.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from modelport import errors
from modelport.engine import frames
from modelport.engine.frames import Frame, Item
from modelport.engine.requests import InferResult
from modelport.engine.running import Running
from modelport.engine.slab import Slab
from modelport.tensors import Array

if TYPE_CHECKING:
    from modelport.engine.generation import Asked
    from modelport.engine.routing import ReplicaAddress
    from modelport.engine.text_stats import Counted

_SCRATCH = 1 << 18
_FRESH_S = 10.0
MAX_UNREAD = 16 << 20
"""Bytes of a stream that may wait for its reader."""
PART_BYTES = 512
"""What a part of a text takes while it waits, about."""
_GREETING_S = 60.0
"""A replica greets between two runs."""


@dataclass(slots=True, eq=False)
class Pending:
    """One request on its way: kept until its answer arrives, so that a dead replica loses nothing."""

    id: int
    inputs: dict[str, Array]
    rows: int
    key: object
    """Requests with equal keys may share a run."""
    deadline: float
    future: asyncio.Future[InferResult]
    request_id: str
    traced: bool
    queued_ns: int
    caller: str = ""
    priority: int = 5
    attempts: int = 0
    deaths_alone: int = 0
    """How often a replica died while it ran this request and no other."""
    sent_ns: int = 0
    parts: asyncio.Queue[Any] | None = None
    """For a stream: its parts (results, or a language model's own), then None or the error that ended it."""
    unread: int = 0
    """Bytes of the parts that nobody has taken yet."""
    begun: bool = False
    """Whether a part has been given: from then on a stream cannot be sent again."""
    asked: Asked | None = None
    """What a language model is asked for: another replica takes it up behind ``done``."""
    beginnings: tuple[bytes, ...] = ()
    """Of its prompt (``affinity``)."""
    counted: Counted | None = None
    """Where a text's figures go."""
    done: list[int] = field(default_factory=list)
    done_text: int = 0

    def taken(self) -> None:
        """A language model's part has found its reader."""
        self.unread -= PART_BYTES

    def ended(self, how: str) -> None:
        """Count a text that has no last part."""
        if self.counted is not None:
            self.counted.ended(how)

    def fail(self, error: errors.ModelportError) -> None:
        """Answer with an error, unless there is an answer."""
        if not self.future.done():
            self.future.set_exception(error)
            if self.parts is not None:
                self.future.exception()  # seen: the stream's reader gets it from its parts
                self.parts.put_nowait(error)


class Link(asyncio.BufferedProtocol):
    """One connection. ``on_frame`` hears the answers; at ``on_lost``, ``inflight`` holds what is unanswered."""

    def __init__(
        self,
        address: ReplicaAddress,
        on_frame: Callable[[Link, Frame], None],
        on_lost: Callable[[Link], None],
        *,
        ahead: bool = False,
    ) -> None:
        """Nothing is connected yet; see ``connect``. Frames sent ``ahead`` are run before what waits there."""
        self.address = address
        self.ahead = ahead
        self.inflight: dict[int, Pending] = {}
        self.draining = False
        self.last_ok = 0.0
        self.alone = False
        """Whether the frame under way holds a single request."""
        self.granted = False
        """Whether the replica has said that it is this gateway's turn."""
        self.begun_ns = 0
        """Since when the frame under way is on its way, the wait for its turn included; 0 for none."""
        self._number = 0
        self._running: Running | None = None
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._slab: Slab | None = None
        self._scratch = memoryview(bytearray(_SCRATCH))
        self._buffer = self._scratch
        self._filled = 0
        self._total = 0
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        """Reach the replica, share memory with it, and hear its greeting; raises OSError and TimeoutError."""
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, self.address.socket)
            hello = frames.encode(frames.AHEAD if self.ahead else frames.CONNECT)[0]
            made = Slab.create()
            if made is None:
                connection.send(hello)
            else:
                self._slab, fd = made
                try:
                    socket.send_fds(connection, [hello], [fd])
                finally:
                    os.close(fd)
            await loop.create_unix_connection(lambda: self, sock=connection)
        except BaseException:
            connection.close()
            raise
        await asyncio.wait_for(self.greeted, _GREETING_S)

    @property
    def connected(self) -> bool:
        """Whether frames can be sent."""
        return self._transport is not None and self.greeted.done()

    @property
    def was_running(self) -> bool:
        """Whether the replica runs this link's frame, or did when it died; yes where that is not known."""
        return self._running is None or self._running.connection == self._number

    @property
    def others_turn(self) -> bool:
        """Whether the replica runs another gateway's frame, or is about to."""
        return self._running is not None and self._running.connection not in (0, self._number)

    @property
    def fresh(self) -> bool:
        """Whether an inference succeeded there within 10 s."""
        return time.monotonic() - self.last_ok < _FRESH_S

    def send(self, batch: list[Pending]) -> None:
        """Write one frame with all of ``batch``; the slot is taken until each of them is answered."""
        assert self._transport is not None
        now = time.perf_counter_ns()
        first = batch[0]
        self.granted = False
        self.begun_ns = self.begun_ns or now
        for pending in batch:
            pending.attempts += 1
            pending.sent_ns = now
            self.inflight[pending.id] = pending
        self.alone = len(self.inflight) == 1
        tensors = first.inputs if len(batch) == 1 else _stack([pending.inputs for pending in batch])
        items = [Item(p.id, p.rows, p.request_id, p.traced, int(p.deadline * 1e9)) for p in batch]
        kind = frames.RUN if first.parts is None else frames.STREAM
        mine = self._slab.mine if self._slab is not None and kind == frames.RUN else None
        for buffer in frames.encode(kind, items, tensors, slab=mine):
            self._transport.write(buffer)

    @property
    def load(self) -> int:
        """Requests under way."""
        return len(self.inflight)

    def cancel(self, pending: Pending) -> None:
        """Tell the replica that nobody waits for the rest of a stream; its END still comes."""
        if self._transport is not None and pending.id in self.inflight:
            self._transport.write(frames.encode(frames.CANCEL, [Item(pending.id, 0)])[0])

    def ask(self) -> None:
        """Ask for this gateway's turn; ``on_frame`` hears GRANT."""
        self.begun_ns = time.perf_counter_ns()
        if self._transport is not None:
            self._transport.write(frames.encode(frames.ASK)[0])

    def pass_on(self) -> None:
        """Leave a granted turn to others."""
        self.granted = False
        self.begun_ns = 0
        if self._transport is not None:
            self._transport.write(frames.encode(frames.PASS)[0])

    def drain(self) -> None:
        """Take no more; hang up as soon as nothing is under way."""
        self.draining = True
        if not self.inflight:
            self.close()

    def close(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.BufferedProtocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop, also after close."""
        self._transport = None
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError("the replica hung up before it greeted"))
            self.greeted.exception()  # seen: perhaps nobody waits for it any more
            return
        self._on_lost(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop puts what it reads."""
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop with what it has read; hands over every whole frame."""
        self._filled += nbytes
        while self._filled >= frames.HEAD.size:
            if not self._total:
                try:
                    self._total = frames.HEAD.size + frames.body_size(self._buffer[: frames.HEAD.size])
                except frames.BrokenFrame:
                    self.close()
                    return
                if self._total > len(self._buffer):
                    larger = memoryview(bytearray(self._total))
                    larger[: self._filled] = self._buffer[: self._filled]
                    self._buffer = larger
            if self._filled < self._total:
                return
            self._deliver()

    def _deliver(self) -> None:
        total, rest = self._total, self._filled - self._total
        head = self._buffer[: frames.HEAD.size]
        if self._buffer is self._scratch:  # copied, because the tensors are views and the scratch is used again
            body = memoryview(bytes(self._buffer[frames.HEAD.size : total]))
            frame_head = bytes(head)
            if rest:
                self._buffer[:rest] = bytes(self._buffer[total : self._filled])
        else:
            body, frame_head = self._buffer[frames.HEAD.size : total], bytes(head)
            self._buffer = self._scratch
        self._filled, self._total = rest, 0
        try:
            frame = frames.decode(frame_head, body, self._slab.theirs if self._slab is not None else None)
        except frames.BrokenFrame:
            self.close()
            return
        if frame.kind == frames.HELLO:
            self.last_ok = time.monotonic()
            self._number = int.from_bytes(frame.data[:8], "little")
            if frame.data[8:] != b"\1":
                self._slab = None
            self._running = Running.open(self.address.socket)
            if not self.greeted.done():
                self.greeted.set_result(None)
        elif frame.kind == frames.ALIVE:
            self.last_ok = time.monotonic()
        else:
            if frame.in_slab:  # the replica writes there again when it is sent the next frame
                frame.tensors = {name: np.array(array) for name, array in frame.tensors.items()}
            self._on_frame(self, frame)


def _stack(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
