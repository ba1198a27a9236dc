"""Keys: their form, who may make them, and what opens and closes the server."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.identity import Identity, is_well_formed, new_secret
from modelport.errors import NotAllowed, NotAuthenticated, NotFound
from modelport.schemas.access import KeyCreate
from modelport.storage import tables
from modelport.storage.database import Database


def test_without_keys_the_loopback_is_an_administrator(identity: Identity) -> None:
    found = identity.authenticate(None, "req-7")
    assert (found.project, found.name, found.role, found.request_id) == ("default", "loopback", "admin", "req-7")
    assert not identity.required


def test_a_server_that_requires_keys_says_how(database: Database) -> None:
    closed = Identity(database, None, required=True)
    assert closed.required
    with pytest.raises(NotAuthenticated, match=r"Authorization: Bearer.*X-Api-Key"):
        closed.authenticate(None)


def test_a_key_is_its_owner(identity: Identity, actor: Actor) -> None:
    key = identity.create(actor, KeyCreate(name="app", role="developer", days=1))
    found = identity.authenticate(key.secret)
    assert (found.name, found.role, found.key_id, found.project) == ("app", "developer", key.id, "default")
    assert found.may("viewer")
    assert not found.may("admin")
    assert key.secret.startswith(key.prefix)
    assert key.expires_at is not None


def test_the_owner_token_is_the_operator(identity: Identity, actor: Actor) -> None:
    identity.create(actor, KeyCreate(name="app"))
    found = identity.authenticate("owner-token")
    assert found.name == "owner"
    assert found.is_operator


def test_the_first_key_closes_the_server_and_revoking_it_does_not_open_it(
    identity: Identity, actor: Actor, database: Database
) -> None:
    key = identity.create(actor, KeyCreate(name="app"))
    identity.revoke(actor, key.id)
    identity.revoke(actor, key.id)
    for server in (identity, Identity(database, None, required=False)):
        assert server.required
        with pytest.raises(NotAuthenticated):
            server.authenticate(None)
    with pytest.raises(NotAuthenticated, match="revoked"):
        identity.authenticate(key.secret)


def test_an_expired_key_is_refused(identity: Identity, actor: Actor, database: Database) -> None:
    key = identity.create(actor, KeyCreate(name="app", days=1))
    assert [entry.id for entry in identity.entries()] == [key.id]
    with database.session() as session:
        session.execute(update(tables.Key).values(expires_at=tables.now() - timedelta(seconds=1)))
    with pytest.raises(NotAuthenticated, match="expired"):
        identity.authenticate(key.secret)
    assert identity.entries() == ()


@pytest.mark.parametrize(
    "secret", ["", "x", "mp_", "mp_" + "0" * 49, "\x00", "é" * 52, "owner-toke", "\udcff", "x" * 10_000]
)
def test_what_is_no_key_is_refused_even_on_an_open_server(identity: Identity, secret: str) -> None:
    with pytest.raises(NotAuthenticated):
        identity.authenticate(secret)


def test_a_typing_mistake_is_told_from_an_unknown_key(identity: Identity) -> None:
    secret = new_secret()
    with pytest.raises(NotAuthenticated, match="unknown"):
        identity.authenticate(secret)
    with pytest.raises(NotAuthenticated, match="mistyped"):
        identity.authenticate(secret[:-1])


@given(st.integers(3, 51), st.sampled_from("0123456789ABCDEFabcdefz"))
def test_the_checksum_notices_any_changed_character(position: int, character: str) -> None:
    secret = new_secret()
    changed = secret[:position] + character + secret[position + 1 :]
    assert is_well_formed(secret)
    assert is_well_formed(changed) == (changed == secret)


def test_secrets_are_not_in_the_database(identity: Identity, actor: Actor, database: Database) -> None:
    secret = identity.create(actor, KeyCreate(name="app")).secret
    with database.reading() as session:
        for table in tables.Base.metadata.tables:
            rows = session.execute(text(f"SELECT * FROM {table}")).all()
            assert secret not in str(rows)
            assert secret[10:] not in str(rows)


def test_secrets_differ() -> None:
    assert len({new_secret() for _ in range(1000)}) == 1000
    assert {len(new_secret()) for _ in range(1000)} == {52}


@pytest.mark.parametrize("role", ["caller", "viewer", "developer"])
def test_only_administrators_manage_keys(identity: Identity, actor: Actor, role: str) -> None:
    low = identity.authenticate(identity.create(actor, KeyCreate(name="app", role=role)).secret)
    for attempt in (
        lambda: identity.create(low, KeyCreate(name="x")),
        lambda: identity.list(low),
        lambda: identity.revoke(low, low.key_id),
    ):
        with pytest.raises(NotAllowed):
            attempt()


def test_projects_keep_to_themselves(identity: Identity, actor: Actor, stranger: Actor) -> None:
    ours = identity.create(actor, KeyCreate(name="ours"))
    theirs = identity.create(stranger, KeyCreate(name="theirs", project="acme"))
    assert {key.name for key in identity.list(stranger)} == {"eve", "theirs"}
    assert {key.name for key in identity.list(actor)} == {"eve", "ours", "theirs"}
    with pytest.raises(NotAllowed):
        identity.create(stranger, KeyCreate(name="x"))
    with pytest.raises(NotAllowed):
        identity.create(stranger, KeyCreate(name="x", project="new"))
    with pytest.raises(NotFound) as foreign:
        identity.revoke(stranger, ours.id)
    with pytest.raises(NotFound) as missing:
        identity.revoke(stranger, "0" * 19)
    assert foreign.value.message.replace(ours.id, "") == missing.value.message.replace("0" * 19, "")
    identity.revoke(actor, theirs.id)


def test_keys_are_listed_in_pages(identity: Identity, actor: Actor) -> None:
    ids = [identity.create(actor, KeyCreate(name=f"k{i}")).id for i in range(3)]
    found = identity.list(actor, limit=2)
    assert len(found) == 2
    assert sorted([key.id for key in found] + [key.id for key in identity.list(actor, after=found[-1].id)]) == sorted(
        ids
    )


def test_gateways_learn_of_every_change(identity: Identity, actor: Actor) -> None:
    seen: list[int] = []
    identity.on_change.append(lambda: seen.append(len(identity.entries())))
    key = identity.create(actor, KeyCreate(name="app", role="caller", project="acme"))
    (entry,) = identity.entries()
    assert (entry.id, entry.project, entry.role, entry.expires_at) == (key.id, "acme", "caller", None)
    identity.revoke(actor, key.id)
    assert seen == [1, 0]


def test_keys_are_in_the_audit_without_their_secret(identity: Identity, actor: Actor, database: Database) -> None:
    key = identity.create(actor, KeyCreate(name="app"))
    identity.revoke(actor, key.id)
    identity.revoke(actor, key.id)
    rows = audit.rows(database, actor, 10)
    assert [row.action for row in rows] == ["key.revoke", "key.create"]
    assert key.secret not in str(rows)
