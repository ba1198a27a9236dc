"""Deployments: wish, look, stop, start, roll back, and their replicas' logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from modelport.api.native.context import Developer, Here, Viewer
from modelport.control.reconciler import tail
from modelport.errors import NotFound
from modelport.schemas.deployments import Deployment, DeploymentApply
from modelport.schemas.names import NAME_PATTERN, Name

router = APIRouter(prefix="/deployments", tags=["deployments"])
_POLL_S = 0.25
_READ = 1 << 20


class DeploymentList(BaseModel):
    """One page of deployments."""

    items: list[Deployment]


@router.get("", operation_id="list_deployments")
def list_deployments(here: Here, actor: Viewer) -> DeploymentList:
    """All deployments of the project."""
    return DeploymentList(items=here.deployments.all(actor))


@router.put("/{name}", operation_id="apply_deployment", status_code=202)
def apply_deployment(here: Here, actor: Developer, name: Name, wish: DeploymentApply) -> Deployment:
    """Wish for a version. Replicas come up in the background; the present ones answer until then."""
    return here.deployments.apply(actor, name, wish)


@router.get("/{name}", operation_id="get_deployment")
def get_deployment(here: Here, actor: Viewer, name: Name) -> Deployment:
    """One deployment: what was wished for, and what has become of it."""
    return here.deployments.get(actor, name)


@router.delete("/{name}", operation_id="delete_deployment", status_code=204)
def delete_deployment(here: Here, actor: Developer, name: Name) -> None:
    """Take it away; requests under way are answered."""
    here.deployments.delete(actor, name)


@router.post("/{name}/stop", operation_id="stop_deployment")
def stop_deployment(here: Here, actor: Developer, name: Name) -> Deployment:
    """End the replicas, keep the wish."""
    return here.deployments.set_stopped(actor, name, True)


@router.post("/{name}/start", operation_id="start_deployment")
def start_deployment(here: Here, actor: Developer, name: Name) -> Deployment:
    """Start a stopped deployment again."""
    return here.deployments.set_stopped(actor, name, False)


@router.post("/{name}/rollback", operation_id="rollback_deployment", status_code=202)
def rollback_deployment(here: Here, actor: Developer, name: Name) -> Deployment:
    """Wish for the last revision that worked before the present one."""
    return here.deployments.rollback(actor, name)


@router.get(
    "/{name}/logs",
    operation_id="deployment_logs",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/plain": {}}, "description": "Lines, oldest first."}},
)
def deployment_logs(
    here: Here,
    actor: Viewer,
    name: Name,
    lines: Annotated[int, Query(alias="tail", ge=0, le=10_000, description="Lines of each replica at first.")] = 100,
    follow: Annotated[bool, Query(description="Go on until the caller hangs up.")] = False,
    replica: Annotated[str | None, Query(pattern=NAME_PATTERN, description="Only this replica.")] = None,
) -> StreamingResponse:
    """What the replicas wrote."""
    number = here.deployments.identify(actor, name)
    prefix = f"replica-{number}-"
    logs = here.settings.home / "logs"
    if replica is not None and not (logs / f"replica-{replica}.log").name.startswith(prefix):
        raise NotFound(f"deployment {name!r} has no replica {replica[:100]!r}; `modelport status` shows them")
    pattern = f"replica-{replica}.log" if replica is not None else f"{prefix}*.log"
    return StreamingResponse(_lines(logs, pattern, lines, follow), media_type="text/plain; charset=utf-8")


async def _lines(logs: Path, pattern: str, count: int, follow: bool) -> AsyncIterator[str]:
    positions: dict[Path, int] = {}
    files = sorted(await asyncio.to_thread(lambda: list(logs.glob(pattern))), key=lambda f: f.stat().st_mtime)
    for file in files:
        positions[file] = file.stat().st_size
        for line in await asyncio.to_thread(tail, file, count) if count else []:
            yield line + "\n"
    while follow:
        await asyncio.sleep(_POLL_S)
        for file in sorted(await asyncio.to_thread(lambda: list(logs.glob(pattern)))):
            text, positions[file] = await asyncio.to_thread(log_lines_since, file, positions.get(file, 0))
            if text:
                yield text


def log_lines_since(file: Path, position: int) -> tuple[str, int]:
    """Whole lines of a log from a position on, and the position behind them."""
    size = file.stat().st_size
    if size < position:  # it was rotated
        position = 0
    with file.open("rb") as log:
        log.seek(position)
        data = log.read(_READ)
    end = data.rfind(b"\n") + 1
    whole = data[:end] if end or len(data) < _READ else data  # a line beyond that comes in pieces
    return whole.decode(errors="replace"), position + len(whole)
