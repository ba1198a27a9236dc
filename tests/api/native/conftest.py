from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modelport.api.app import create_app
from modelport.api.native import deployments as deployment_routes
from modelport.api.native.context import Context
from modelport.control.blobs import Limits
from modelport.control.deployments import Deployments
from modelport.control.identity import Identity
from modelport.control.registry import Registry
from modelport.engine.inspect import inspect
from modelport.engine.runtime import Trust
from modelport.settings import ArtifactSettings, Settings
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from tests.databases import migrated_sqlite, sqlite_url  # noqa: F401

OWNER = "owner-token-of-this-start"
AS_OWNER = {"authorization": f"Bearer {OWNER}"}
MAX_FILE = 2_000_000


@pytest.fixture
def app(tmp_path: Path, sqlite_url: str) -> Iterator[FastAPI]:  # noqa: F811
    """The management API over a real registry; inspections run in this process."""
    settings = Settings(home=tmp_path, artifacts=ArtifactSettings(max_file_gb=MAX_FILE / 1e9))
    database = Database(sqlite_url)
    artifacts = Artifacts(settings.artifacts_url, tmp_path / "cache")
    registry = Registry(
        database, artifacts, lambda folder, files: inspect(folder, Trust()), Limits(max_file_bytes=MAX_FILE)
    )
    deployments = Deployments(database, registry.resolve)
    context = Context(settings, registry, Identity(database, OWNER, required=False), database, deployments)
    yield create_app(context, (deployment_routes.router,))
    database.close()


@pytest.fixture
def deployments(app: FastAPI) -> Deployments:
    """The service beneath it."""
    return cast("Deployments", app.state.context.deployments)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as found:
        yield found


KeyOf = Callable[..., dict[str, str]]


@pytest.fixture
def key_of(client: TestClient) -> KeyOf:
    """Makes a key of a role and gives the headers that bring it."""

    def make(role: str, project: str = "default") -> dict[str, str]:
        body = {"name": f"a-{role}", "role": role, "project": project}
        return {"x-api-key": client.post("/api/v1/keys", json=body, headers=AS_OWNER).json()["secret"]}

    return make
