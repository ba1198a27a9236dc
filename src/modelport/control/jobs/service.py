"""Jobs: submit, look, follow, cancel. A job is a row first; then whoever runs jobs is told.

Knows no process: what a kind of work needs is checked here, what becomes of it is written by ``records``.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.assembly import Services
from modelport.control.jobs.gate import Capacity
from modelport.control.jobs.records import change_state, new_job_id
from modelport.control.jobs.run import Conducted, kind_of, least_memory_mb, params_of
from modelport.errors import Conflict, NotFound, Overloaded
from modelport.schemas.jobs import (
    ENDED,
    Job,
    JobError,
    JobEvent,
    JobMetric,
    JobProgress,
    JobState,
    JobSubmit,
    Resources,
)
from modelport.settings import Settings
from modelport.storage import tables

_PRUNED_AT_ONCE = 200
_EVENTS_AT_ONCE = 500


class Jobs:
    """The service of the noun. Synchronous; safe for many threads."""

    def __init__(self, services: Services, settings: Settings) -> None:
        self.services, self._settings = services, settings
        self._database = services.database
        self.capacity = Capacity.of(settings.jobs.cores, settings.jobs.memory_mb)
        self.server = server_id(settings.home)
        self.on_submitted: list[Callable[[str, int], None]] = []
        """Called with the id and the priority of a job that is to be run."""
        self.on_cancel: list[Callable[[str], None]] = []
        """Called with the id of a job that somebody wants to end."""
        self.on_removed: list[Callable[[list[str]], None]] = []
        """Called with the ids of jobs that are forgotten."""

    # -- what callers ask -----------------------------------------------------------------------------------------

    def submit(self, actor: Actor, wish: JobSubmit, **place: str | None) -> Job:
        """Accept a job; raises InvalidInput and what its kind's check finds. ``place`` is for stages and schedules."""
        resources = self.check(actor, wish)
        with self._database.session() as session:
            job_id = self.insert(session, actor, wish, resources, **place).id
        self.tell(job_id, wish.priority)
        return self.get(actor, job_id)

    def check(self, actor: Actor, wish: JobSubmit) -> Resources:
        """Everything that can be known before it is accepted; what it will hold while it runs."""
        kind = kind_of(wish.kind)
        params = params_of(kind, wish.params)
        granted = self.capacity.grant(wish.resources, least_memory_mb(kind))
        kind.check(self.services, actor, params)
        return Resources(cores=0, memory_mb=0) if isinstance(kind, Conducted) else granted

    def insert(
        self,
        session: Session,
        actor: Actor,
        wish: JobSubmit,
        resources: Resources,
        *,
        id: str | None = None,
        run: str | None = None,
        stage: str | None = None,
        schedule: str | None = None,
        fingerprint: str | None = None,
    ) -> tables.Job:
        """The row of a checked job, with its event and its audit row, in the caller's transaction."""
        job, most = tables.Job, self._settings.jobs.max_queued
        mine = (job.project_id == actor.project_id, job.state.not_in(ENDED))
        if run is None and (session.scalar(select(func.count()).select_from(job).where(*mine)) or 0) >= most:
            raise Overloaded(f"{most} jobs of this project have not ended; cancel some, or wait", retry_after=10)
        row = job(
            id=id or new_job_id(),
            project_id=actor.project_id,
            kind=wish.kind,
            params=wish.params,
            cores=resources.cores,
            memory_mb=resources.memory_mb,
            gpus=resources.gpus,
            priority=wish.priority,
            retries=self._settings.jobs.retries if wish.retries is None else wish.retries,
            server=self.server,
            actor=actor.name,
            role=actor.role,
            request_id=actor.request_id,
            run_id=run,
            stage=stage,
            schedule=schedule,
            fingerprint=fingerprint,
            attempt=0,
        )
        session.add(row)
        session.flush()
        change_state(session, row, "queued", None)
        audit.record(session, actor, "job.submit", row.id, {"kind": wish.kind, "run": run, "schedule": schedule})
        return row

    def tell(self, job_id: str, priority: int) -> None:
        """Have a job run whose row is committed."""
        for hook in self.on_submitted:
            hook(job_id, priority)

    def all(
        self,
        actor: Actor,
        state: JobState | None = None,
        kind: str | None = None,
        run: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> list[Job]:
        """The project's jobs, newest first, beginning after the id ``after``; a run's stages only by ``run``."""
        job = tables.Job
        query = select(job).where(job.project_id == actor.project_id)
        for column, wanted in ((job.state, state), (job.kind, kind), (job.run_id, run)):
            if wanted is not None:
                query = query.where(column == wanted)
        if after is not None:
            query = query.where(job.id < after)
        with self._database.reading() as session:
            return [shown(row) for row in session.scalars(query.order_by(job.id.desc()).limit(limit))]

    def get(self, actor: Actor, job_id: str) -> Job:
        """One; raises NotFound."""
        with self._database.reading() as session:
            return shown(_require(session, actor, job_id))

    def cancel(self, actor: Actor, job_id: str) -> Job:
        """Have a job end; raises Conflict when it has ended. A run's stages end with it."""
        with self._database.session() as session:
            row = _require(session, actor, job_id, lock=True)
            if row.state in ENDED:
                raise Conflict(f"job {job_id} has {row.state} already; there is nothing to cancel")
            stages = select(tables.Job).where(tables.Job.run_id == job_id, tables.Job.state.not_in(ENDED))
            told = [row, *session.scalars(stages)]
            for one in told:
                one.cancelling = True
                change_state(session, one, shown(one).state, "told to end")
            audit.record(session, actor, "job.cancel", job_id, {"kind": row.kind})
            ids = [one.id for one in told]
        for hook in self.on_cancel:
            for one_id in ids:
                hook(one_id)
        return self.get(actor, job_id)

    def events(self, actor: Actor, job_id: str, last: str | None) -> tuple[Job, list[JobEvent], bool]:
        """The job, what happened to it since the event ``last``, and whether more of that waits.

        An event's id says how much of both lists was told: ``12.340`` is state change 12 and figure 340.
        """
        told_events, told_metrics = _place(last)
        with self._database.reading() as session:
            row = _require(session, actor, job_id)
            event, metric = tables.JobEvent, tables.JobMetric
            changes = session.scalars(
                select(event).where(event.job_id == job_id, event.id > told_events)
                .order_by(event.id).limit(_EVENTS_AT_ONCE)
            ).all()  # fmt: skip
            figures = session.scalars(
                select(metric).where(metric.job_id == job_id, metric.id > told_metrics)
                .order_by(metric.id).limit(_EVENTS_AT_ONCE)
            ).all()  # fmt: skip
            job = shown(row)
        both: list[tables.JobEvent | tables.JobMetric] = sorted([*changes, *figures], key=lambda one: one.at)
        found = []
        for one in both:
            if isinstance(one, tables.JobEvent):
                told_events = one.id
                data, name = {**one.data, "at": one.at.isoformat()}, "state"
            else:
                told_metrics = one.id
                data, name = _metric(one).model_dump(mode="json"), "metric"
            found.append(JobEvent(id=f"{told_events}.{told_metrics}", event=name, data=data))
        return job, found, _EVENTS_AT_ONCE in (len(changes), len(figures))

    def metrics(self, actor: Actor, job_id: str, name: str | None = None, limit: int | None = None) -> list[JobMetric]:
        """A job's figures in the order in which they came; the last ``limit`` of them."""
        metric = tables.JobMetric
        with self._database.reading() as session:
            _require(session, actor, job_id)
            query = select(metric).where(metric.job_id == job_id)
            if name is not None:
                query = query.where(metric.name == name)
            found = session.scalars(query.order_by(metric.id.desc()).limit(limit)).all()
            return [_metric(row) for row in reversed(found)]

    # -- files ----------------------------------------------------------------------------------------------------

    def log_of(self, job_id: str) -> Path:
        """The file with what a job's process wrote; of a job of this server."""
        return self._settings.home / "logs" / f"job-{job_id}.log"

    def folder_of(self, job_id: str) -> Path:
        """Where a job keeps what its next attempt needs."""
        return self._settings.home / "jobs" / job_id

    def sweep(self) -> None:
        """Remove the folders of jobs that have ended: their server was killed before it could."""
        folders = self._settings.home / "jobs"
        names = [entry.name for entry in folders.iterdir()] if folders.is_dir() else []
        with self._database.reading() as session:
            alive = set(session.scalars(select(tables.Job.id).where(tables.Job.state.not_in(ENDED))))
        for name in set(names) - alive:
            shutil.rmtree(folders / name, ignore_errors=True)

    def prune(self) -> int:
        """Forget the oldest ended jobs beyond what the settings keep, with their logs; returns how many."""
        removed: list[str] = []
        with self._database.reading() as session:
            projects = session.scalars(select(tables.Project.id)).all()
        for project_id in projects:
            while some := self._too_old(project_id):
                with self._database.session() as session:
                    session.execute(delete(tables.Job).where(tables.Job.id.in_(some)))
                removed += some
        for job_id in removed:
            for file in (self.log_of(job_id), self.log_of(job_id).with_suffix(".log.1")):
                file.unlink(missing_ok=True)
        for hook in self.on_removed:
            hook(removed)
        return len(removed)

    def _too_old(self, project_id: int) -> list[str]:
        """Some of a project's jobs that are to go; a stage goes with its run only."""
        job, settings = tables.Job, self._settings.jobs
        ended = (job.project_id == project_id, job.state.in_(ENDED), job.run_id.is_(None))
        oldest_kept = tables.now() - timedelta(days=settings.keep_days)
        with self._database.reading() as session:
            newest = select(job.id).where(*ended).order_by(job.id.desc())
            found = set(session.scalars(newest.offset(settings.keep).limit(_PRUNED_AT_ONCE)))
            found |= set(session.scalars(newest.where(job.ended_at < oldest_kept).limit(_PRUNED_AT_ONCE)))
            return [*found, *session.scalars(select(job.id).where(job.run_id.in_(found)))]


def server_id(home: Path) -> str:
    """What tells this home's server from others on the same database; made when it is first asked for."""
    file = home / "server-id"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = secrets.token_hex(16)
        partial = file.with_suffix(".part")
        partial.write_text(made)
        partial.replace(file)
        return made


def _place(last: str | None) -> tuple[int, int]:
    first, _, second = (last or "").partition(".")
    return (int(first), int(second)) if first.isdecimal() and second.isdecimal() and len(last or "") < 40 else (0, 0)


def _require(session: Session, actor: Actor, job_id: str, lock: bool = False) -> tables.Job:
    row = session.get(tables.Job, job_id, with_for_update=lock or None)
    if row is None or row.project_id != actor.project_id:
        raise NotFound(f"there is no job {job_id[:100]!r}; `modelport jobs list` shows them")
    return row


def _metric(row: tables.JobMetric) -> JobMetric:
    return JobMetric(name=row.name, step=row.step, value=row.value, at=row.at)


def shown(row: tables.Job) -> Job:
    """A row as the API shows it."""
    error: dict[str, Any] | None = None
    if row.error_code is not None:
        error = {"code": row.error_code, "message": row.error_message or ""}
    return Job(
        id=row.id,
        kind=row.kind,
        params=row.params,
        state=row.state,
        message=row.message,
        progress=JobProgress(**row.progress) if row.progress else None,
        attempt=row.attempt,
        resources=Resources(cores=row.cores, memory_mb=row.memory_mb, gpus=row.gpus),
        priority=row.priority,
        retries=row.retries,
        created_at=row.created_at,
        created_by=row.actor,
        started_at=row.started_at,
        ended_at=row.ended_at,
        result=row.result,
        error=JobError(**error) if error else None,
        run=row.run_id,
        stage=row.stage,
        schedule=row.schedule,
        cancelling=row.cancelling,
    )
