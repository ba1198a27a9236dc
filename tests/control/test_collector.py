"""Garbage that goes by itself: when it is due, in every project, and never what a push still needs."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy import update

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.collector import Collector
from modelport.control.registry import Registry
from modelport.schemas.models import VersionPush
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from tests import onnx_models
from tests.control.conftest import upload


def age(database: Database, hours: float) -> None:
    """Let everything that has happened have happened earlier."""
    with database.session() as session:
        for table, column in (
            (tables.Project, "created_at"),
            (tables.Audit, "at"),
            (tables.Blob, "touched_at"),
        ):
            for row in session.query(table):
                setattr(row, column, getattr(row, column) - timedelta(hours=hours))


def test_it_collects_every_project_once_an_interval(
    registry: Registry, database: Database, artifacts: Artifacts, actor: Actor, stranger: Actor
) -> None:
    collector = Collector(database, registry, interval_s=86_400)
    hashes = [upload(registry, by, b"nobody needs this").sha256 for by in (actor, stranger)]
    assert collector.collect_due() == [], "both projects are young"
    age(database, 25)
    kept = upload(registry, actor, b"a push is under way").sha256
    assert sorted(collector.collect_due()) == ["acme", "default"]
    for by, sha256 in zip((actor, stranger), hashes, strict=True):
        assert not artifacts.exists(by.project_id, sha256)
    assert artifacts.exists(actor.project_id, kept)
    assert collector.collect_due() == [], "it has just been done, whoever asks"
    last = audit.rows(database, actor, 1)[0]
    assert (last.action, last.actor, last.detail["blobs"]) == ("gc.run", "schedule", 1)
    age(database, 23)
    assert collector.collect_due() == []
    age(database, 2)
    assert sorted(collector.collect_due()) == ["acme", "default"]


def test_pushes_meanwhile_lose_nothing(registry: Registry, database: Database, actor: Actor) -> None:
    """The collector runs again and again, always due, while versions are pushed whose files are all new."""
    collector = Collector(database, registry, interval_s=0)
    done = threading.Event()

    def collect() -> int:
        runs = 0
        while not done.is_set():
            runs += len(collector.collect_due())
        return runs

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(collect)
        try:
            pushed = []
            for width in range(1, 25):
                content = onnx_models.identity("FP32", (-1, width))
                with database.session() as session:  # uploaded long ago by somebody, needed by nobody: due to go
                    session.execute(update(tables.Blob).values(touched_at=tables.now() - timedelta(hours=2)))
                entry = upload(registry, actor, content)
                pushed.append((registry.push(actor, "m", VersionPush(files=[entry])).version, content))
        finally:
            done.set()
        assert running.result(30) > 0
    for version, content in pushed:
        entry = registry.find_file(actor, "m", version, "model.onnx")
        chunks = registry.iterate_file(actor, entry)
        assert b"".join(chunks) == content
        assert entry.sha256 == hashlib.sha256(content).hexdigest()


def test_a_deleted_version_keeps_its_files_for_the_grace_time(
    registry: Registry, database: Database, artifacts: Artifacts, actor: Actor
) -> None:
    """So that a copy of the database from before still finds them."""
    entry = upload(registry, actor, onnx_models.identity())
    registry.push(actor, "m", VersionPush(files=[entry]))
    collector = Collector(database, registry, interval_s=0)
    age(database, 25)
    registry.delete_model(actor, "m")
    collector.collect_due()
    assert artifacts.exists(actor.project_id, entry.sha256)
    age(database, 25)
    collector.collect_due()
    assert not artifacts.exists(actor.project_id, entry.sha256)
