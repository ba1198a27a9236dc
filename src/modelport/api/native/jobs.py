"""Routes of jobs: submit, list, look, follow, read the log and the figures, cancel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from modelport.api.native.context import Developer, Here, Limit, Page, Viewer
from modelport.api.native.deployments import log_lines_since
from modelport.api.native.errors import responses
from modelport.control.actors import Actor
from modelport.control.jobs.service import Jobs
from modelport.control.reconciler import tail as tail_of
from modelport.errors import NotFound
from modelport.schemas.jobs import Job, JobEvent, JobId, JobMetric, JobState, JobSubmit
from modelport.schemas.names import Name

router = APIRouter(prefix="/jobs", tags=["jobs"])
_POLL_S = 0.25
#: A comment is sent when nothing happens for so long, so that a caller who has gone is noticed.
_SILENCE_S = 15.0


def _jobs_of(here: Here) -> Jobs:
    if here.jobs is None:
        raise NotFound("this server runs no jobs")
    return here.jobs


TheJobs = Annotated[Jobs, Depends(_jobs_of)]
AfterId = Annotated[JobId | None, Query(description="Id of the previous page's last item.")]


class MetricList(BaseModel):
    """Figures, oldest first."""

    items: list[JobMetric]


@router.post("", operation_id="submit_job", status_code=202, responses=responses(400, 404, 409))
def submit_job(jobs: TheJobs, actor: Developer, wish: JobSubmit) -> Job:
    """Accept a job. It runs when there is room, in a process of its own."""
    return jobs.submit(actor, wish)


@router.get("", operation_id="list_jobs")
def list_jobs(
    jobs: TheJobs,
    actor: Viewer,
    state: Annotated[JobState | None, Query(description="Only those in this state.")] = None,
    kind: Annotated[Name | None, Query(description="Only those of this kind.")] = None,
    run: Annotated[JobId | None, Query(description="Only the stages of this pipeline run.")] = None,
    limit: Limit = 100,
    after: AfterId = None,
) -> Page[Job]:
    """The project's jobs, newest first."""
    return Page(items=jobs.all(actor, state, kind, run, limit, after))


@router.get("/{id}", operation_id="get_job", responses=responses(404))
def get_job(jobs: TheJobs, actor: Viewer, id: JobId) -> Job:
    """One job."""
    return jobs.get(actor, id)


@router.post("/{id}/cancel", operation_id="cancel_job", status_code=202, responses=responses(404, 409))
def cancel_job(jobs: TheJobs, actor: Developer, id: JobId) -> Job:
    """Have it end: at once when it waits, else when its process has ended."""
    return jobs.cancel(actor, id)


@router.get("/{id}/metrics", operation_id="job_metrics", responses=responses(404))
def job_metrics(
    jobs: TheJobs,
    actor: Viewer,
    id: JobId,
    name: Annotated[str | None, Query(max_length=100, description="Only this figure.")] = None,
    limit: Annotated[int, Query(ge=1, le=100_000, description="So many of the last ones.")] = 10_000,
) -> MetricList:
    """The figures that it told, oldest first."""
    return MetricList(items=jobs.metrics(actor, id, name, limit))


@router.get(
    "/{id}/logs",
    operation_id="job_logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}}, "description": "Lines, oldest first."}, **responses(404)},
)
def job_logs(
    jobs: TheJobs,
    actor: Viewer,
    id: JobId,
    tail: Annotated[int, Query(ge=0, le=10_000, description="Lines at first.")] = 1000,
    follow: Annotated[bool, Query(description="Go on until the job ends.")] = False,
) -> StreamingResponse:
    """What its processes wrote, on the server that runs it."""
    jobs.get(actor, id)
    return StreamingResponse(_lines(jobs, actor, id, tail, follow), media_type="text/plain; charset=utf-8")


async def _lines(jobs: Jobs, actor: Actor, job_id: str, count: int, follow: bool) -> AsyncIterator[str]:
    file = jobs.log_of(job_id)
    ended = (await to_thread.run_sync(jobs.get, actor, job_id)).has_ended
    position = file.stat().st_size if file.exists() else 0
    for line in await to_thread.run_sync(tail_of, file, count) if count else []:
        yield line + "\n"
    while follow:
        text = ""
        if file.exists():
            text, position = await to_thread.run_sync(log_lines_since, file, position)
        if text:
            yield text
        elif ended:
            return
        else:
            await asyncio.sleep(_POLL_S)
            ended = (await to_thread.run_sync(jobs.get, actor, job_id)).has_ended


@router.get(
    "/{id}/events",
    operation_id="job_events",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/event-stream": {}},
            "description": "Server-sent events `state`, `progress` and `metric`; ends when the job has.",
        },
        **responses(404),
    },
)
def job_events(
    jobs: TheJobs,
    actor: Viewer,
    id: JobId,
    last_event_id: Annotated[str | None, Header(description="Goes on after this event.")] = None,
) -> StreamingResponse:
    """All that happened to it, and what happens until it ends. Of progress only the newest is told."""
    jobs.get(actor, id)
    return StreamingResponse(
        _events(jobs, actor, id, last_event_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(jobs: Jobs, actor: Actor, job_id: str, last: str | None) -> AsyncIterator[str]:
    told, silent = None, 0.0
    while True:
        job, events, more = await to_thread.run_sync(jobs.events, actor, job_id, last)
        parts = [_event(event) for event in events]
        if job.progress is not None and job.progress != told:
            told = job.progress
            parts.append(_event(JobEvent(event="progress", data=told.model_dump())))
        if events:
            last = events[-1].id
        if parts:
            yield "".join(parts)
            silent = 0.0
        if more:
            continue
        if job.has_ended:
            return
        await asyncio.sleep(_POLL_S)
        silent += _POLL_S
        if silent >= _SILENCE_S:
            yield ": still here\n\n"
            silent = 0.0


def _event(event: JobEvent) -> str:
    data = orjson.dumps(event.data).decode()
    return (f"id: {event.id}\n" if event.id else "") + f"event: {event.event}\ndata: {data}\n\n"
