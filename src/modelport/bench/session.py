"""One server under load, step by step: at a rate, with callers, or as a log tells.

Steps share connections; each begins with a warm-up that is not measured, and ends when every request has its answer
or is given up, so that no step disturbs the next. Ctrl-C ends a step; what it measured is kept.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Self

import numpy as np

from modelport.bench import server_figures
from modelport.bench.arrivals import Logged, poisson
from modelport.bench.figures import Figures, figures_of
from modelport.bench.lines import HttpLine, Line, Opener, http_opener
from modelport.bench.loops import ClosedLoop, Lines, Load, OpenLoop, Watch, ignore
from modelport.bench.record import Record
from modelport.bench.shots import Shot
from modelport.errors import Unavailable, from_status
from modelport.sdk.blocking import BlockingDriver
from modelport.sdk.endpoint import Target
from modelport.sdk.flows import Request, send
from modelport.sdk.transport import Address

_CAPACITY_CALLERS = 64
_CAPACITY_S = 3.0
_LINES_AT_FIRST = 16
_AHEAD_S = 0.02
Make = Callable[[Record, float], Load]


@dataclass(frozen=True, slots=True)
class Options:
    """How to load; times in seconds."""

    duration: float = 10.0
    warmup: float = 1.0
    timeout: float = 10.0
    connections: int = 1000
    seed: int = 0


class Session:
    """A server, one request for it, and the connections that carry it."""

    line_kind: type[HttpLine] = HttpLine

    def __init__(
        self, target: Target, model: str, shot: Shot, options: Options, grpc: str | None = None, watch: Watch = ignore
    ) -> None:
        """With ``grpc``, an address such as ``127.0.0.1:8001``, requests are calls there; figures come by HTTP."""
        self._model, self._shot, self._options, self._watch = model, shot, options, watch
        self._address = Address.of(target, verify=True)
        self._driver = BlockingDriver(target, options.timeout)
        self._runner = asyncio.Runner(loop_factory=_loop_factory())
        self._channels: Any = None
        self._grpc = grpc
        opener: Opener
        if grpc is None:
            opener = http_opener(self._address, options.timeout, self.line_kind)
        else:
            from modelport.bench.grpc_lines import Channels  # noqa: PLC0415  (grpc takes time to load)

            self._channels = Channels(grpc, target, options.timeout)
            opener = self._channels.opener(shot.path)
        self._lines = Lines(opener, options.connections)
        _allow_files(options.connections + 200)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._hang_up())
        self._runner.close()
        self._driver.close()

    async def _hang_up(self) -> None:
        self._lines.close()
        if self._channels is not None:
            await self._channels.close()

    def check(self, shot: Shot | None = None) -> None:
        """Send one request; raises the error that the server answers, or Unreachable."""
        shot = shot or self._shot
        if self._grpc is None:
            headers = {**shot.headers, "x-request-timeout": f"{self._options.timeout:g}"}
            self._driver.run(send(Request("POST", shot.path, headers=headers, body=shot.body)))
            return
        status, message = self._runner.run(self._call_once(shot))
        if status == 0:
            raise Unavailable(f"no gRPC server answers at {self._grpc} ({message}); name it with --grpc HOST:PORT")
        if status != 200:
            raise from_status(status, message.partition(": ")[2] or message)

    async def _call_once(self, shot: Shot) -> tuple[int, str]:
        line = await self._lines.open()
        answer: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

        def done(line: Line, status: int, message: str) -> None:
            self._lines.give(line)
            answer.set_result((status, message))

        line.send(shot, done)
        return await answer

    def capacity(self) -> float:
        """Answers per second that many callers get, at most; raises Unavailable when they get none."""
        options = self._options
        found = self._measure(
            "64 callers",
            lambda record, start: ClosedLoop(
                self._lines, record, options.timeout, _CAPACITY_CALLERS, self._shots(), self._watch
            ),
            min(options.duration, _CAPACITY_S),
            min(options.warmup, 1.0),
            _CAPACITY_CALLERS,
        )
        if found is None or found.interrupted:
            raise KeyboardInterrupt
        if not found.achieved:
            why = next(iter(found.errors), "every request was refused")
            raise Unavailable(f"model {self._model!r} answered none of {found.requests} requests ({why})")
        return found.achieved

    def at_rate(self, rate: float) -> Figures | None:
        """An open loop: arrivals at random moments, so many a second. None when Ctrl-C came before any answer."""
        options = self._options
        times = poisson(rate, options.warmup + options.duration, options.seed)
        return self._measure(
            rate_text(rate),
            lambda record, start: OpenLoop(
                self._lines, record, options.timeout, start, times, self._shots(), self._watch
            ),
            options.duration,
            options.warmup,
            _LINES_AT_FIRST,
        )

    def with_callers(self, callers: int) -> Figures | None:
        """A closed loop. None when Ctrl-C came before any answer."""
        options = self._options
        return self._measure(
            f"{callers} callers" if callers != 1 else "1 caller",
            lambda record, start: ClosedLoop(self._lines, record, options.timeout, callers, self._shots(), self._watch),
            options.duration,
            options.warmup,
            callers,
            callers=callers,
        )

    def as_logged(self, log: Sequence[Logged], speed: float) -> Figures | None:
        """An open loop at a log's own times, without warm-up. None when Ctrl-C came before any answer."""
        times = np.array([line.at for line in log])
        shots = iter([self.shot_of(line) for line in log])
        seconds = float(times[-1]) + 1e-3
        return self._measure(
            "log" if speed == 1 else f"log x {speed:g}",
            lambda record, start: OpenLoop(
                self._lines, record, self._options.timeout, start, times, shots, self._watch
            ),
            seconds,
            0.0,
            _LINES_AT_FIRST,
        )

    def shot_of(self, line: Logged) -> Shot:
        """What a line of a log sends: what it names, else this session's own."""
        if line.path is None and line.body is None:
            return self._shot
        headers = self._shot.headers if line.body is None else {"content-type": "application/json"}
        return Shot(line.path or self._shot.path, headers, self._shot.body if line.body is None else line.body)

    # What another kind of answer has otherwise

    def _shots(self) -> Iterator[Shot]:
        """What is sent, one after another, without end."""
        return repeat(self._shot)

    def _record(self) -> Record:
        return Record(0.0, 0.0)

    def _figures(self, record: Record, load: str, **more: Any) -> Figures:
        return figures_of(record, load, **more)

    def _measure(
        self, load: str, make: Make, seconds: float, warmup: float, lines: int, callers: int | None = None
    ) -> Figures | None:
        before = server_figures.read(self._driver, self._model)
        record, interrupted = self._record(), False

        async def work() -> None:
            await self._lines.fill(lines)
            start = time.perf_counter() + _AHEAD_S
            record.start, record.end = start + warmup, start + warmup + seconds
            await make(record, start).run()

        gc.collect()
        gc.freeze()  # a long pause of our own would be measured as the server's
        try:
            self._runner.run(work())
        except KeyboardInterrupt:
            interrupted = True
        finally:
            gc.unfreeze()
        if interrupted and not record.ended:
            return None
        after = server_figures.read(self._driver, self._model) if before is not None else None
        more = after.since(before) if before is not None and after is not None else {}
        return self._figures(record, load, interrupted=interrupted, callers=callers, **more)


def rate_text(rate: float) -> str:
    """``1,250/s``, ``2.5/s``."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def _allow_files(count: int) -> None:
    """A process may have 1,024 files open by default, and a connection is one."""
    try:
        import resource  # noqa: PLC0415  (not on every platform)
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  (not on every platform)
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
