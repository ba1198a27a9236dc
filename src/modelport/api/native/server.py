"""The server itself: status, and Open Inference V2's model repository."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel

from modelport import __version__
from modelport.api.inference_v2 import check_load_parameters
from modelport.api.native.context import Context, Developer, Here, Viewer, read_json
from modelport.api.native.errors import PlainErrorBody, responses
from modelport.control.actors import Actor
from modelport.control.deployments import Deployments
from modelport.errors import Conflict, NotFound
from modelport.schemas.deployments import DeploymentApply
from modelport.schemas.names import Name
from modelport.schemas.server import ServerStatus

router = APIRouter(tags=["server"])
_LOAD_S = 120.0
_UNLOAD_S = 10.0
_plain = partial(responses, body=PlainErrorBody)
repository = APIRouter(
    prefix="/v2/repository", tags=["Open Inference repository"], responses=_plain(401, 403, 422, 503)
)


@router.get("/status", operation_id="server_status")
def server_status(here: Here, actor: Viewer) -> ServerStatus:
    """The whole tree at a glance."""
    tree = here.tree
    assert tree is not None  # set before the first request is taken
    return ServerStatus(
        version=__version__, pid=tree.pid, uptime_s=round(time.time() - tree.started_at, 1), http=tree.http,
        grpc=tree.grpc, keys_required=here.identity.required, gateways=tree.gateways(),
        deployments=here.deployments.all(actor),
    )  # fmt: skip


class IndexQuery(BaseModel):
    """Body of the repository index."""

    ready: bool = False


class IndexEntry(BaseModel):
    """One version in the repository index."""

    name: str
    version: str = ""
    state: str
    reason: str = ""


def _takes(kind: type[BaseModel]) -> dict[str, Any]:
    """The documentation of a body that is read whatever its Content-Type: Triton's clients name none, curl another."""
    return {"requestBody": {"content": {"application/json": {"schema": kind.model_json_schema()}}}}


@repository.post("/index", operation_id="repository_index", openapi_extra=_takes(IndexQuery))
async def repository_index(request: Request, here: Here, actor: Viewer) -> list[IndexEntry]:
    """Every model of the registry, and whether it is served."""
    query = await read_json(request, IndexQuery)
    entries = await to_thread.run_sync(_entries, here, actor)
    return [entry for entry in entries if entry.state == "READY" or not query.ready]


def _entries(here: Context, actor: Actor) -> list[IndexEntry]:
    entries = []
    deployed = set()
    for found in here.deployments.all(actor):
        deployed.add(found.model)
        coming = "LOADING" if found.state in ("starting", "updating") else "UNAVAILABLE"
        state = "READY" if found.replicas_ready and found.state != "stopped" else coming
        version = str(found.serving_version or found.version)
        entries.append(IndexEntry(name=found.name, version=version, state=state, reason=found.reason or ""))
    for model in here.registry.models(actor):
        if model.name not in deployed and model.latest_version is not None:
            version = str(model.latest_version)
            entries.append(IndexEntry(name=model.name, version=version, state="UNAVAILABLE", reason="not deployed"))
    return entries


class LoadQuery(BaseModel):
    """Body of a load."""

    parameters: dict[str, Any] = {}
    """Triton's ``config`` and ``file:…`` are refused; others mean nothing here."""


@repository.post(
    "/models/{name}/load",
    operation_id="repository_load",
    openapi_extra=_takes(LoadQuery),
    responses=_plain(400, 404, 409),
)
async def repository_load(request: Request, here: Here, actor: Developer, name: Name) -> dict[str, str]:
    """Serve a model: start its deployment, or make one of its newest version; returns when it is ready."""
    check_load_parameters((await read_json(request, LoadQuery)).parameters)
    await to_thread.run_sync(_begin, here.deployments, actor, name)
    deadline = time.monotonic() + _LOAD_S
    while True:
        found = await to_thread.run_sync(here.deployments.get, actor, name)
        if found.state in ("ready", "degraded") and found.replicas_ready:
            return {}
        if found.state == "failed":
            raise Conflict(f"model {name!r} does not load: {found.reason}; `modelport logs {name}` shows more")
        if time.monotonic() > deadline:
            raise Conflict(
                f"model {name!r} was not ready within {_LOAD_S:.0f} s: {found.reason}; "
                "`modelport status` shows what becomes of it"
            )
        await asyncio.sleep(0.05)


def _begin(deployments: Deployments, actor: Actor, name: str) -> None:
    try:
        found = deployments.get(actor, name)
    except NotFound:
        deployments.apply(actor, name, DeploymentApply(model=name))
        return
    if found.state == "stopped":
        deployments.set_stopped(actor, name, False)
    elif found.state == "failed":
        deployments.apply(actor, name, DeploymentApply(model=found.model, version=found.version, spec=found.spec))


@repository.post("/models/{name}/unload", operation_id="repository_unload", responses=_plain(404))
async def repository_unload(here: Here, actor: Developer, name: Name) -> dict[str, str]:
    """Stop serving a model; requests under way are answered."""
    deadline = time.monotonic() + _UNLOAD_S
    found = await to_thread.run_sync(here.deployments.set_stopped, actor, name, True)
    while found.replicas_ready and time.monotonic() < deadline:
        await asyncio.sleep(0.02)  # until no gateway sends callers there
        found = await to_thread.run_sync(here.deployments.get, actor, name)
    return {}
