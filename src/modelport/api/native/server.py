"""The server itself: status, and Open Inference V2's model repository."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from modelport import __version__
from modelport.api.native.context import Developer, Here, Viewer
from modelport.control.actors import Actor
from modelport.errors import Conflict, NotFound
from modelport.schemas.deployments import DeploymentApply
from modelport.schemas.names import Name
from modelport.schemas.server import ServerStatus

router = APIRouter(tags=["server"])
repository = APIRouter(prefix="/v2/repository", tags=["Open Inference repository"])


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


@repository.post("/index", operation_id="repository_index")
def repository_index(here: Here, actor: Viewer, query: IndexQuery | None = None) -> list[IndexEntry]:
    """Every model of the registry, and whether it is served."""
    return index(here, actor, ready_only=query is not None and query.ready)


def index(here: Any, actor: Actor, *, ready_only: bool) -> list[IndexEntry]:
    """The entries of the index."""
    entries = []
    deployed = {}
    for found in here.deployments.all(actor):
        deployed[found.model] = found
        coming = "LOADING" if found.state in ("starting", "updating") else "UNAVAILABLE"
        state = "READY" if found.replicas_ready and found.state != "stopped" else coming
        version = found.serving_version or found.version
        entries.append(IndexEntry(name=found.name, version=str(version), state=state, reason=found.reason or ""))
    for model in here.registry.models(actor):
        if model.name not in deployed and model.latest_version is not None:
            version = str(model.latest_version)
            entries.append(IndexEntry(name=model.name, version=version, state="UNAVAILABLE", reason="not deployed"))
    return [entry for entry in entries if entry.state == "READY" or not ready_only]


@repository.post("/models/{name}/load", operation_id="repository_load")
def repository_load(here: Here, actor: Developer, name: Name) -> dict[str, str]:
    """Serve a model: start its deployment, or make one of its newest version; returns when it is ready."""
    load(here, actor, name)
    return {}


def load(here: Any, actor: Actor, name: str) -> None:
    """Raises Conflict with the reason when it does not come up."""
    try:
        found = here.deployments.get(actor, name)
        if found.state == "stopped":
            here.deployments.set_stopped(actor, name, False)
        elif found.state == "failed":
            here.deployments.apply(
                actor, name, DeploymentApply(model=found.model, version=found.version, spec=found.spec)
            )
    except NotFound:
        here.deployments.apply(actor, name, DeploymentApply(model=name))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = here.deployments.get(actor, name)
        if found.state == "ready":
            return
        if found.state == "failed":
            raise Conflict(f"model {name!r} does not load: {found.reason}; `modelport logs {name}` shows more")
        time.sleep(0.05)
    raise Conflict(f"model {name!r} was not ready in time: {found.reason}; `modelport status` shows what it does")


@repository.post("/models/{name}/unload", operation_id="repository_unload")
def repository_unload(here: Here, actor: Developer, name: Name) -> dict[str, str]:
    """Stop serving a model; requests under way are answered."""
    here.deployments.set_stopped(actor, name, True)
    deadline = time.monotonic() + 10
    while here.deployments.get(actor, name).replicas_ready and time.monotonic() < deadline:
        time.sleep(0.02)  # until no gateway sends callers there
    return {}
