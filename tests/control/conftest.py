from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from modelport.control.actors import Actor
from modelport.control.blobs import Limits
from modelport.control.identity import Identity
from modelport.control.registry import Registry
from modelport.engine.inspect import inspect
from modelport.engine.runtime import Trust
from modelport.schemas.access import KeyCreate
from modelport.schemas.models import FileEntry, ModelVersion, VersionPush
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from tests import onnx_models
from tests.databases import (  # noqa: F401
    database,
    database_url,
    empty_database_url,
    migrated_postgres,
    migrated_sqlite,
    postgres,
    sqlite_url,
)


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts((tmp_path / "store").as_uri(), tmp_path / "cache")


@pytest.fixture
def identity(database: Database) -> Identity:  # noqa: F811
    return Identity(database, "owner-token", required=False)


@pytest.fixture
def registry(database: Database, artifacts: Artifacts) -> Registry:  # noqa: F811
    return Registry(
        database,
        artifacts,
        lambda folder, files: inspect(folder, Trust()),
        Limits(max_file_bytes=1 << 20, gc_grace_s=3600),
    )


@pytest.fixture
def eager(database: Database, artifacts: Artifacts) -> Registry:  # noqa: F811
    """A registry that collects at once."""
    return Registry(database, artifacts, lambda folder, files: inspect(folder, Trust()), Limits(gc_grace_s=0))


@pytest.fixture
def actor(identity: Identity) -> Actor:
    return identity.authenticate(None, "req-1")


@pytest.fixture
def stranger(identity: Identity, actor: Actor) -> Actor:
    """An administrator of another project."""
    return identity.authenticate(identity.create(actor, KeyCreate(name="eve", role="admin", project="acme")).secret)


Push = Callable[..., ModelVersion]


def upload(registry: Registry, actor: Actor, data: bytes, path: str = "model.onnx") -> FileEntry:
    sha256 = hashlib.sha256(data).hexdigest()
    registry.put_blob(actor, sha256, [data])
    return FileEntry(path=path, size=len(data), sha256=sha256)


@pytest.fixture
def push(registry: Registry, actor: Actor) -> Push:
    """Push a small real model: ``push(name, width, by=actor, **fields of VersionPush)``."""

    def do(name: str = "digits", width: int = 4, by: Actor = actor, **fields: object) -> ModelVersion:
        entry = upload(registry, by, onnx_models.identity("FP32", (-1, width)))
        return registry.push(by, name, VersionPush(files=[entry], **fields))

    return do
