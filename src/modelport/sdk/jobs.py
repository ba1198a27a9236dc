"""Jobs and schedules: submit, wait, follow, read logs and figures, cancel."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, overload

from pydantic import BaseModel, ValidationError

from modelport.errors import DeadlineExceeded, ModelportError, Unavailable, from_wire
from modelport.schemas.jobs import (
    Job,
    JobEvent,
    JobMetric,
    JobState,
    JobSubmit,
    ResourcesAsked,
    Schedule,
    ScheduleCreate,
)
from modelport.sdk.flows import (
    Awaiting,
    Blocking,
    D_co,
    Flow,
    Operations,
    Request,
    Sleep,
    operation,
    path_of,
    send,
    send_json,
)
from modelport.sdk.models import API, refused

#: How long a server that answers nothing is waited for, seconds: it may be starting again.
_SILENCE_S = 60.0
_LONGEST_PAUSE_S = 0.5
JobList = list[Job]
MetricList = list[JobMetric]
ScheduleList = list[Schedule]
#: Called with the job each time that it was looked at.
JobWatch = Callable[[Job], object]


class JobFailed(ModelportError):
    """The job that was waited for failed or was cancelled; ``job`` tells more."""

    def __init__(self, job: Job) -> None:
        said = f"job {job.id} ({job.kind}) was cancelled" if job.error is None else job.error.message
        like = from_wire(job.error.code if job.error is not None else "cancelled", "")
        self.code, self.status, self.grpc_status = like.code, like.status, like.grpc_status
        super().__init__(said)
        self.job = job


def ignore_job(job: Job) -> None:
    """For callers who do not watch."""


def wish_of(kind: str, params: BaseModel | dict[str, Any] | None, fields: dict[str, Any]) -> JobSubmit:
    """A submission from the arguments of ``submit``; raises InvalidInput naming the field."""
    plain = params.model_dump(mode="json") if isinstance(params, BaseModel) else params or {}
    asked = {name: fields.pop(name) for name in ("cores", "memory_mb", "gpus") if fields.get(name) is not None}
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return JobSubmit(kind=kind, params=plain, resources=ResourcesAsked(**asked), **given)
    except ValidationError as error:
        raise refused(error, JobSubmit) from None


def wait_for(job_id: str, timeout: float | None, progress: JobWatch, raises: bool) -> Flow[Job]:
    """Look at a job until it has ended."""
    began = heard = time.monotonic()
    pause = 0.05
    while True:
        try:
            job = Job.model_validate((yield from send_json("GET", API + path_of("jobs", job_id))))
        except Unavailable:
            if time.monotonic() >= heard + _SILENCE_S:
                raise
        else:
            heard = time.monotonic()
            progress(job)
            if job.has_ended:
                if raises and job.state != "succeeded":
                    raise JobFailed(job)
                return job
        if timeout is not None and time.monotonic() >= began + timeout:
            raise DeadlineExceeded(
                f"job {job_id} has not ended after {timeout:g} s; it goes on: `modelport jobs show {job_id}` tells "
                f"how, `modelport jobs cancel {job_id}` ends it"
            )
        yield Sleep(pause)
        pause = min(pause * 1.3, _LONGEST_PAUSE_S)


class Jobs(Operations[D_co]):
    """``client.jobs``."""

    @operation
    def submit(
        self,
        kind: str,
        params: BaseModel | dict[str, Any] | None = None,
        *,
        cores: float | None = None,
        memory_mb: int | None = None,
        gpus: int | None = None,
        priority: int | None = None,
        retries: int | None = None,
    ) -> Flow[Job]:
        """Have work done; comes back when it is accepted. ``params`` are what the kind takes."""
        wish = wish_of(
            kind, params,
            {"cores": cores, "memory_mb": memory_mb, "gpus": gpus, "priority": priority, "retries": retries},
        )  # fmt: skip
        body = wish.model_dump(mode="json", exclude_unset=True)
        return Job.model_validate((yield from send_json("POST", f"{API}/jobs", body, idempotent=False)))

    @operation
    def get(self, id: str) -> Flow[Job]:
        """One job."""
        return Job.model_validate((yield from send_json("GET", API + path_of("jobs", id))))

    @operation
    def list(
        self,
        *,
        state: JobState | None = None,
        kind: str | None = None,
        run: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Flow[JobList]:
        """The newest jobs, at most ``limit`` (1000), beginning after the id ``after``; of a pipeline run its stages."""
        wanted = {"state": state, "kind": kind, "run": run, "limit": limit, "after": after}
        params = {name: value for name, value in wanted.items() if value is not None}
        answer = yield from send_json("GET", f"{API}/jobs", params=params)
        return [Job.model_validate(item) for item in answer["items"]]

    @operation
    def cancel(self, id: str) -> Flow[Job]:
        """Have it end; it has not always ended when this comes back."""
        return Job.model_validate((yield from send_json("POST", API + path_of("jobs", id, "cancel"))))

    @operation
    def wait(
        self, id: str, timeout: float | None = None, *, progress: JobWatch = ignore_job, raises: bool = True
    ) -> Flow[Job]:
        """Wait until it has ended, also over restarts of the server.

        Raises JobFailed when it did not succeed (unless ``raises`` is False), DeadlineExceeded after ``timeout`` s.
        """
        return (yield from wait_for(id, timeout, progress, raises))

    @operation
    def metrics(self, id: str, name: str | None = None, *, limit: int = 10_000) -> Flow[MetricList]:
        """The last figures that it told, oldest first."""
        params: dict[str, str | int] = {"limit": limit, **({"name": name} if name is not None else {})}
        answer = yield from send_json("GET", API + path_of("jobs", id, "metrics"), params=params)
        return [JobMetric.model_validate(item) for item in answer["items"]]

    @overload
    def logs(self: Jobs[Blocking], id: str, *, follow: bool = ..., tail: int = ...) -> Iterator[str]: ...
    @overload
    def logs(self: Jobs[Awaiting], id: str, *, follow: bool = ..., tail: int = ...) -> AsyncIterator[str]: ...
    def logs(self: Any, id: str, *, follow: bool = False, tail: int = 1000) -> Any:
        """The last ``tail`` lines that it wrote, and with ``follow`` those to come until it ends."""
        params: dict[str, str | int] = {"tail": tail, "follow": "true" if follow else "false"}
        return self._driver.lines(Request("GET", API + path_of("jobs", id, "logs"), params=params, endless=follow))

    @overload
    def events(self: Jobs[Blocking], id: str, *, last: str | None = ...) -> Iterator[JobEvent]: ...
    @overload
    def events(self: Jobs[Awaiting], id: str, *, last: str | None = ...) -> AsyncIterator[JobEvent]: ...
    def events(self: Any, id: str, *, last: str | None = None) -> Any:
        """All that happened to it and happens until it ends, beginning after the event whose id is ``last``."""
        headers = {"last-event-id": last} if last is not None else {}
        lines = self._driver.lines(Request("GET", API + path_of("jobs", id, "events"), headers=headers, endless=True))
        return _awaited_events(lines) if hasattr(lines, "__aiter__") else _events(lines)


class Schedules(Operations[D_co]):
    """``client.schedules``."""

    @operation
    def put(self, name: str, cron: str, wish: JobSubmit, *, timezone: str = "UTC") -> Flow[Schedule]:
        """Submit a job at every tick of a cron; takes the place of a schedule of that name."""
        body = wish.model_dump(mode="json", exclude_unset=True)
        try:
            whole = ScheduleCreate.model_validate({**body, "cron": cron, "timezone": timezone})
        except ValidationError as error:
            raise refused(error, ScheduleCreate) from None
        found = whole.model_dump(mode="json", exclude_unset=True)
        return Schedule.model_validate((yield from send_json("PUT", API + path_of("schedules", name), found)))

    @operation
    def list(self) -> Flow[ScheduleList]:
        """All schedules, by name."""
        return [Schedule.model_validate(item) for item in (yield from send_json("GET", f"{API}/schedules"))["items"]]

    @operation
    def delete(self, name: str) -> Flow[None]:
        """No more ticks; jobs that it has submitted go on."""
        yield from send(Request("DELETE", API + path_of("schedules", name)))


class _Event:
    """Puts the lines of an event stream together."""

    def __init__(self) -> None:
        self._fields: dict[str, str] = {}

    def feed(self, line: str) -> JobEvent | None:
        """The event that the line completes."""
        if line:
            name, _, value = line.partition(":")
            if name:  # else it is a comment
                self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return JobEvent.model_validate(
            {"id": fields.get("id"), "event": fields.get("event"), "data": json.loads(fields["data"])}
        )


def _events(lines: Iterator[str]) -> Iterator[JobEvent]:
    event = _Event()
    for line in lines:
        if found := event.feed(line):
            yield found


async def _awaited_events(lines: AsyncIterator[str]) -> AsyncIterator[JobEvent]:
    event = _Event()
    async for line in lines:
        if found := event.feed(line):
            yield found
