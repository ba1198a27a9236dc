"""Routes of schedules: jobs that are submitted again and again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from modelport.api.native.context import Developer, Here, Page, Viewer
from modelport.api.native.errors import responses
from modelport.control.jobs.schedules import Schedules
from modelport.errors import NotFound
from modelport.schemas.jobs import Schedule, ScheduleCreate
from modelport.schemas.names import Name

router = APIRouter(prefix="/schedules", tags=["jobs"])


def _schedules_of(here: Here) -> Schedules:
    if here.schedules is None:
        raise NotFound("this server runs no jobs")
    return here.schedules


TheSchedules = Annotated[Schedules, Depends(_schedules_of)]


@router.get("", operation_id="list_schedules")
def list_schedules(schedules: TheSchedules, actor: Viewer) -> Page[Schedule]:
    """The project's schedules, by name."""
    return Page(items=schedules.all(actor))


@router.put("/{name}", operation_id="put_schedule", responses=responses(400, 404))
def put_schedule(schedules: TheSchedules, actor: Developer, name: Name, wish: ScheduleCreate) -> Schedule:
    """Submit a job at every tick of a cron. Missed ticks count as one; a tick skips while the last one's job runs."""
    return schedules.put(actor, name, wish)


@router.delete("/{name}", operation_id="delete_schedule", status_code=204, responses=responses(404))
def delete_schedule(schedules: TheSchedules, actor: Developer, name: Name) -> None:
    """No more ticks; jobs that it has submitted go on."""
    schedules.delete(actor, name)
