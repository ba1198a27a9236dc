"""Files and batches that keys have: whose they are, how many, and how long; on a real database and a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.assembly import Services, build_services
from modelport.control.batches import Batches, BatchRecords, Outcome
from modelport.control.blobs import Blobs, Limits
from modelport.control.files import Files
from modelport.control.jobs.service import Jobs
from modelport.errors import NotAllowed, NotFound, Overloaded, TooLarge
from modelport.schemas.access import KeyCreate, Role
from modelport.schemas.batches import BatchCreate, ExpiresAfter, FileObject
from modelport.settings import ArtifactSettings, BatchSettings, DatabaseSettings, Settings
from modelport.storage import tables

LINES = b'{"custom_id": "1"}\n'


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[Services]:
    limits = BatchSettings(key_gb=0.001, project_gb=0.0025, key_open=2)
    settings = Settings(
        home=tmp_path / "home", database=DatabaseSettings(url=database_url), batches=limits,
        artifacts=ArtifactSettings(gc_grace_s=0),
    )  # fmt: skip
    found = build_services(settings, owner_token="owner", keys_required=False, migrate=False)
    yield found
    found.database.close()


@pytest.fixture
def batches(services: Services) -> Batches:
    return Batches(Jobs(services, services.settings))


Keys = Callable[..., Actor]


@pytest.fixture
def key(services: Services) -> Keys:
    """An actor with a key of its own: ``key(role)``."""
    admin = services.identity.authenticate("owner")

    def do(role: Role = "caller", project: str = "default") -> Actor:
        made = services.identity.create(admin, KeyCreate(name=role, role=role, project=project))
        return services.identity.authenticate(made.secret)

    return do


def put(files: Files, actor: Actor, content: bytes = LINES, keep_s: int | None = None) -> FileObject:
    return files.create(actor, files.upload(actor, [content]), "requests.jsonl", "batch", keep_s)


def wish(file: FileObject, **more: Any) -> BatchCreate:
    return BatchCreate(input_file_id=file.id, endpoint="/v1/embeddings", **more)


def later(services: Services, file: FileObject) -> None:
    """Let its time be over."""
    with services.database.session() as session:
        session.get_one(tables.File, file.id).expires_at = tables.now() - timedelta(seconds=1)


def test_callers_have_their_own_keys_files_and_batches_and_no_others(
    services: Services, batches: Batches, key: Keys
) -> None:
    files = services.files
    mine, other, viewer, developer, stranger = key(), key(), key("viewer"), key("developer"), key(project="acme")
    file, unseen = put(files, mine), put(files, viewer)
    batch = batches.create(mine, wish(file))
    for who in (other, stranger):
        for call in (files.get, files.content, files.delete):
            with pytest.raises(NotFound, match="no file"):
                call(who, file.id)
        with pytest.raises(NotFound, match="no file"):
            batches.create(who, wish(file))
        for call in (batches.get, batches.cancel):
            with pytest.raises(NotFound, match="no batch"):
                call(who, batch.id)
        assert files.all(who) == batches.all(who) == ([], False)
    with pytest.raises(NotFound):
        files.get(mine, unseen.id)
    assert [one.id for one in files.all(mine)[0]] == [file.id]
    for who in (viewer, developer):
        assert {one.id for one in files.all(who)[0]} == {file.id, unseen.id}
        assert batches.get(who, batch.id).id == batch.id == batches.all(who)[0][0].id
    with pytest.raises(NotAllowed, match="developer"):
        files.delete(viewer, file.id)
    with pytest.raises(NotAllowed, match="developer"):
        batches.cancel(viewer, batch.id)
    assert batches.cancel(mine, batch.id).status == "cancelled"
    files.delete(mine, file.id)
    files.delete(developer, unseen.id)
    assert files.all(developer) == ([], False)


def test_keys_and_projects_keep_so_much_and_no_more(services: Services, key: Keys) -> None:
    files = services.files
    first, second, third = key(), key(), key()
    for number in range(10):  # each counts as 100 kB of the key's 1 MB
        last = put(files, first, b"%d" % number)
    with pytest.raises(TooLarge, match="your key have 1000000 bytes of 1000000"):
        put(files, first)
    files.delete(first, last.id)
    with pytest.raises(TooLarge, match="100001 more"):  # before it is stored
        files.upload(first, [b"x" * 60_000, b"x" * 40_001, b"x"])
    entry = files.receive(first, [b"x" * 100_001])
    with pytest.raises(TooLarge, match="100001 more"):
        files.create(first, entry, "x", "batch")
    put(files, first, b"x" * 100_000)
    put(files, second, b"y" * 900_000)
    with pytest.raises(TooLarge, match="the project have 1900000 bytes of 2500000"):
        put(files, third, b"z" * 700_000)
    put(files, third, b"z" * 500_000)
    keyless = services.identity.authenticate("owner")
    put(files, keyless)
    with pytest.raises(TooLarge, match="the project"):
        put(files, keyless)
    put(files, key(project="acme"))


def test_no_more_is_stored_of_a_file_than_a_batch_takes(services: Services, key: Keys) -> None:
    roomy = Files(services.database, services.artifacts, Blobs(services.database, services.artifacts, Limits()))
    given = 0

    def endless() -> Any:
        nonlocal given
        while True:
            given += 1
            yield bytes(10_000_000)

    with pytest.raises(TooLarge, match="cut it"):
        roomy.upload(key(), endless())
    assert given == 21


def test_a_key_has_so_many_batches_under_way(services: Services, batches: Batches, key: Keys) -> None:
    caller, other = key(), key()
    file = put(services.files, caller)
    open_ = [batches.create(caller, wish(file)) for _ in range(2)]
    with pytest.raises(Overloaded, match="2 batches of your key") as caught:
        batches.create(caller, wish(file))
    assert caught.value.retry_after
    batches.create(other, wish(put(services.files, other)))
    batches.cancel(caller, open_[0].id)
    batches.create(caller, wish(file))


def test_a_file_whose_time_is_over_is_missing_and_then_its_bytes_are_gone(services: Services, key: Keys) -> None:
    files, caller = services.files, key("developer")
    file, kept = put(files, caller, b"one", keep_s=3600), put(files, caller, b"two")
    assert file.expires_at == file.created_at + 3600 and kept.expires_at is None
    assert files.sweep() == 0
    later(services, file)
    for call in (files.get, files.content, files.delete):
        with pytest.raises(NotFound, match="no file"):
            call(caller, file.id)
    assert [one.id for one in files.all(caller)[0]] == [kept.id]
    admin = services.identity.authenticate("owner")
    with services.database.reading() as session:
        row = session.get_one(tables.File, file.id)
    assert services.registry.gc(admin).blobs == 0, "its row is there still"
    assert (files.sweep(), files.sweep()) == (1, 0)
    assert audit.rows(services.database, admin, 1)[0].action == "file.expire"
    assert services.registry.gc(admin).blobs == 1
    assert not services.artifacts.exists(row.project_id, row.sha256)
    assert b"".join(files.content(caller, kept.id)[1]) == b"two"


def test_a_batch_reads_what_it_was_accepted_for(services: Services, batches: Batches, key: Keys) -> None:
    files, caller = services.files, key()
    file = put(files, caller, keep_s=3600)
    batch = batches.create(caller, wish(file, output_expires_after=ExpiresAfter(anchor="created_at", seconds=7200)))
    later(services, file)
    with pytest.raises(NotFound):
        batches.create(caller, wish(file))
    assert files.sweep() == 0, "a batch is to read it"
    actor = services.identity.authenticate("owner")  # the job's, which knows no key
    records = BatchRecords(services.database, files, actor, batch.id.removeprefix("batch_"))
    facts = records.facts()
    assert b"".join(records.source(facts)) == LINES
    records.settle(Outcome("completed", 1, 1, output=files.receive(actor, [b"answer\n"])))
    assert files.sweep() == 1
    written = batches.get(caller, batch.id).output_file_id
    assert written is not None
    shown, chunks = files.content(caller, written)
    assert b"".join(chunks) == b"answer\n", "what it wrote is its key's"
    assert shown.expires_at == shown.created_at + 7200
    with pytest.raises(NotFound):
        files.get(key(), written)
