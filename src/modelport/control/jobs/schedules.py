"""Schedules: a cron, and the job that each of its ticks submits.

A tick moves the schedule on and submits its job in one transaction, so that none is acted on twice, by whichever server
of the database sees it first. Ticks that passed while no server ran count as one. While the last tick's job has not
ended, the next tick submits nothing and says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter
from sqlalchemy import select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.jobs.records import actor_of
from modelport.control.jobs.service import Jobs
from modelport.errors import InvalidInput, ModelportError, NotFound
from modelport.schemas.jobs import ENDED, JobSubmit, Resources, Schedule, ScheduleCreate
from modelport.storage import tables
from modelport.telemetry import log

_LONGEST_SLEEP_S = 5.0
_FIELDS = (5, 6)
#: A cron that never comes (the 30th of February) is looked for this far ahead, years.
_YEARS = 8


class Schedules:
    """The service of the noun, and the loop that acts on ticks."""

    def __init__(self, jobs: Jobs, now: Callable[[], datetime] = tables.now) -> None:
        self._jobs, self._now = jobs, now
        self._database = jobs.services.database

    def put(self, actor: Actor, name: str, wish: ScheduleCreate) -> Schedule:
        """Make a schedule, or change the one of that name; its job is checked as a submission is."""
        next_at = next_tick(wish.cron, wish.timezone, self._now())
        submit = JobSubmit.model_validate(wish.model_dump(include=set(JobSubmit.model_fields), exclude_unset=True))
        self._jobs.check(actor, submit)
        with self._database.session() as session:
            row = _find(session, actor, name)
            if row is None:
                row = tables.Schedule(project_id=actor.project_id, name=name)
                session.add(row)
            row.cron, row.timezone, row.next_at, row.note = wish.cron, wish.timezone, next_at, None
            row.submit = submit.model_dump(mode="json", exclude_unset=True)
            row.actor, row.role = actor.name, actor.role
            session.flush()
            audit.record(session, actor, "schedule.put", name, {"cron": wish.cron, "kind": wish.kind})
            return _shape(row)

    def all(self, actor: Actor) -> list[Schedule]:
        """The project's, by name."""
        query = select(tables.Schedule).where(tables.Schedule.project_id == actor.project_id)
        with self._database.reading() as session:
            return [_shape(row) for row in session.scalars(query.order_by(tables.Schedule.name))]

    def delete(self, actor: Actor, name: str) -> None:
        """No more ticks; raises NotFound."""
        with self._database.session() as session:
            row = _find(session, actor, name)
            if row is None:
                raise NotFound(f"there is no schedule {name[:100]!r}; `modelport jobs schedules` lists them")
            session.delete(row)
            audit.record(session, actor, "schedule.delete", name)

    async def run(self) -> None:
        """Act on every tick, for ever."""
        while True:
            try:
                pause = await asyncio.to_thread(self.act)
            except Exception as error:  # the database is away: the ticks are still due when it is back
                log("schedules_wait", error=type(error).__name__)
                pause = _LONGEST_SLEEP_S
            await asyncio.sleep(pause)

    def act(self) -> float:
        """Act on the ticks that are due; seconds until it is worth looking again."""
        schedule = tables.Schedule
        with self._database.reading() as session:
            due = session.scalars(select(schedule.id).where(schedule.next_at <= self._now())).all()
        for schedule_id in due:
            self._tick(schedule_id)
        with self._database.reading() as session:
            nearest = session.scalars(select(schedule.next_at).order_by(schedule.next_at).limit(1)).one_or_none()
        seconds = _LONGEST_SLEEP_S if nearest is None else (nearest - self._now()).total_seconds()
        return min(max(seconds, 0.05), _LONGEST_SLEEP_S)

    def _tick(self, schedule_id: int) -> None:
        found = self._due(schedule_id)
        if found is None:
            return
        actor, submit = found
        resources: Resources | None = None
        refused = None
        try:
            resources = self._jobs.check(actor, submit)
        except ModelportError as error:
            if error.status >= 500:
                raise
            refused = f"refused: {error.message}"
        job_id = None
        with self._database.session() as session:
            row = session.get(tables.Schedule, schedule_id, with_for_update=True)
            now = self._now()
            if row is None or row.next_at > now:  # another server was quicker
                return
            row.last_at, row.note = row.next_at, refused
            row.next_at = next_tick(row.cron, row.timezone, now)
            last = session.get(tables.Job, row.last_job) if row.last_job else None
            if last is not None and last.state not in ENDED:
                row.note = f"skipped: job {last.id} of the tick before is still {last.state}"
            elif resources is not None:
                job_id = self._jobs.insert(session, actor, submit, resources, schedule=row.name).id
                row.last_job = job_id
            note, name = row.note, row.name
        if note is not None:
            log("schedule_tick_without_job", schedule=name, project=actor.project, note=note)
        if job_id is not None:
            self._jobs.tell(job_id, submit.priority)

    def _due(self, schedule_id: int) -> tuple[Actor, JobSubmit] | None:
        with self._database.reading() as session:
            row = session.get(tables.Schedule, schedule_id)
            if row is None:
                return None
            project = session.get_one(tables.Project, row.project_id)
            return actor_of(row, project.name), JobSubmit.model_validate(row.submit)


def next_tick(cron: str, timezone: str, after: datetime) -> datetime:
    """The first moment of a cron after another; raises InvalidInput."""
    try:
        zone = ZoneInfo(timezone)
    except (OSError, ValueError, KeyError):  # KeyError: ZoneInfoNotFoundError
        raise InvalidInput(
            f"timezone: {timezone[:60]!r} is unknown; give a name such as UTC or Europe/Berlin"
        ) from None
    refused = InvalidInput(
        f"cron: {cron[:100]!r} is not like '0 3 * * *' (minute, hour, day of month, month, day of week)"
    )
    if len(cron.split()) not in _FIELDS or not re.fullmatch(r"[\w\s*/,#?-]+", cron):
        raise refused
    try:
        found = croniter(cron, after.astimezone(zone), max_years_between_matches=_YEARS).get_next(datetime)
    except (CroniterError, ValueError, KeyError, OverflowError):
        raise refused from None
    assert isinstance(found, datetime)
    return found.astimezone(UTC)


def _find(session: Session, actor: Actor, name: str) -> tables.Schedule | None:
    schedule = tables.Schedule
    query = select(schedule).where(schedule.project_id == actor.project_id, schedule.name == name)
    return session.scalars(query).one_or_none()


def _shape(row: tables.Schedule) -> Schedule:
    return Schedule(
        name=row.name,
        cron=row.cron,
        timezone=row.timezone,
        kind=row.submit["kind"],
        params=row.submit.get("params", {}),
        priority=row.submit.get("priority", 0),
        next_at=row.next_at,
        last_at=row.last_at,
        last_job=row.last_job,
        note=row.note,
        created_by=row.actor,
        created_at=row.created_at,
    )
