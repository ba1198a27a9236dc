"""Uploads and the collector: what stays, what goes, and what happens when they meet."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update

from modelport.control.actors import Actor
from modelport.control.registry import Registry
from modelport.errors import Conflict, InvalidInput
from modelport.schemas.models import VersionPush
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from tests import onnx_models
from tests.control.conftest import upload


def content_of(registry: Registry, actor: Actor, model: str) -> bytes:
    return b"".join(registry.iterate_file(actor, registry.find_file(actor, model, 1, "model.onnx")))


def stored_files(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "store").rglob("*") if path.is_file()}


def test_only_what_is_missing_is_asked_for(registry: Registry, actor: Actor) -> None:
    entry = upload(registry, actor, b"data")
    assert registry.missing_blobs(actor, [entry.sha256, "a" * 64, "a" * 64]) == ["a" * 64]
    many = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(1200)]
    assert registry.missing_blobs(actor, many) == many


def test_a_lost_file_is_asked_for_again(registry: Registry, artifacts: Artifacts, actor: Actor) -> None:
    entry = upload(registry, actor, b"data")
    artifacts.delete(actor.project_id, entry.sha256)
    assert registry.missing_blobs(actor, [entry.sha256]) == [entry.sha256]
    upload(registry, actor, b"data")
    assert registry.missing_blobs(actor, [entry.sha256]) == []


def test_a_wrong_body_is_not_there_afterwards(registry: Registry, actor: Actor, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="SHA-256"):
        registry.put_blob(actor, "a" * 64, [b"data"])
    assert registry.missing_blobs(actor, ["a" * 64]) == ["a" * 64]
    assert stored_files(tmp_path) == set()


def test_what_a_version_needs_stays(eager: Registry, actor: Actor, tmp_path: Path) -> None:
    entry = upload(eager, actor, onnx_models.identity())
    loose = upload(eager, actor, b"loose")
    eager.push(actor, "digits", VersionPush(files=[entry]))
    report = eager.gc(actor, dry_run=True)
    assert (report.blobs, report.bytes, report.dry_run) == (1, loose.size, True)
    assert stored_files(tmp_path) == {entry.sha256, loose.sha256}
    assert eager.gc(actor) == report.model_copy(update={"dry_run": False})
    assert stored_files(tmp_path) == {entry.sha256}
    assert content_of(eager, actor, "digits") == onnx_models.identity()
    eager.delete_model(actor, "digits")
    for folder in (tmp_path / "cache" / "versions" / "1").iterdir():
        os.utime(folder, (0, 0))
    assert eager.gc(actor).blobs == 1
    assert stored_files(tmp_path) == set()
    assert list((tmp_path / "cache" / "versions" / "1").iterdir()) == []
    assert eager.gc(actor).blobs == 0


def test_two_versions_share_a_content_until_both_are_gone(eager: Registry, actor: Actor) -> None:
    entry = upload(eager, actor, onnx_models.identity())
    for name in ("a", "b"):
        eager.push(actor, name, VersionPush(files=[entry]))
    eager.delete_model(actor, "a")
    assert eager.gc(actor).blobs == 0
    eager.delete_model(actor, "b")
    assert eager.gc(actor).blobs == 1


def test_what_was_asked_for_lately_stays(registry: Registry, database: Database, actor: Actor) -> None:
    entry = upload(registry, actor, b"data")
    assert registry.gc(actor).blobs == 0
    with database.session() as session:
        session.execute(update(tables.Blob).values(touched_at=tables.now().replace(year=2020)))
    assert registry.gc(actor, dry_run=True).blobs == 1
    registry.missing_blobs(actor, [entry.sha256])  # a push begins
    assert registry.gc(actor).blobs == 0


def test_a_projects_collector_leaves_other_projects_alone(eager: Registry, actor: Actor, stranger: Actor) -> None:
    entry = upload(eager, stranger, b"theirs")
    assert eager.gc(actor).blobs == 0
    assert eager.missing_blobs(stranger, [entry.sha256]) == []


def test_an_upload_that_died_after_its_claim_is_collected(eager: Registry, database: Database, actor: Actor) -> None:
    with database.session() as session:
        session.add(tables.Blob(project_id=1, sha256="a" * 64))
    assert eager.missing_blobs(actor, ["a" * 64]) == ["a" * 64]
    assert eager.gc(actor).blobs == 1
    with database.reading() as session:
        assert session.scalars(select(tables.Blob)).all() == []


def test_uploads_and_the_collector_never_leave_a_half(
    eager: Registry, artifacts: Artifacts, database: Database, actor: Actor
) -> None:
    """A blob that the database calls stored is in the store, whatever the collector did meanwhile."""
    data = [b"content %d" % i for i in range(4)]
    stop = threading.Event()

    def collect() -> None:
        while not stop.is_set():
            eager.gc(actor)

    def uploads(which: int) -> int:
        done = 0
        for _ in range(15):
            try:
                upload(eager, actor, data[which])
                done += 1
            except Conflict:  # told so: collected on the way
                pass
        return done

    with ThreadPoolExecutor(5) as pool:
        collector = pool.submit(collect)
        try:
            assert sum(pool.map(uploads, [0, 1, 2, 3])) > 0
        finally:
            stop.set()
        collector.result()
    with database.reading() as session:
        rows = session.execute(select(tables.Blob.sha256, tables.Blob.size)).all()
    for sha256, size in rows:
        assert (size is not None) <= artifacts.exists(actor.project_id, sha256)
    on_disk = {hashlib.sha256(content).hexdigest() for content in data} & {
        sha256 for sha256 in (hashlib.sha256(content).hexdigest() for content in data)
        if artifacts.exists(actor.project_id, sha256)
    }  # fmt: skip
    assert on_disk <= {sha256 for sha256, _ in rows}


def test_pushes_and_the_collector_never_break_a_version(eager: Registry, actor: Actor) -> None:
    stop = threading.Event()
    models = [onnx_models.identity("FP32", (-1, width)) for width in range(1, 7)]

    def collect() -> None:
        while not stop.is_set():
            eager.gc(actor)

    def push(index: int) -> bool:
        entry = upload(eager, actor, models[index])
        try:
            eager.push(actor, f"m{index}", VersionPush(files=[entry]))
        except InvalidInput:  # told so: its content was collected (there is no grace time here)
            return False
        return True

    def attempt(index: int) -> bool:
        try:
            return push(index)
        except Exception as error:
            return "collected" not in str(error) and "lost" not in str(error) and _raise(error)

    with ThreadPoolExecutor(3) as pool:
        collector = pool.submit(collect)
        try:
            list(pool.map(attempt, range(6)))
        finally:
            stop.set()
        collector.result()
    for model in eager.models(actor):
        assert content_of(eager, actor, model.name) in models


def _raise(error: Exception) -> bool:
    raise error
