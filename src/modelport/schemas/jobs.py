"""Job: one durable run of a kind of work, as the API shows it; and Schedule: the cron that submits one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.names import Name

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
#: States that are never left again.
ENDED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")

Cores = Annotated[float, Field(ge=0, le=4096)]
MemoryMb = Annotated[int, Field(ge=64, le=2**31 - 1)]
Gpus = Annotated[int, Field(ge=0, le=64)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
Retries = Annotated[int, Field(ge=0, le=100)]
#: A job's id, or that of a pipeline's stage: ``RUN.stage``.
JobId = Annotated[str, Field(pattern=r"^[0-9A-Z]{26}(\.[A-Za-z0-9][A-Za-z0-9_-]{0,59})?$", max_length=90)]


class ResourcesAsked(BaseModel):
    """What a job wants; what it does not name is chosen by the server."""

    model_config = ConfigDict(extra="forbid")

    cores: Cores | None = None
    """Cores that are kept free for it. [1]"""
    memory_mb: MemoryMb | None = None
    """Most memory of its process, MB; beyond it the job fails. By default its cores' share of the server's."""
    gpus: Gpus = 0
    """GPUs that it has alone."""


class Resources(BaseModel):
    """What a job holds while it runs."""

    cores: float
    memory_mb: int
    gpus: int = 0


class JobSubmit(BaseModel):
    """Body of ``POST /jobs``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"kind": "clean", "params": {"dataset": "digits:1"}, "priority": 10}]},
    )

    kind: Name
    """What is to be done: the name of a plug-in."""
    params: dict[str, Any] = {}
    """What the kind takes."""
    resources: ResourcesAsked = ResourcesAsked()
    priority: Priority = 0
    """The highest begins first; among equals the oldest."""
    retries: Retries | None = None
    """How often it is begun again after its process failed. [2]"""


class JobProgress(BaseModel):
    """How far a job is."""

    done: float
    total: float | None = None
    unit: str = "rows"
    message: str = ""
    rate: float | None = None
    """Units per second, of late."""
    eta_s: float | None = None
    """Seconds until the total is reached, at that rate."""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Job(BaseModel):
    """One durable run of a kind of work."""

    id: str
    kind: str
    params: dict[str, Any]
    state: JobState
    message: str | None = None
    """What it waits for, or did last, in one line."""
    progress: JobProgress | None = None
    attempt: int
    """How often its process was started."""
    resources: Resources
    priority: int
    retries: int
    created_at: datetime
    created_by: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: JobError | None = None
    run: str | None = None
    """The pipeline run that it is a stage of."""
    stage: str | None = None
    schedule: str | None = None
    """The schedule that submitted it."""
    cancelling: bool = False
    """Whether somebody asked for its end."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ENDED


class JobMetric(BaseModel):
    """One figure of one step."""

    name: str
    step: int | None
    value: float | None
    """None stands for what JSON has no number for: infinity, and what is no number."""
    at: datetime


class JobEvent(BaseModel):
    """One thing that happened to a job, as its event stream tells it."""

    id: str | None = None
    """Where to go on after a broken connection; None for progress, of which only the newest counts."""
    event: Literal["state", "progress", "metric"]
    data: dict[str, Any]


class ScheduleCreate(JobSubmit):
    """Body of ``PUT /schedules/{name}``: a job, and when it is submitted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"cron": "0 3 * * *", "kind": "collect", "params": {"source": "s3://raw/", "name": "raw"}}]
        },
    )

    cron: Annotated[str, Field(min_length=1, max_length=200)]
    """Minute, hour, day of month, month, day of week; a sixth field is the second."""
    timezone: Annotated[str, Field(min_length=1, max_length=100)] = "UTC"
    """Name of the time zone that the cron is read in, such as ``Europe/Berlin``."""


class Schedule(BaseModel):
    """A job that is submitted again and again."""

    name: str
    cron: str
    timezone: str
    kind: str
    params: dict[str, Any]
    priority: int
    next_at: datetime
    last_at: datetime | None = None
    """The tick that was acted on last."""
    last_job: str | None = None
    note: str | None = None
    """What became of the last tick when it did not make a job: skipped, or refused, and why."""
    created_by: str
    created_at: datetime
