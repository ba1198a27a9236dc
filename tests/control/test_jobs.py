"""Jobs as rows, on SQLite and PostgreSQL: states, events, ids, keeping, schedules by a clock that tests set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from modelport import plugins
from modelport.control.actors import Actor
from modelport.control.assembly import Services
from modelport.control.blobs import Blobs, Limits
from modelport.control.datasets import Datasets
from modelport.control.evaluations import Evaluations
from modelport.control.files import Files
from modelport.control.grades import Grades
from modelport.control.identity import Identity
from modelport.control.jobs.process import Meter
from modelport.control.jobs.records import JobRecords, new_job_id
from modelport.control.jobs.schedules import Schedules, next_tick
from modelport.control.jobs.service import Jobs
from modelport.control.registry import Registry
from modelport.errors import Conflict, InvalidInput, NotFound, Overloaded
from modelport.schemas.jobs import JobSubmit, ScheduleCreate
from modelport.settings import JobSettings, Settings
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database


class Nothing:
    """A kind whose check refuses what it is told to."""

    class Params(BaseModel):
        model_config = ConfigDict(extra="forbid")

        refuse: bool = False

    def check(self, services: Any, actor: Actor, params: Any) -> None:
        if Nothing.away or params.refuse:
            raise NotFound("there is no dataset 'x'")

    away = False

    def run(self, run: Any, params: Any) -> dict[str, Any]:
        raise AssertionError("nothing runs here")


@pytest.fixture
def jobs(
    database: Database, artifacts: Artifacts, identity: Identity, registry: Registry, tmp_path: Path, monkeypatch: Any
) -> Iterator[Jobs]:
    monkeypatch.setattr(plugins, "names", lambda group: ("nothing",))
    monkeypatch.setattr(plugins, "load", lambda group, name: Nothing)
    limits = JobSettings(cores=2, memory_mb=1000, retries=1, max_queued=8, keep=3, keep_days=30)
    settings = Settings(home=tmp_path / "home", jobs=limits)
    blobs = Blobs(database, artifacts, Limits())
    datasets, files = Datasets(database, artifacts, blobs, tmp_path / "datasets"), Files(database, artifacts, blobs)
    grades = Grades(database, settings.grades)
    services = Services(
        settings, database, artifacts, identity, registry, datasets, Evaluations(database), grades, files
    )
    yield Jobs(services, settings)
    Nothing.away = False


@pytest.fixture
def records(jobs: Jobs, database: Database) -> JobRecords:
    return JobRecords(database, jobs.server)


WISH = JobSubmit(kind="nothing")


def test_a_life(jobs: Jobs, records: JobRecords, actor: Actor) -> None:
    told: list[tuple[str, int]] = []
    jobs.on_submitted.append(lambda *one: told.append(one))
    job = jobs.submit(actor, JobSubmit(kind="nothing", priority=3, resources={"memory_mb": 100}))
    assert told == [(job.id, 3)] and records.unfinished() == [job.id]
    assert (job.state, job.attempt, job.retries, job.created_by) == ("queued", 0, 1, actor.name)
    facts = records.facts(job.id)
    assert facts is not None and facts.actor == actor and (facts.priority, facts.resources.memory_mb) == (3, 100)
    assert records.started(job.id) == 1
    metric = {"name": "loss\x00", "step": 1, "value": None}
    records.progressed(job.id, {"done": 1, "total": 2, "message": "", "unit": "rows"}, [metric])
    assert records.failed(job.id, "run_failed", "it died", 2) == 2
    assert jobs.get(actor, job.id).message == "it died; attempt 1 of 2, the next one in 2 s"
    assert records.started(job.id) == 2
    assert records.failed(job.id, "run_failed", "it died again", 2) is None
    ended = jobs.get(actor, job.id)
    assert (ended.state, ended.error and ended.error.message, ended.attempt) == ("failed", "it died again", 2)
    assert ended.ended_at and ended.started_at and ended.progress and ended.progress.done == 1
    assert records.started(job.id) is None and records.unfinished() == []
    records.succeeded(job.id, {"late": True})
    records.cancelled(job.id)
    assert jobs.get(actor, job.id) == ended, "what has ended stays as it is"
    _, events, more = jobs.events(actor, job.id, None)
    assert [event.data.get("state") for event in events if event.event == "state"] == [
        "queued", "running", "queued", "running", "failed",
    ]  # fmt: skip
    assert not more and jobs.events(actor, job.id, events[2].id)[1] == events[3:]
    assert [m.value for m in jobs.metrics(actor, job.id)] == [None]
    for nonsense in ("x", "1", "-1.2", "9" * 50 + ".1"):
        assert jobs.events(actor, job.id, nonsense)[1] == events


def test_what_its_process_cannot_help_counts_no_failure(jobs: Jobs, records: JobRecords, actor: Actor) -> None:
    job = jobs.submit(actor, WISH)
    for attempt in range(1, 5):
        assert records.started(job.id) == attempt
        records.waits(job.id, "the server stops")
    assert records.failed(job.id, "run_failed", "x", 1) == 1, "its first failure"


def test_cancelling(jobs: Jobs, records: JobRecords, actor: Actor) -> None:
    told: list[str] = []
    jobs.on_cancel.append(told.append)
    job = jobs.submit(actor, WISH)
    assert jobs.cancel(actor, job.id).cancelling and told == [job.id] == records.to_cancel()
    assert records.started(job.id) is None, "it is not begun any more"
    assert records.failed(job.id, "run_failed", "x", 1) is None, "and not tried again"
    with pytest.raises(Conflict, match="has failed already"):
        jobs.cancel(actor, job.id)


def test_too_many_are_refused(jobs: Jobs, actor: Actor, stranger: Actor) -> None:
    for _ in range(8):
        jobs.submit(actor, WISH)
    with pytest.raises(Overloaded, match="8 jobs of this project have not ended"):
        jobs.submit(actor, WISH)
    jobs.submit(stranger, WISH)


def test_lists_are_paged_newest_first_and_of_one_project(jobs: Jobs, actor: Actor, stranger: Actor) -> None:
    ids = [jobs.submit(actor, WISH).id for _ in range(5)]
    jobs.submit(stranger, WISH)
    assert [job.id for job in jobs.all(actor)] == ids[::-1]
    assert [job.id for job in jobs.all(actor, limit=2)] == ids[:2:-1]
    assert [job.id for job in jobs.all(actor, limit=2, after=ids[3])] == [ids[2], ids[1]]
    assert jobs.all(actor, state="running") == jobs.all(actor, kind="other") == []
    with pytest.raises(NotFound):
        jobs.get(stranger, ids[0])


def test_ids_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(2000)]
    assert ids == sorted(set(ids)) and {len(one) for one in ids} == {26}


def test_only_the_newest_are_kept(jobs: Jobs, records: JobRecords, actor: Actor, stranger: Actor) -> None:
    ids = [jobs.submit(actor, WISH).id for _ in range(6)]
    other = jobs.submit(stranger, WISH).id
    for job_id in [*ids[:5], other]:
        jobs.log_of(job_id).parent.mkdir(parents=True, exist_ok=True)
        jobs.log_of(job_id).write_text("x")
        records.succeeded(job_id, {})
    removed: list[list[str]] = []
    jobs.on_removed.append(removed.append)
    assert jobs.prune() == 2 and sorted(removed[0]) == ids[:2]
    assert [job.id for job in jobs.all(actor)] == ids[:1:-1], "those that have not ended do not count"
    assert not jobs.log_of(ids[0]).exists() and jobs.log_of(ids[2]).exists()
    assert jobs.get(stranger, other).state == "succeeded" and jobs.prune() == 0


def test_folders_of_ended_jobs_are_swept(jobs: Jobs, records: JobRecords, actor: Actor) -> None:
    alive, dead = jobs.submit(actor, WISH).id, jobs.submit(actor, WISH).id
    records.succeeded(dead, {})
    for job_id in (alive, dead, "UNKNOWN"):
        (jobs.folder_of(job_id) / "x").mkdir(parents=True)
    jobs.sweep()
    assert [jobs.folder_of(job_id).exists() for job_id in (alive, dead, "UNKNOWN")] == [True, False, False]


# -- schedules ------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **more: float) -> None:
        self.now += timedelta(**more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def schedules(jobs: Jobs, clock: Clock) -> Schedules:
    return Schedules(jobs, clock)


EVERY_MINUTE = ScheduleCreate(kind="nothing", cron="* * * * *", priority=4)


def test_a_tick_submits_once(schedules: Schedules, jobs: Jobs, actor: Actor, clock: Clock) -> None:
    assert schedules.put(actor, "s", EVERY_MINUTE).next_at == datetime(2026, 3, 1, 12, 1, tzinfo=UTC)
    schedules.act()
    assert jobs.all(actor) == []
    clock.forward(seconds=40)
    schedules.act()
    schedules.act()
    (job,) = jobs.all(actor)
    assert (job.schedule, job.priority, job.created_by) == ("s", 4, actor.name)
    (seen,) = schedules.all(actor)
    assert (seen.last_job, seen.last_at, seen.next_at) == (
        job.id, datetime(2026, 3, 1, 12, 1, tzinfo=UTC), datetime(2026, 3, 1, 12, 2, tzinfo=UTC),
    )  # fmt: skip


def test_missed_ticks_count_as_one_and_overlaps_are_skipped(
    schedules: Schedules, jobs: Jobs, records: JobRecords, actor: Actor, clock: Clock
) -> None:
    schedules.put(actor, "s", EVERY_MINUTE)
    clock.forward(hours=5)
    schedules.act()
    (job,) = jobs.all(actor)
    clock.forward(minutes=1)
    schedules.act()
    (seen,) = schedules.all(actor)
    assert jobs.all(actor) == [job]
    assert seen.note == f"skipped: job {job.id} of the tick before is still queued"
    records.succeeded(job.id, {})
    clock.forward(minutes=1)
    schedules.act()
    assert len(jobs.all(actor)) == 2 and schedules.all(actor)[0].note is None


def test_a_tick_that_is_refused_says_why(schedules: Schedules, jobs: Jobs, actor: Actor, clock: Clock) -> None:
    schedules.put(actor, "s", EVERY_MINUTE)
    Nothing.away = True
    clock.forward(minutes=1)
    schedules.act()
    assert jobs.all(actor) == [] and schedules.all(actor)[0].note == "refused: there is no dataset 'x'"
    with pytest.raises(NotFound):
        schedules.put(actor, "other", EVERY_MINUTE)


def test_schedules_belong_to_a_project(schedules: Schedules, actor: Actor, stranger: Actor) -> None:
    schedules.put(actor, "s", EVERY_MINUTE)
    schedules.put(actor, "s", ScheduleCreate(kind="nothing", cron="0 3 * * *", timezone="Europe/Berlin"))
    (seen,) = schedules.all(actor)
    assert (seen.cron, seen.next_at.hour) == ("0 3 * * *", 2)
    assert schedules.all(stranger) == []
    with pytest.raises(NotFound, match="there is no schedule 's'"):
        schedules.delete(stranger, "s")
    schedules.delete(actor, "s")
    assert schedules.all(actor) == []


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("", "UTC", "cron: "), ("* * * *", "UTC", "cron: "), ("60 * * * *", "UTC", "cron: "),
        ("* * * * * * *", "UTC", "cron: "), ("@daily", "UTC", "cron: "), ("a b c d e", "UTC", "cron: "),
        ("0 0 30 2 *", "UTC", "cron: "), ("*/0 * * * *", "UTC", "cron: "), ("9999999999 * * * *", "UTC", "cron: "),
        ("* * * * *", "Mars/Olympus", "timezone: 'Mars/Olympus' is unknown"),
        ("* * * * *", "../../etc/passwd", "timezone: "), ("* * * * *", "\x00", "timezone: "),
    ],
)  # fmt: skip
def test_crons_that_are_none(cron: str, timezone: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        next_tick(cron, timezone, datetime.now(UTC))
    assert caught.value.message.startswith(message)


def test_the_rate_is_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    meter = Meter()
    for step in range(30):
        now = float(step)
        meter.hear(
            {"progress": {"done": step * (1 if step < 15 else 10), "total": 1000, "message": "", "unit": "rows"}}
        )
    progress, _ = meter.take()
    assert progress is not None and progress["rate"] == 10 and progress["eta_s"] == 71
    assert meter.take() == (None, [])
