"""The two ways to load a server.

An open loop sends when requests are due, however the server does, as the world outside sends: with one slow answer the
next requests queue up, and their wait is measured. A closed loop has callers that each send when they got an answer:
it finds the greatest throughput, and can never ask for more.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from modelport.bench.clock import Alarm
from modelport.bench.lines import LATE, Line, Opener
from modelport.bench.record import Record
from modelport.bench.shots import Shot
from modelport.errors import ModelportError
from modelport.tensors import Array

_SWEEP_S = 0.1
_PAUSE_AFTER_A_FAILURE_S = 0.05
now = time.perf_counter


Watch = Callable[[Record], object]
"""Called ten times a second with what was recorded so far."""


def ignore(record: Record) -> None:
    """For callers who do not watch."""


class Lines:
    """Connections that are kept from step to step."""

    def __init__(self, opener: Opener, most: int) -> None:
        self.opener, self.most = opener, most
        self.idle: deque[Line] = deque()
        self.count = 0
        """Open and opening."""

    async def fill(self, count: int) -> None:
        """Have at least so many open; raises what opening raises."""
        for _ in range(min(count, self.most) - self.count):
            self.idle.append(await self.open())

    async def open(self) -> Line:
        self.count += 1
        try:
            return await self.opener()
        except BaseException:
            self.count -= 1
            raise

    def take(self) -> Line | None:
        """The one that has been idle for longest, so that all are used alike."""
        while self.idle:
            line = self.idle.popleft()
            if line.open:
                return line
            self.count -= 1
        return None

    def give(self, line: Line) -> None:
        if line.open:
            self.idle.append(line)
        else:
            self.count -= 1

    def close(self) -> None:
        while (line := self.take()) is not None:
            line.close()


class Load(ABC):
    """What both loops share: requests under way, those that take too long, the end."""

    def __init__(self, lines: Lines, record: Record, timeout: float, watch: Watch = ignore) -> None:
        self.lines, self.record, self._timeout, self._watch = lines, record, timeout, watch
        self._under_way: dict[Line, float] = {}
        """When each line's request was due."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Load until the record's end, and wait for the answers that are due then."""
        began, used, is_measured = now(), time.process_time(), False
        try:
            self._begin()
            while not self._is_over():
                await asyncio.sleep(_SWEEP_S)
                self._sweep(now() - self._timeout)
                self._watch(self.record)
                if not is_measured:
                    self.record.cpu = (time.process_time() - used) / (now() - began)
                    is_measured = now() >= self.record.end
        except asyncio.CancelledError:
            self._cut(now())
            raise
        finally:
            self._stop()
            for task in self._tasks:
                task.cancel()
            for line in list(self._under_way):
                line.close()
                self.lines.count -= 1
            self._under_way.clear()

    @abstractmethod
    def _begin(self) -> None:
        """Send the first requests."""

    @abstractmethod
    def _is_over(self) -> bool:
        """Whether nothing is to be sent or awaited any more."""

    def _cut(self, moment: float) -> None:
        """End the measurement before its time."""
        self.record.end = max(self.record.start, min(self.record.end, moment))

    @abstractmethod
    def _stop(self) -> None:
        """Send nothing more."""

    def _sweep(self, before: float) -> None:
        """Give up what was due before that moment."""
        for line, due in list(self._under_way.items()):
            if due < before:
                line.drop(LATE)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class OpenLoop(Load):
    """Requests at given times, ``start`` being the first moment."""

    def __init__(
        self,
        lines: Lines,
        record: Record,
        timeout: float,
        start: float,
        times: Array,
        shots: Iterator[Shot],
        watch: Watch = ignore,
    ) -> None:
        super().__init__(lines, record, timeout, watch)
        self._due = (start + times).tolist()
        self._shots = shots
        self._next = 0
        self._backlog: deque[tuple[float, Shot]] = deque()
        self._opening = 0
        self._alarm: Alarm | None = None
        self._is_measured = False
        self._count()

    def _count(self) -> None:
        record = self.record
        record.due_in_window = sum(record.start <= due < record.end for due in self._due)

    def _cut(self, moment: float) -> None:
        super()._cut(moment)
        self._count()

    def _begin(self) -> None:
        self._alarm = Alarm(self._ring)
        self._ring()

    def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    def _is_over(self) -> bool:
        if now() < self.record.end:
            return False
        if not self._is_measured:
            self._is_measured, self.record.unsent = True, len(self._backlog)
        return not self._under_way and not self._backlog and self._next >= len(self._due)

    def _ring(self) -> None:
        due, count, lateness = self._due, len(self._due), self.record.lateness
        while self._next < count and (moment := due[self._next]) <= (current := now()):
            lateness.append(current - moment)
            shot = next(self._shots)
            self._next += 1
            line = None if self._backlog else self.lines.take()
            if line is None:
                self._wait(moment, shot)
            else:
                self._send(line, moment, shot)
        if self._next < count and self._alarm is not None:
            self._alarm.set(due[self._next] - now())

    def _send(self, line: Line, due: float, shot: Shot) -> None:
        self._under_way[line] = due
        line.send(shot, self._answered)

    def _answered(self, line: Line, status: int, message: str) -> None:
        self.record.note(self._under_way.pop(line), status, message, line)
        if self._backlog and line.open:
            self._send(line, *self._backlog.popleft())
        else:
            self.lines.give(line)
            self._open_more()

    def _wait(self, due: float, shot: Shot) -> None:
        self._backlog.append((due, shot))
        self._open_more()
        if len(self._backlog) > self.record.backlog_most and self.lines.count >= self.lines.most:
            self.record.backlog_most = len(self._backlog)

    def _open_more(self) -> None:
        if self._opening < len(self._backlog) and self.lines.count < self.lines.most:
            self._opening += 1
            self._spawn(self._open())

    async def _open(self) -> None:
        try:
            line = await self.lines.open()
        except ModelportError as error:
            self._opening -= 1
            if self._backlog:
                due, _ = self._backlog.popleft()
                self.record.note(due, 0, error.message)
                self._open_more()
            return
        self._opening -= 1
        if self._backlog:
            self._send(line, *self._backlog.popleft())
        else:
            self.lines.give(line)

    def _sweep(self, before: float) -> None:
        while self._backlog and self._backlog[0][0] < before:
            self.record.note(self._backlog.popleft()[0], 0, LATE)
        super()._sweep(before)


class ClosedLoop(Load):
    """So many callers, each with a line of its own; none waits between an answer and its next request.

    But for a moment after it was refused or cut off: a caller that hammers would measure refusals.
    """

    def __init__(
        self, lines: Lines, record: Record, timeout: float, callers: int, shots: Iterator[Shot], watch: Watch = ignore
    ) -> None:
        super().__init__(lines, record, timeout, watch)
        self._callers, self._shots = callers, shots

    def _begin(self) -> None:
        for _ in range(self._callers):
            self._spawn(self._call())

    def _is_over(self) -> bool:
        return now() >= self.record.end and not self._under_way

    def _stop(self) -> None:
        self.record.end = min(self.record.end, now())

    async def _call(self) -> None:
        """A caller's first request, or its first after it lost its line."""
        while now() < self.record.end:
            try:
                line = self.lines.take() or await self.lines.open()
            except ModelportError as error:
                self.record.note(self._due(), 0, error.message)
                await asyncio.sleep(_PAUSE_AFTER_A_FAILURE_S)
                continue
            self._send(line)
            return

    def _due(self) -> float:
        """A request is due now."""
        moment = now()
        if self.record.start <= moment < self.record.end:
            self.record.due_in_window += 1
        return moment

    def _send(self, line: Line) -> None:
        self._under_way[line] = self._due()
        line.send(next(self._shots), self._answered)

    def _answered(self, line: Line, status: int, message: str) -> None:
        self.record.note(self._under_way.pop(line), status, message, line)
        if now() >= self.record.end:
            self.lines.give(line)
        elif line.open and status not in (0, 429, 503):
            self._send(line)
        else:
            self.lines.give(line)
            self._spawn(self._after_a_failure())

    async def _after_a_failure(self) -> None:
        await asyncio.sleep(_PAUSE_AFTER_A_FAILURE_S)
        await self._call()
