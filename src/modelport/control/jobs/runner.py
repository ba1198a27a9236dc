"""Runs jobs: each waits at the gate, gets a process (or is conducted here), and what became of it is written down.

``attempt`` is what durable execution calls, and calls again after a crash; everything it needs it reads from the job's
row. Lives on control's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from modelport.control.deployments import Deployments
from modelport.control.jobs.durable import Durable, engine_url
from modelport.control.jobs.gate import Gate
from modelport.control.jobs.process import JobProcess, Meter, Outcome
from modelport.control.jobs.records import JobFacts, JobRecords
from modelport.control.jobs.run import Conducted, ConductedRun, kind_of, params_of
from modelport.control.jobs.service import Jobs
from modelport.errors import Cancelled, ModelportError
from modelport.settings import Settings
from modelport.telemetry import log

_log = logging.getLogger(__name__)
_FLUSH_S = 0.5
_LOOK_S = 2.0
T = TypeVar("T")


class JobRunner:
    """All jobs of this server."""

    def __init__(self, jobs: Jobs, deployments: Deployments, settings: Settings) -> None:
        self._jobs, self._deployments, self._settings = jobs, deployments, settings
        self._records = JobRecords(jobs.services.database, jobs.server)
        self._gate = Gate(jobs.capacity)
        self._ends: dict[str, asyncio.Event] = {}
        """Of the jobs that are waiting or running: set when somebody wants one to end."""
        self._processes: set[JobProcess] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.get_running_loop()
        own_file = f"sqlite:///{settings.home / 'jobs.sqlite'}"
        self._durable = Durable(engine_url(settings.database_url, own_file), jobs.server, self.attempt)
        jobs.on_submitted.append(self._submitted)
        jobs.on_cancel.append(self._cancel_soon)
        jobs.on_removed.append(lambda job_ids: self._soon(self._durable.forget(job_ids)))

    # -- life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Go on with what a stopped or killed server left; then keep an eye on wishes that came by another server."""
        await asyncio.to_thread(self._jobs.sweep)
        if left := await asyncio.to_thread(self._records.unfinished):
            log("jobs_go_on", count=len(left))
            await self._tell(left)
        while not self._jobs.services.database.is_sqlite:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(ModelportError):
                for job_id in await asyncio.to_thread(self._records.to_cancel):
                    self._cancel(job_id)

    async def close(self) -> None:
        """End the processes; their jobs go on when the server comes back."""
        self._stopping.set()
        for process in self._processes:
            process.stop()
        await self._idle.wait()
        await self._durable.close()

    def _soon(self, work: Any) -> None:
        """Begin something on the loop, from any thread."""

        def begin() -> None:
            task = self._loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _tell(self, job_ids: list[str]) -> None:
        """Until it is heard: the rows are there, and are told again at the next start anyway."""
        pause = 0.2
        while True:
            try:
                await self._durable.tell(job_ids)
                return
            except Exception as error:
                _log.exception("jobs cannot be started")
                log("jobs_wait", error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30)

    def _submitted(self, job_id: str, priority: int) -> None:
        self._loop.call_soon_threadsafe(self._gate.expect, job_id, priority)
        self._soon(self._tell([job_id]))

    def _cancel_soon(self, job_id: str) -> None:
        self._loop.call_soon_threadsafe(self._cancel, job_id)

    def _cancel(self, job_id: str) -> None:
        if event := self._ends.get(job_id):
            event.set()
        else:  # it pauses between two attempts, or has not been heard of yet: its next attempt finds it ended
            self._soon(self._cancel_waiting(job_id))

    async def _cancel_waiting(self, job_id: str) -> None:
        self._gate.expect_no_more(job_id)
        await asyncio.to_thread(self._records.cancelled, job_id)
        await self._tidy(job_id)

    # -- one attempt ----------------------------------------------------------------------------------------------

    async def attempt(self, job_id: str) -> float | None:
        """Wait for room, do it, write down what became of it. Seconds until the next attempt, or None."""
        pause = 0.5
        while True:
            try:
                return await self._attempt(job_id)
            except Exception as error:  # the database is away: what was done is found, or done again
                _log.exception("attempt at job %s", job_id)
                log("job_waits", job=job_id, error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 30)

    async def _attempt(self, job_id: str) -> float | None:
        facts = await asyncio.to_thread(self._records.facts, job_id)
        if facts is None or facts.ended:
            self._gate.expect_no_more(job_id)
            return None
        event = self._ends[job_id] = asyncio.Event()
        if facts.cancelling:
            event.set()
        try:
            outcome = await self._outcome(facts, event)
            pause = await asyncio.to_thread(self._settle, facts, outcome, event.is_set())
        finally:
            self._gate.expect_no_more(job_id)
            del self._ends[job_id]
        if pause is None:
            await self._tidy(job_id)
        return pause

    async def _tidy(self, job_id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._jobs.folder_of(job_id), ignore_errors=True)

    async def _outcome(self, facts: JobFacts, event: asyncio.Event) -> Outcome:
        try:
            kind = kind_of(facts.kind)
            if isinstance(kind, Conducted):
                return await self._conduct(kind, facts, event)
            return await self._run_apart(facts, event)
        except Cancelled:
            return Outcome(code="cancelled", message="it was cancelled")
        except ModelportError as error:
            return Outcome(code=error.code, message=error.message, again=error.status >= 500)
        except Exception as error:
            _log.exception("attempt at job %s", facts.id)
            return Outcome(message=f"the server failed with {type(error).__name__}; its log shows where", again=True)

    async def _run_apart(self, facts: JobFacts, event: asyncio.Event) -> Outcome:
        """In a process of its own, when there is room."""
        async with contextlib.AsyncExitStack() as stack:
            room = self._gate.room(facts.id, facts.priority, facts.resources)
            gpus = await self._unless_ended(stack.enter_async_context(room), event)
            attempt = await self._begin(facts.id, event)
            folder, file = self._jobs.folder_of(facts.id), self._jobs.log_of(facts.id)
            process = JobProcess(self._settings, facts, attempt, folder, file, gpus)
            if self._stopping.is_set():
                process.stop()  # before it is started: it never is
            self._processes.add(process)
            self._idle.clear()
            try:
                async with self._recording(facts.id) as meter:
                    running, ending = (
                        asyncio.ensure_future(process.run(meter.hear)),
                        asyncio.ensure_future(event.wait()),
                    )
                    await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
                    ending.cancel()
                    process.stop()
                    outcome = await running
                interrupted = self._stopping.is_set() and outcome.result is None and not event.is_set()
                if interrupted:
                    await asyncio.to_thread(self._records.waits, facts.id, "goes on when the server is up again")
            finally:
                self._processes.discard(process)
                if not self._processes:
                    self._idle.set()
        if interrupted:
            await asyncio.Future()  # this attempt was not made: the server that comes back makes it
        return outcome

    async def _begin(self, job_id: str, event: asyncio.Event) -> int:
        """The attempt's number; raises Cancelled when somebody was quicker."""
        attempt = await asyncio.to_thread(self._records.started, job_id)
        if attempt is None:
            event.set()
            raise Cancelled("it was cancelled")
        return attempt

    async def _conduct(self, kind: Conducted, facts: JobFacts, event: asyncio.Event) -> Outcome:
        """Here; what it is doing is told as a process would."""
        self._gate.expect_no_more(facts.id)
        await self._begin(facts.id, event)
        async with self._recording(facts.id) as meter:

            def progress(done: float, total: float | None, message: str, unit: str) -> None:
                meter.hear({"progress": {"done": done, "total": total, "message": message, "unit": unit}})

            run = ConductedRun(facts.id, facts.actor, self._jobs.services, self._jobs, self._deployments, progress)
            work = kind.conduct(run, params_of(kind, facts.params))
            try:
                return Outcome(result=await self._unless_ended(work, event))
            except ModelportError:
                raise
            except Exception as error:
                _log.exception("job %s failed", facts.id)
                return Outcome(message=f"the job failed with {type(error).__name__}; the server's log shows where")

    async def _unless_ended(self, work: Awaitable[T], event: asyncio.Event) -> T:
        """The work's value; raises Cancelled when somebody wants the job to end first. Never returns when the server
        stops meanwhile."""
        working = asyncio.ensure_future(work)
        ending, stopping = asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((working, ending, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await working
                if event.is_set():
                    raise Cancelled("it was cancelled")
                await asyncio.Future()
            return working.result()
        finally:
            ending.cancel()
            stopping.cancel()

    @asynccontextmanager
    async def _recording(self, job_id: str) -> AsyncIterator[Meter]:
        """Write what a job tells, a few times a second."""
        meter = Meter()

        async def flush() -> None:
            progress, metrics = meter.take()
            if progress is not None or metrics:
                await asyncio.to_thread(self._records.progressed, job_id, progress, metrics)

        async def repeat() -> None:
            while True:
                await asyncio.sleep(_FLUSH_S)
                try:
                    await flush()
                except ModelportError as error:
                    log("job_progress_lost", job=job_id, error=error.message)

        task = asyncio.create_task(repeat())
        try:
            yield meter
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(ModelportError):
                await flush()

    def _settle(self, facts: JobFacts, outcome: Outcome, ended_on_purpose: bool) -> float | None:
        if outcome.result is not None:
            self._records.succeeded(facts.id, outcome.result)
            return None
        if ended_on_purpose:
            self._records.cancelled(facts.id)
            return None
        log("job_attempt_failed", job=facts.id, kind=facts.kind, error=outcome.message)
        backoff = self._settings.jobs.backoff_s if outcome.again else None
        return self._records.failed(facts.id, outcome.code, outcome.message, backoff)
