"""Job ``openai-batch``: each line of a file through the handler that answers it live, behind all live callers.

Its process is a gateway of its own without a socket: control tells it the routing table, and the replicas know its
requests for background ones. It takes as many at once as the model gives it, and waits where it is told to. What is
answered is written at once; another attempt goes on with the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.api import openai
from modelport.api.channel import Borrower, Report, follow_control
from modelport.api.messages import Caller, HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai.batch_lines import Journal, Line, Lines
from modelport.api.openai.errors import error_answer
from modelport.control.actors import Actor
from modelport.control.batches import MEMORY_MB, BatchFacts, BatchRecords, Outcome
from modelport.control.jobs.worker import Stopped
from modelport.engine.dataplane import DataPlane
from modelport.engine.routing import KeyEntry, RoutingTable
from modelport.errors import InvalidInput, ModelportError, NotAuthenticated, NotFound
from modelport.schemas.batches import FINAL, MOST_LINES, BatchParams, BatchProblem, BatchStatus
from modelport.schemas.models import FileEntry

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_LOOK_S = 0.5
_TABLE_S = 30.0
_FIRST_AT_ONCE = 4
_MOST_AT_ONCE = 64
_LEAST_PAUSE_S, _MOST_PAUSE_S = 0.25, 10.0
_FAILURES = 3
"""So often a request is sent whose answer is the server's own failure."""
_PROBLEMS = 100
_DEADLINE_S = 86_400
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class OpenAiBatch:
    """The work of the kind."""

    Params = BatchParams
    least_memory_mb = MEMORY_MB // 3

    def check(self, services: Services, actor: Actor, params: BatchParams) -> None:
        raise InvalidInput("a batch comes with its job: POST /v1/batches makes both")

    def run(self, run: JobRun, params: BatchParams) -> dict[str, Any]:
        records = BatchRecords(run.services.database, run.services.files, run.actor, run.id)
        facts = records.facts()
        if facts.status in FINAL:  # killed just after it said so
            return records.settle(Outcome("failed"))
        folder = run.folder.resolve()
        source = folder / "input.jsonl"
        try:
            _fetch(records, facts, source)
        except NotFound as error:
            return records.settle(Outcome("failed", problems=[BatchProblem(code=error.code, message=error.message)]))
        lines = Lines(source, facts.endpoint)
        total, good, model = lines.count()
        if not good or total > MOST_LINES:
            return records.settle(_hopeless(lines, total))
        records.begun(total, model)
        journal = Journal(folder, run.id)
        for line in lines:
            if line.problem is not None and line.number not in journal.done:
                journal.refused(line, line.problem)
        former = signal.getsignal(signal.SIGTERM)
        worker = _Worker(run, records, journal, facts)
        status = asyncio.run(worker.run(facts.endpoint, lines, total))
        signal.signal(signal.SIGTERM, former)
        if status is None:
            raise Stopped  # the server is stopping: the next attempt goes on
        if status != "completed":
            _give_up(lines, journal, status)
        journal.close()
        records.finalizing()
        return records.settle(
            Outcome(
                status, total, journal.completed, journal.failed, journal.usage(),
                output=_kept(run, journal.output), errors=_kept(run, journal.errors),
            )
        )  # fmt: skip


def _fetch(records: BatchRecords, facts: BatchFacts, source: Path) -> None:
    """The input, whole; from then on nobody need keep it."""
    if source.exists():
        return
    partial = source.with_suffix(".part")
    with partial.open("wb") as file:
        for chunk in records.source(facts):
            file.write(chunk)
    partial.replace(source)


def _hopeless(lines: Lines, total: int) -> Outcome:
    if total > MOST_LINES:
        problem = BatchProblem(code="too_many_lines", message=f"the file has more than {MOST_LINES} lines; cut it")
        return Outcome("failed", problems=[problem])
    if not total:
        problem = BatchProblem(code="empty_file", message="the file has no line")
        return Outcome("failed", problems=[problem])
    return Outcome("failed", total, failed=total, problems=lines.problems(_PROBLEMS))


def _give_up(lines: Lines, journal: Journal, status: BatchStatus) -> None:
    """What was not done in time, or is not wanted any more, has a line that says so."""
    said = {
        "expired": "This request could not be executed before the completion window expired.",
        "cancelled": "The batch was cancelled before this request was executed.",
    }[status]
    for line in lines:
        if line.number not in journal.done:
            journal.refused(line, BatchProblem(code=f"batch_{status}", message=said))


def _kept(run: JobRun, file: Path) -> FileEntry | None:
    """The content of a file that is written."""
    if not file.stat().st_size:
        return None

    def chunks() -> Iterator[bytes]:
        with file.open("rb") as reading:
            while chunk := reading.read(_CHUNK):
                yield chunk

    return run.services.files.receive(run.actor, chunks())


class Pace:
    """How many requests are under way at once: one more for each round that goes well, half as many when told off."""

    def __init__(self) -> None:
        self._limit = float(_FIRST_AT_ONCE)
        self._told_off_at = 0.0

    @property
    def limit(self) -> int:
        """Of requests."""
        return int(self._limit)

    def well(self) -> None:
        """One was answered."""
        self._limit = min(_MOST_AT_ONCE, self._limit + 1 / self._limit)

    def told_off(self, now: float) -> None:
        """One was turned away; what is said to many at the same moment counts once."""
        if now - self._told_off_at > _LOOK_S:
            self._limit = max(1.0, self._limit / 2)
            self._told_off_at = now


class _Worker:
    """One attempt at the lines that are left."""

    def __init__(self, run: JobRun, records: BatchRecords, journal: Journal, facts: BatchFacts) -> None:
        self._run, self._records, self._journal = run, records, journal
        self._expires_at, self._key_id = facts.expires_at, facts.key_id
        self._key: KeyEntry | None = None
        """As it is now; None when there is none, or none any more."""
        self._plane = DataPlane(_DEADLINE_S)
        self._borrower = self._plane.allowances.lender = Borrower()
        self._pace = Pace()
        self._ending = asyncio.Event()
        self._stopped = False
        self._status: BatchStatus = "completed"
        self._total = 0
        self._wait = ""
        """What the model said last when it turned a request away."""

    async def run(self, endpoint: str, lines: Lines, total: int) -> BatchStatus | None:
        """What the batch came to; None when the server stops."""
        self._total = total
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        looking = asyncio.create_task(self._look())
        if len(self._journal.done) < total:
            await self._work(endpoint, lines)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        await self._told()
        return None if self._stopped else self._status

    def _stop(self) -> None:
        """Told to end: by whoever cancelled the job, or because the server stops."""
        try:
            unwanted = self._records.is_unwanted()
        except ModelportError:
            unwanted = False
        if unwanted:
            self._status = "cancelled"
        else:
            self._stopped = True
        self._ending.set()

    async def _look(self) -> None:
        """Now and then: whether it is still wanted, and time; and tell how far it is."""
        while True:
            left = self._expires_at - time.time()
            if left <= 0 or await self._is_unwanted():
                if not self._ending.is_set():
                    self._status = "expired" if left <= 0 else "cancelled"
                self._ending.set()
                return
            await self._told()
            await asyncio.sleep(max(0.01, min(_LOOK_S, left)))

    async def _is_unwanted(self) -> bool:
        try:
            return await asyncio.to_thread(self._records.is_unwanted)
        except ModelportError as error:  # the database is away: asked again
            _log.warning("%s", error.message)
            return False

    async def _told(self) -> None:
        journal = self._journal
        self._run.progress(len(journal.done), self._total, self._wait, "requests")
        with contextlib.suppress(ModelportError):
            await asyncio.to_thread(self._records.counted, journal.completed, journal.failed)

    async def _work(self, endpoint: str, lines: Lines) -> None:
        handler = _handler(self._plane, endpoint)
        os.chdir(self._run.services.settings.home / "run")  # where sockets have short names
        known = asyncio.Event()

        async def act(table: RoutingTable) -> None:
            await self._plane.update(table)
            self._key = next((key for key in table.keys if key.id == self._key_id), None)
            known.set()

        following = asyncio.create_task(
            follow_control(act, lambda figures: Report(-1, os.getpid(), self._plane.number, guest=True), self._borrower)
        )
        running = set[asyncio.Task[None]]()
        try:
            await asyncio.wait_for(known.wait(), _TABLE_S)
            ending = asyncio.create_task(self._ending.wait())
            for line in lines:
                if line.number in self._journal.done:
                    continue
                while len(running) >= self._pace.limit and not ending.done():
                    await asyncio.wait((*running, ending), return_when=asyncio.FIRST_COMPLETED)
                    _checked(running)
                if ending.done():
                    break
                running.add(asyncio.create_task(self._line(handler, line)))
            while running and not ending.done():
                await asyncio.wait((*running, ending), return_when=asyncio.FIRST_COMPLETED)
                _checked(running)
            ending.cancel()
        finally:
            for task in (*running, following):
                task.cancel()
            await asyncio.gather(*running, following, return_exceptions=True)
            self._plane.close()
            os.chdir(self._run.folder)

    async def _line(self, route: HttpRoute | None, line: Line) -> None:
        """Until there is an answer that another attempt would not better."""
        pauses = failures = 0
        request_id = f"{self._run.id}-{line.number}"
        while True:
            response = await self._answer(route, line, request_id)
            if response.status in (429, 503):
                self._pace.told_off(time.monotonic())
                self._wait = "waits for the model"
                pause = min(_LEAST_PAUSE_S * 2**pauses, _MOST_PAUSE_S)
                pauses += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
                continue
            failures += response.status >= 500
            if response.status >= 500 and failures < _FAILURES:
                continue
            break
        self._wait = ""
        self._pace.well()
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        self._journal.answered(line, response.status, request_id, body)

    async def _answer(self, route: HttpRoute | None, line: Line, request_id: str) -> HttpResponse:
        actor = self._run.actor
        if route is None:
            return error_answer(InvalidInput("this server has nothing at the batch's endpoint"))
        headers = {"x-request-timeout": str(_DEADLINE_S), "x-request-priority": "9"}
        if self._key_id is not None and self._key is None:
            return route.error(NotAuthenticated("the key that made this batch has been revoked, or has expired"))
        models = frozenset(self._key.models) if self._key is not None and self._key.models is not None else None
        caller = Caller(actor.project, actor.role, self._key_id or "batch", models)
        request = HttpRequest("POST", route.pattern.pattern, {}, headers, line.body, caller, request_id)
        try:
            return await route.handler(request, {})
        except ModelportError as error:
            return route.error(error)
        except Exception:
            _log.exception("line %d", line.number)
            return route.error(ModelportError("internal error; the batch's log says more"))


def _checked(running: set[asyncio.Task[None]]) -> None:
    """Forget those that have ended; raises what one of them has raised, such as that the disk is full."""
    for task in [one for one in running if one.done()]:
        running.discard(task)
        task.result()


def _handler(plane: DataPlane, endpoint: str) -> HttpRoute | None:
    """Who answers it live."""
    for route in openai.routes(plane):
        if route.method == "POST" and route.pattern.fullmatch(endpoint):
            return route
    return None
