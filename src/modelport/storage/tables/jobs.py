"""Jobs, what happened to them, their figures, and the schedules that submit them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, Int64, now


class Job(InProject, Base):
    """One durable run. Written before anybody else hears of it: what is here and not ended, is still to be done."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "project_id", "state"),
        Index(None, "project_id", "fingerprint"),
        Index(None, "state", "server"),
    )

    id: Mapped[str] = mapped_column(String(90), primary_key=True)
    kind: Mapped[str] = mapped_column(String(100))
    params: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20), default="queued")
    message: Mapped[str | None] = mapped_column(Text)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    cores: Mapped[float] = mapped_column(Double())
    memory_mb: Mapped[int]
    gpus: Mapped[int] = mapped_column(default=0)
    priority: Mapped[int] = mapped_column(default=0)
    retries: Mapped[int] = mapped_column(default=0)
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    """Attempts that its process failed; a stop of the server is none."""
    server: Mapped[str] = mapped_column(String(40))
    """The home whose server runs it: its folder and its log are there."""
    actor: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    request_id: Mapped[str | None] = mapped_column(String(128))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    stage: Mapped[str | None] = mapped_column(String(60))
    schedule: Mapped[str | None] = mapped_column(String(100))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    """Equal for stages that would do the same to the same; None where nobody can tell."""
    cancelling: Mapped[bool] = mapped_column(default=False)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error_code: Mapped[str | None] = mapped_column(String(50))
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class JobEvent(InProject, Base):
    """One change of a job's state."""

    __tablename__ = "job_events"
    __table_args__ = (Index(None, "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    data: Mapped[dict[str, Any]]


class JobMetric(InProject, Base):
    """One figure of one step of a job."""

    __tablename__ = "job_metrics"
    __table_args__ = (Index(None, "job_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    name: Mapped[str] = mapped_column(String(100))
    step: Mapped[int | None] = mapped_column(Int64)
    value: Mapped[float | None] = mapped_column(Double())


class Schedule(InProject, Base):
    """A cron, and the job that each of its ticks submits."""

    __tablename__ = "schedules"
    __table_args__ = (UniqueConstraint("project_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    cron: Mapped[str] = mapped_column(String(200))
    timezone: Mapped[str] = mapped_column(String(100))
    submit: Mapped[dict[str, Any]]
    """The body of the submission."""
    actor: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    next_at: Mapped[datetime] = mapped_column(index=True)
    last_at: Mapped[datetime | None]
    last_job: Mapped[str | None] = mapped_column(String(90))
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
