"""Measures versions as they are served: one replica each, in the runtime and with the threads of a deployment.

What is measured is measured from outside, by requests over the wire that a gateway speaks. Two versions that are
compared take turns of a quarter of a second, so that whatever else the machine does weighs on both.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from modelport.control.assembly import trust_of
from modelport.control.machine import machine
from modelport.control.runnable import check_runnable
from modelport.control.work.questions import Inputs, Rows, questions
from modelport.control.work.replicas import Wish, files_of, start
from modelport.data.binding import counts_rows
from modelport.engine.dataplane import DataPlane
from modelport.engine.requests import InferRequest
from modelport.engine.routing import Route, RoutingTable
from modelport.errors import InvalidInput, ModelportError, RunFailed, Unavailable
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.grades import Compared, Latency, Measured, Throughput
from modelport.schemas.models import Manifest

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun
    from modelport.engine.local import LocalReplicas

_TURN_S = 0.25
_WARM_S, _WARM_CALLS = 0.3, 3
_ENOUGH_CALLS = 300
_LONGER = 3
"""How many times the time that was asked for may be taken until there are enough calls."""
_WINDOW_CALLS, _WINDOWS = 100, 3
_AT_ONCE = 2
"""Requests under way when a replica shall never be without work."""
_RUN_S = 600.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: a registered version, or a draft with the folder of its files."""

    manifest: Manifest
    files: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.manifest.model}:{self.manifest.version}"


def measure(
    run: JobRun, manifest: Manifest, *, files: Path | None = None, rows: Rows | None = None, threads: int = 1,
    batches: Sequence[int] = (1, 32), seconds: float = 2.0,
) -> Measured:  # fmt: skip
    """One version: latency at the first batch size, throughput at the others, each for about so many seconds.

    Raises InvalidInput for rows that do not fit, Unavailable when the model cannot be run.
    """
    return _measured(run, [Subject(manifest, files)], rows, threads, batches, seconds)[0][0]


def compare(
    run: JobRun, one: Subject, other: Subject, *, rows: Rows | None = None, threads: int = 1,
    batches: Sequence[int] = (1, 32), seconds: float = 2.0,
) -> Compared:  # fmt: skip
    """Two versions by turns, each measured as ``measure`` does it; only the ratios are good to a few percent.

    With one batch size alone there is latency and no throughput.
    """
    (a, b), (turns, rates) = _measured(run, [one, other], rows, threads, batches, seconds, len(batches) > 1)
    ratio = Compared(one=a, other=b, smaller=a.served_bytes / max(1, b.served_bytes))
    if a.latency is not None and b.latency is not None:
        ratio.faster = _ratio(turns, lambda turn: 1 / _middle(turn.all_ns))
        ratio.faster_model = _ratio(turns, lambda turn: 1 / _middle(turn.model_ns))
        ratio.more_rows = _ratio(rates, lambda turn: turn.rate) if rates else None
    if a.memory_mb and b.memory_mb:
        ratio.leaner = a.memory_mb / b.memory_mb
    return ratio


@dataclass(slots=True)
class _Turn:
    """What one version did in its turn."""

    all_ns: list[int] = field(default_factory=list)
    model_ns: list[int] = field(default_factory=list)
    rows: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


class _Stand:
    """A version on its one replica."""

    def __init__(self, run: JobRun, subject: Subject, folder: Path) -> None:
        self.subject = subject
        self._run, self._folder = run, folder
        self._plane = DataPlane()
        self._replicas: LocalReplicas | None = None
        self._died = False
        self._way: Callable[[int], list[Inputs]] = lambda batch: []
        self._requests: dict[int, tuple[list[Inputs], Iterator[Inputs]]] = {}
        self._pss: list[float] = []
        self._over = 0.0
        self.start_s = 0.0

    async def start(self, rows: Rows | None, wish: Wish) -> None:
        """Up and known to answer; this process works in its folder until then."""
        run, subject = self._run, self.subject
        manifest = subject.manifest
        files: Path = subject.files if subject.files is not None else await asyncio.to_thread(files_of, run, manifest)
        asking = await asyncio.to_thread(questions, manifest, files, rows)
        run.progress(0, None, f"starting {subject.name}", "s")
        self._replicas = await start(
            run, manifest, files, wish, self._folder, self._publish,
            lambda message: run.progress(0, None, message, "s"),
        )  # fmt: skip
        self.start_s = time.monotonic() - self._replica.started
        self.endpoint = self._plane.find("default", manifest.model)
        self.asked = asking.asked
        cause = ""
        for way in asking.ways:
            self._way, self._requests = way, {}
            try:
                await self.ask(1)
                return
            except (InvalidInput, RunFailed) as error:
                cause = error.message[:500]
        hint = "" if rows is not None else "; give rows to ask it about (--data)"
        raise InvalidInput(f"{subject.name} answers no request that was tried: {cause}{hint}")

    @property
    def _replica(self) -> Any:
        assert self._replicas is not None
        return next(iter(self._replicas.fleet.replicas.values()))

    async def _publish(self, number: int, route: Route) -> None:
        if route.recovering:
            self._died = True
            self._plane.close()  # whoever waits must not wait for another one
        else:
            await self._plane.update(RoutingTable(number, (route,)))

    async def ask(self, batch: int) -> tuple[int, int, int]:
        """One request: rows, ns of all, ns of the run alone. What the model refuses is not asked again.

        A text has no run of its own, its steps are everybody's: there the whole counts.
        """
        if batch not in self._requests:
            there = self._way(batch)
            self._requests[batch] = (there, cycle(there))
        there, turn = self._requests[batch]
        inputs = next(turn)
        request = InferRequest(inputs, deadline=time.monotonic() + _RUN_S, alone=True)
        started = time.perf_counter_ns()
        try:
            result = await self._plane.infer(self.endpoint, request)
        except (InvalidInput, RunFailed):
            if self._died:
                raise self._death() from None
            left = [one for one in there if one is not inputs]
            if not left:
                raise
            self._requests[batch] = (left, cycle(left))
            return await self.ask(batch)
        except ModelportError as error:
            raise (self._death() if self._died else error) from None
        ended = time.perf_counter_ns()
        return self._rows(inputs), ended - started, result.compute_ns or ended - started

    def _death(self) -> Unavailable:
        return Unavailable(f"model {self.subject.name}: its replica died while it was measured; the log says more")

    @property
    def takes_batches(self) -> bool:
        """Whether requests of several rows are run as one."""
        return self.endpoint.route.batching and counts_rows(self.endpoint.route.signature)

    def _rows(self, inputs: Inputs) -> int:
        return len(next(iter(inputs.values()))) if counts_rows(self.endpoint.route.signature) and inputs else 1

    def look(self) -> None:
        """Look at its memory."""
        found = None if self._died else _memory(self._replica.pid)
        if found is not None:
            self._pss.append(found[0])
            self._over = max(self._over, found[1])

    @property
    def memory_mb(self) -> float | None:
        return max(self._pss) if self._pss else None

    @property
    def peak_mb(self) -> float | None:
        return max(self._pss) + self._over if self._pss else None

    def close(self) -> None:
        self._plane.close()
        if self._replicas is not None:
            self._replicas.close(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)


def _measured(
    run: JobRun,
    subjects: Sequence[Subject],
    rows: Rows | None,
    threads: int,
    batches: Sequence[int],
    seconds: float,
    throughput: bool = True,
) -> tuple[list[Measured], tuple[list[list[_Turn]], list[list[_Turn]]]]:
    """Figures by subject; and of those that can be run the turns of latency, and those of the largest batch."""
    found, run_them = [], []
    for subject in subjects:
        manifest = subject.manifest
        figures = Measured(
            model=subject.name, machine=machine(), threads=threads, served_bytes=subject.manifest.served_bytes,
            total_bytes=sum(entry.size for entry in manifest.files),
        )  # fmt: skip
        found.append(figures)
        if not manifest.runtime:
            figures.reason = manifest.details.get("not_served", "no runtime here serves it")
            continue
        check_runnable(trust_of(run.services.settings), manifest, DeploymentSpec())
        run_them.append((figures, subject))
    if not run_them:
        return found, ([], [])
    before = Path.cwd()
    try:
        turns = asyncio.run(_Session(run, run_them, threads, sorted(batches), seconds, throughput).run(rows))
    finally:
        os.chdir(before)
    return found, turns


class _Session:
    """One measurement, of all that take part in it."""

    def __init__(
        self, run: JobRun, them: Sequence[tuple[Measured, Subject]], threads: int, batches: Sequence[int],
        seconds: float, throughput: bool,
    ) -> None:  # fmt: skip
        self._run, self._threads, self._batches, self._seconds = run, threads, batches, seconds
        self._throughput = throughput
        folder = run.folder / "measuring"
        self._stands = [_Stand(run, subject, folder / str(number)) for number, (_, subject) in enumerate(them)]
        self._figures = [figures for figures, _ in them]
        self._done_s = 0.0

    async def run(self, rows: Rows | None) -> tuple[list[list[_Turn]], list[list[_Turn]]]:
        """Fill in the figures."""
        gc.collect()
        gc.freeze()
        gc.disable()  # its pauses would be taken for the model's
        try:
            wish = Wish(1, self._threads, self._batches[-1], _RUN_S)
            for stand in self._stands:
                await stand.start(rows, wish)
            return await self._turns()
        finally:
            gc.enable()
            gc.unfreeze()
            for stand in self._stands:
                stand.close()

    async def _turns(self) -> tuple[list[list[_Turn]], list[list[_Turn]]]:
        first, *more = self._batches
        if not all(stand.takes_batches for stand in self._stands):
            first, more = 1, []
        sizes = (more or [first]) if self._throughput else []
        total = self._seconds * len(self._stands) * (1 + len(sizes))
        latency = await self._by_turns(first, self._alone, total)
        rates: list[list[_Turn]] = []
        for size in sizes:
            rates = await self._by_turns(size, self._busy, total)
            for figures, turns in zip(self._figures, rates, strict=True):
                rate = statistics.median(turn.rate for turn in turns)
                calls = sum(len(turn.all_ns) for turn in turns)
                figures.throughput.append(Throughput(batch=size, rows_per_s=rate, calls=calls))
        for figures, stand, turns in zip(self._figures, self._stands, latency, strict=True):
            figures.asked, figures.start_s = stand.asked, stand.start_s
            figures.latency = _latency(first, turns)
            figures.memory_mb, figures.peak_mb = stand.memory_mb, stand.peak_mb
        return latency, rates

    async def _by_turns(
        self, batch: int, work: Callable[[_Stand, int, float], Awaitable[_Turn]], total: float
    ) -> list[list[_Turn]]:
        """Turns by stand, as many for each."""
        for stand in self._stands:
            calls, until = 0, time.monotonic() + _WARM_S
            while calls < _WARM_CALLS or time.monotonic() < until:
                await stand.ask(batch)
                calls += 1
        found: list[list[_Turn]] = [[] for _ in self._stands]
        wanted = self._seconds * len(self._stands)
        spent, calls = 0.0, 0
        while spent < wanted or (calls < _ENOUGH_CALLS and work == self._alone and spent < wanted * _LONGER):
            for turns, stand in zip(found, self._stands, strict=True):
                turn = await work(stand, batch, min(_TURN_S, self._seconds))
                stand.look()
                turns.append(turn)
                spent += turn.seconds
            calls = min(sum(len(turn.all_ns) for turn in turns) for turns in found)
            names = " and ".join(stand.subject.name for stand in self._stands)
            self._run.progress(min(self._done_s + spent, total), total, f"measuring {names}, batches of {batch}", "s")
        self._done_s += wanted
        return found

    async def _alone(self, stand: _Stand, batch: int, seconds: float) -> _Turn:
        """One request after the other."""
        turn = _Turn()
        begun = time.monotonic()
        while not turn.all_ns or time.monotonic() < begun + seconds:
            rows, all_ns, model_ns = await stand.ask(batch)
            turn.rows += rows
            turn.all_ns.append(all_ns)
            turn.model_ns.append(model_ns)
        turn.seconds = time.monotonic() - begun
        return turn

    async def _busy(self, stand: _Stand, batch: int, seconds: float) -> _Turn:
        """Always one more request than the replica can work on."""
        begun = time.monotonic()
        parts = await asyncio.gather(*(self._alone(stand, batch, seconds) for _ in range(_AT_ONCE)))
        spent = time.monotonic() - begun
        all_ns = [ns for part in parts for ns in part.all_ns]
        return _Turn(all_ns, [ns for part in parts for ns in part.model_ns], sum(part.rows for part in parts), spent)


def _latency(batch: int, turns: Sequence[_Turn]) -> Latency:
    all_ns = [ns for turn in turns for ns in turn.all_ns]
    model_ns = [ns for turn in turns for ns in turn.model_ns]
    return Latency(
        batch=batch, p50_ms=_middle(all_ns) / 1e6, p99_ms=_p99(turns) / 1e6, model_ms=_middle(model_ns) / 1e6,
        calls=len(all_ns),
    )  # fmt: skip


def _p99(turns: Sequence[_Turn]) -> float:
    """Of stretches with a hundred calls and more, the median of what each says; of all calls where there are few."""
    stretches: list[list[int]] = [[]]
    for turn in turns:
        if len(stretches[-1]) >= _WINDOW_CALLS:
            stretches.append([])
        stretches[-1] += turn.all_ns
    if len(stretches[-1]) < _WINDOW_CALLS and len(stretches) > 1:
        rest = stretches.pop()
        stretches[-1] += rest
    if len(stretches) < _WINDOWS:
        stretches = [[ns for stretch in stretches for ns in stretch]]
    return statistics.median(float(np.percentile(stretch, 99)) for stretch in stretches)


def _ratio(turns: Sequence[Sequence[_Turn]], worth: Callable[[_Turn], float]) -> float:
    """How much more the second one is worth than the first: the median over turns that followed one another."""
    return statistics.median(worth(other) / worth(one) for one, other in zip(*turns, strict=True))


def _middle(values: Sequence[int]) -> float:
    return statistics.median(values)


def _memory(pid: int | None) -> tuple[float, float] | None:
    """A process's share of memory now (PSS), and how much more it once held; MB. None where nobody tells."""
    try:
        share = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
        status = Path(f"/proc/{pid}/status")
        return share / 1024, (_kilobytes(status, "VmHWM:") - _kilobytes(status, "VmRSS:")) / 1024
    except (OSError, LookupError):
        return None


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(name)
