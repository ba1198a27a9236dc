"""What becomes of a job, written down: every change of state is one transaction with its event.

For whoever runs jobs; what callers ask is in ``jobs``. Knows no process and no queue.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from modelport.control.actors import Actor
from modelport.schemas.access import ROLES
from modelport.schemas.jobs import ENDED, JobState, Resources
from modelport.storage import tables
from modelport.storage.database import Database

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LONGEST_MESSAGE = 4000


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as whoever runs it sees it."""

    id: str
    kind: str
    params: dict[str, Any]
    actor: Actor
    resources: Resources
    priority: int
    attempt: int
    ended: bool
    cancelling: bool


class _Ids:
    """Sortable by time, also within one millisecond: 48 bits of time, 80 that begin at random."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def make(self) -> str:
        with self._lock:
            fresh = (time.time_ns() // 1_000_000 << 80) | secrets.randbits(79)
            self._last = max(fresh, self._last + 1)
            number = self._last
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


new_job_id = _Ids().make


def change_state(session: Session, row: tables.Job, state: JobState, message: str | None, **more: Any) -> None:
    """Move a job on, with the event that tells so."""
    row.state = state
    row.message = clean(message)
    if state in ENDED:
        row.ended_at = tables.now()
    data = {"state": state, "attempt": row.attempt, "message": row.message, **more}
    session.add(tables.JobEvent(project_id=row.project_id, job_id=row.id, data=data))


def actor_of(row: tables.Job | tables.Schedule, project: str, request_id: str | None = None) -> Actor:
    """Who submitted it, acting again."""
    role = next(role for role in ROLES if role == row.role)
    return Actor(row.project_id, project, row.actor, role, request_id=request_id)


def clean(text: str | None) -> str | None:
    """A text that every database takes, of bounded length."""
    return None if text is None else text.replace("\x00", "�")[:_LONGEST_MESSAGE]


class JobRecords:
    """The writing side of jobs, for one server."""

    def __init__(self, database: Database, server: str) -> None:
        self._database, self._server = database, server

    def unfinished(self) -> list[str]:
        """Jobs of this server that have not ended, oldest first."""
        job = tables.Job
        query = select(job.id).where(job.state.not_in(ENDED), job.server == self._server).order_by(job.id)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def to_cancel(self) -> list[str]:
        """Jobs of this server that somebody wants to end."""
        job = tables.Job
        mine = (job.state.not_in(ENDED), job.server == self._server, job.cancelling)
        with self._database.reading() as session:
            return list(session.scalars(select(job.id).where(*mine)))

    def facts(self, job_id: str) -> JobFacts | None:
        """One job; None when it has been removed."""
        query = select(tables.Job, tables.Project.name).join(tables.Project, tables.Project.id == tables.Job.project_id)
        with self._database.reading() as session:
            found = session.execute(query.where(tables.Job.id == job_id)).one_or_none()
            if found is None:
                return None
            row, project = found
            actor = actor_of(row, project, row.request_id)
            return JobFacts(
                row.id, row.kind, row.params, actor,
                Resources(cores=row.cores, memory_mb=row.memory_mb, gpus=row.gpus),
                row.priority, row.attempt, row.state in ENDED, row.cancelling,
            )  # fmt: skip

    def started(self, job_id: str) -> int | None:
        """A new attempt begins; returns its number, or None when it must not."""
        with self._database.session() as session:
            row = session.get_one(tables.Job, job_id, with_for_update=True)
            if row.cancelling or row.state in ENDED:
                return None
            row.attempt += 1
            row.started_at = row.started_at or tables.now()
            change_state(session, row, "running", None)
            return row.attempt

    def waits(self, job_id: str, message: str) -> None:
        """It is back in the queue, through no fault of its own."""
        with self._database.session() as session:
            row = session.get(tables.Job, job_id, with_for_update=True)
            if row is not None and row.state == "running":
                change_state(session, row, "queued", message)

    def progressed(self, job_id: str, progress: dict[str, Any] | None, metrics: Sequence[dict[str, Any]] = ()) -> None:
        """How far it is, and the figures since the last time."""
        with self._database.session() as session:
            row = session.get(tables.Job, job_id)
            if row is None:
                return
            if progress is not None:
                session.execute(update(tables.Job).where(tables.Job.id == job_id).values(progress=progress))
            session.add_all(
                tables.JobMetric(
                    project_id=row.project_id,
                    job_id=job_id,
                    name=clean(str(metric["name"]))[:100],  # type: ignore[index]
                    step=metric["step"],
                    value=metric["value"],
                )
                for metric in metrics
            )

    def succeeded(self, job_id: str, result: dict[str, Any]) -> None:
        """It has done what it should."""
        with self._database.session() as session:
            row = session.get_one(tables.Job, job_id, with_for_update=True)
            if row.state not in ENDED:
                row.result = result
                change_state(session, row, "succeeded", None)

    def failed(self, job_id: str, code: str, message: str, backoff_s: float | None) -> float | None:
        """An attempt failed. Seconds until the next one; None when there is none: with ``backoff_s`` None, or when
        all retries are used up."""
        with self._database.session() as session:
            row = session.get_one(tables.Job, job_id, with_for_update=True)
            if row.state in ENDED:
                return None
            row.failures += 1
            if backoff_s is not None and row.failures <= row.retries and not row.cancelling:
                pause = float(min(backoff_s * 2 ** (row.failures - 1), 300))
                said = f"{message}; attempt {row.failures} of {row.retries + 1}, the next one in {pause:g} s"
                change_state(session, row, "queued", said)
                return pause
            row.error_code, row.error_message = code, clean(message)
            change_state(session, row, "failed", message, code=code)
            return None

    def cancelled(self, job_id: str) -> None:
        """It was ended because somebody asked for it."""
        with self._database.session() as session:
            row = session.get_one(tables.Job, job_id, with_for_update=True)
            if row.state not in ENDED:
                change_state(session, row, "cancelled", None)
