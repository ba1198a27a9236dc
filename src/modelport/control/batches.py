"""Batches: a file of requests that is worked on by a job, beside the live ones and behind them.

``Batches`` is what callers ask, ``BatchRecords`` what the job writes down. A batch and its job have the same id, so
that a batch whose job ended otherwise says so. Knows no line and no model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.files import Files, require_file, seconds
from modelport.control.jobs.records import new_job_id
from modelport.control.jobs.service import Jobs
from modelport.errors import Conflict, InvalidInput, NotFound, Overloaded
from modelport.schemas.batches import (
    FINAL,
    MOST_BYTES,
    Batch,
    BatchCreate,
    BatchErrors,
    BatchProblem,
    BatchStatus,
    RequestCounts,
    seconds_of,
)
from modelport.schemas.jobs import ENDED, JobSubmit, ResourcesAsked
from modelport.schemas.models import FileEntry
from modelport.storage import tables
from modelport.storage.database import Database

KIND = "openai-batch"
MEMORY_MB = 768
_CORES = 0.1
"""The models' replicas do the work."""
_RETRIES = 100
"""It goes on from what is written, so that no attempt is in vain."""
_PREFIX = "batch_"


class Batches:
    """What callers ask: those who only call have their own key's, everybody else the project's. Synchronous; safe for
    many threads."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs, self._database, self._files = jobs, jobs.services.database, jobs.services.files
        self._most_open = jobs.services.settings.batches.key_open

    def create(self, actor: Actor, wish: BatchCreate) -> Batch:
        """Accept a batch, with its job; raises NotFound without the file, InvalidInput, Overloaded, TooLarge."""
        window = seconds_of(wish.completion_window)
        if window is None:
            raise InvalidInput.of(
                "completion_window", "'completion_window' is a time of at most 30 days, such as '24h' or '30m'"
            )
        memory = min(MEMORY_MB, self._jobs.capacity.memory_mb)
        asked = ResourcesAsked(cores=min(_CORES, self._jobs.capacity.cores), memory_mb=memory)
        resources = self._jobs.capacity.grant(asked)
        job_id, now = new_job_id(), tables.now()
        with self._database.session() as session:
            file = require_file(session, actor, wish.input_file_id)
            if file.purpose != "batch":
                raise InvalidInput.of("input_file_id", f"file {file.id} was written by a batch; upload one for it")
            if file.size > MOST_BYTES:
                raise InvalidInput.of(
                    "input_file_id", f"file {file.id} has {file.size} bytes, a batch takes {MOST_BYTES}; cut it"
                )
            self._check_open(session, actor)
            self._files.check_room(session, actor, 1)  # for what it writes
            job = JobSubmit(kind=KIND, params={"batch": _PREFIX + job_id}, retries=_RETRIES)
            job_row = self._jobs.insert(session, actor, job, resources, id=job_id)
            row = tables.Batch(
                id=job_id, project_id=actor.project_id, key_id=actor.key_id, endpoint=wish.endpoint,
                input_file_id=file.id, completion_window=wish.completion_window,
                expires_at=now + timedelta(seconds=window), status="validating", moments={},
                labels=wish.metadata, created_at=now,
                output_seconds=wish.output_expires_after.seconds if wish.output_expires_after else None,
            )  # fmt: skip
            session.add(row)
            session.flush()
            detail = {"endpoint": wish.endpoint, "input_file_id": file.id}
            audit.record(session, actor, "batch.create", _PREFIX + job_id, detail)
            found = _shown(row, job_row)
        self._jobs.tell(job_id, job.priority)
        return found

    def _check_open(self, session: Session, actor: Actor) -> None:
        batch, job = tables.Batch, tables.Job
        if actor.key_id is None:
            return
        session.get(tables.Project, actor.project_id, with_for_update=True)  # two that begin see each other
        mine = (batch.project_id == actor.project_id, batch.key_id == actor.key_id)
        going = select(func.count()).select_from(batch).join(job, job.id == batch.id).where(*mine)
        open_ = session.scalar(going.where(batch.status.not_in(FINAL), job.state.not_in(ENDED))) or 0
        if open_ >= self._most_open:
            raise Overloaded(f"{open_} batches of your key are not done yet; cancel some, or wait", retry_after=60)

    def all(self, actor: Actor, limit: int = 20, after: str | None = None) -> tuple[list[Batch], bool]:
        """A page of the project's batches (a caller's own), newest first, and whether there are more behind it."""
        query = _with_jobs().where(tables.Batch.project_id == actor.project_id)
        if not actor.may("viewer"):
            query = query.where(tables.Batch.key_id == actor.key_id)
        if after is not None:
            query = query.where(tables.Batch.id < after.removeprefix(_PREFIX))
        with self._database.reading() as session:
            rows = session.execute(query.order_by(tables.Batch.id.desc()).limit(limit + 1)).all()
            found = [_shown(row, job) for row, job in rows]
        return found[:limit], len(found) > limit

    def get(self, actor: Actor, batch_id: str) -> Batch:
        """One; raises NotFound."""
        with self._database.reading() as session:
            return _shown(*_known(session, actor, batch_id))

    def cancel(self, actor: Actor, batch_id: str) -> Batch:
        """Have it end with what is done; raises Conflict when it has ended, or is about to, and NotAllowed."""
        with self._database.session() as session:
            row, job = _known(session, actor, batch_id, lock=True)
            actor.require_own(row.key_id, batch_id)
            found = _shown(row, job)
            if found.status in FINAL or found.status == "finalizing":
                raise Conflict(f"{batch_id} is {found.status}; there is nothing to cancel")
            waits = job.state == "queued" and not job.attempt
            if row.status != "cancelling":
                _move(row, "cancelling")
                audit.record(session, actor, "batch.cancel", batch_id, {"input_file_id": row.input_file_id})
            if waits:  # nothing was done, and nobody need come to say so
                _move(row, "cancelled")
            found = _shown(row, job)
        if waits:
            self._jobs.cancel(actor, row.id)
        return found


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A batch as its job sees it."""

    id: str
    endpoint: str
    input_file_id: str
    expires_at: float
    """Seconds since the epoch."""
    status: str
    key_id: str | None
    """Whose limits hold."""


@dataclass(slots=True)
class Outcome:
    """What has become of a batch's lines."""

    status: BatchStatus
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: dict[str, Any] | None = None
    problems: list[BatchProblem] | None = None
    output: FileEntry | None = None
    errors: FileEntry | None = None


class BatchRecords:
    """What the job of a batch writes down."""

    def __init__(self, database: Database, files: Files, actor: Actor, job_id: str) -> None:
        self._database, self._files, self._actor, self._id = database, files, actor, job_id

    def facts(self) -> BatchFacts:
        """As they are now; raises NotFound."""
        with self._database.reading() as session:
            row, _ = _require(session, self._actor.project_id, _PREFIX + self._id)
            return BatchFacts(
                row.id, row.endpoint, row.input_file_id, row.expires_at.timestamp(), row.status, row.key_id
            )

    def source(self, facts: BatchFacts) -> Iterator[bytes]:
        """The input in chunks; raises NotFound."""
        return self._files.source(self._actor.project_id, facts.input_file_id)

    def is_unwanted(self) -> bool:
        """Whether somebody wants it to end, by the batch or by its job."""
        with self._database.reading() as session:
            row, job = _require(session, self._actor.project_id, _PREFIX + self._id)
            return row.status == "cancelling" or job.cancelling

    def begun(self, total: int, model: str | None) -> None:
        """Its lines are known, and are worked on."""
        with self._database.session() as session:
            row, _ = _require(session, self._actor.project_id, _PREFIX + self._id, lock=True)
            row.total, row.model = total, model and model[:200]
            if row.status == "validating":
                _move(row, "in_progress")

    def counted(self, completed: int, failed: int) -> None:
        """How far it is."""
        with self._database.session() as session:
            row, _ = _require(session, self._actor.project_id, _PREFIX + self._id, lock=True)
            row.completed, row.failed = completed, failed

    def finalizing(self) -> None:
        """Every line is accounted for."""
        with self._database.session() as session:
            row, _ = _require(session, self._actor.project_id, _PREFIX + self._id, lock=True)
            if row.status == "in_progress":
                _move(row, "finalizing")

    def settle(self, outcome: Outcome) -> dict[str, Any]:
        """Its last state, with its files, all or nothing; the job's result. Done twice it is done once."""
        with self._database.session() as session:
            row, _ = _require(session, self._actor.project_id, _PREFIX + self._id, lock=True)
            if row.status not in FINAL:
                row.total, row.completed, row.failed = outcome.total, outcome.completed, outcome.failed
                row.usage = outcome.usage
                if outcome.problems is not None:
                    row.problems = BatchErrors(data=outcome.problems).model_dump(mode="json")
                row.output_file_id = self._written(session, row, outcome.output, "output")
                row.error_file_id = self._written(session, row, outcome.errors, "error")
                _move(row, outcome.status)
                detail = {"status": outcome.status, "completed": outcome.completed, "failed": outcome.failed}
                audit.record(session, self._actor, "batch.end", _PREFIX + self._id, detail)
            return {
                "batch": _PREFIX + row.id, "status": row.status, "completed": row.completed, "failed": row.failed,
                "output_file_id": row.output_file_id, "error_file_id": row.error_file_id,
            }  # fmt: skip

    def _written(self, session: Session, row: tables.Batch, entry: FileEntry | None, what: str) -> str | None:
        if entry is None:
            return None
        name, owner = f"{_PREFIX}{self._id}_{what}.jsonl", replace(self._actor, key_id=row.key_id)
        return self._files.insert(session, owner, entry, name, "batch_output", row.output_seconds).id


def _with_jobs() -> Any:
    """Of rows of both."""
    return select(tables.Batch, tables.Job).join(tables.Job, tables.Job.id == tables.Batch.id)


def _known(session: Session, actor: Actor, batch_id: str, lock: bool = False) -> tuple[tables.Batch, tables.Job]:
    row, job = _require(session, actor.project_id, batch_id, lock)
    if not actor.sees(row.key_id):
        raise _missing(batch_id)
    return row, job


def _require(
    session: Session, project_id: int, batch_id: str, lock: bool = False
) -> tuple[tables.Batch, tables.Job]:  # fmt: skip
    query = _with_jobs().where(tables.Batch.id == batch_id.removeprefix(_PREFIX))
    if lock:
        query = query.with_for_update(of=tables.Batch)
    found = session.execute(query).one_or_none() if batch_id.startswith(_PREFIX) else None
    if found is None or found[0].project_id != project_id:
        raise _missing(batch_id)
    return found[0], found[1]


def _missing(batch_id: str) -> NotFound:
    return NotFound(f"there is no batch {batch_id[:100]!r}; GET /v1/batches lists those there are")


def _move(row: tables.Batch, status: BatchStatus) -> None:
    row.status = status
    row.moments = {**row.moments, status: seconds(tables.now())}


def _shown(row: tables.Batch, job: tables.Job) -> Batch:
    status, moments, problems = row.status, dict(row.moments), row.problems
    if status not in FINAL and job.state in ENDED:  # by `modelport jobs cancel` before it began, or beyond help
        status = "cancelled" if job.state == "cancelled" else "failed"
        moments[status] = seconds(job.ended_at or tables.now())
        if status == "failed":
            said = BatchProblem(code=job.error_code or "run_failed", message=job.error_message or "its job failed")
            problems = BatchErrors(data=[said]).model_dump(mode="json")
    return Batch.model_validate({
        "id": _PREFIX + row.id, "endpoint": row.endpoint, "model": row.model, "errors": problems,
        "input_file_id": row.input_file_id, "completion_window": row.completion_window, "status": status,
        "output_file_id": row.output_file_id, "error_file_id": row.error_file_id,
        "created_at": seconds(row.created_at), "expires_at": seconds(row.expires_at),
        "request_counts": RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        "usage": row.usage, "metadata": row.labels,
        **{f"{name}_at": moment for name, moment in moments.items()},
    })  # fmt: skip
