"""Keys: made, listed, revoked, and turned into actors.

A secret is 256 random bits, so a plain SHA-256 of it cannot be searched for: a slow hash, made for passwords that
people choose, would cost every request and add nothing. Only that hash is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import zlib
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import DEFAULT_PROJECT, Actor
from modelport.engine.routing import KeyEntry
from modelport.errors import NotAllowed, NotAuthenticated, NotFound
from modelport.schemas.access import ROLES, Key, KeyCreate, NewKey, Role
from modelport.storage import tables
from modelport.storage.database import Database, insert_missing

HOW = "send a key: `Authorization: Bearer KEY` or `X-Api-Key: KEY`; `modelport keys create` makes one"
_PREFIX = "mp_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY, _CHECK = 43, 6
"""Base62 digits of 256 bits, and of a CRC-32."""
_SHOWN = 9
"""Characters of a secret that are kept to recognise it by."""
_LIMITS = {"models", "tokens_per_minute", "max_tokens"}


class Identity:
    """The keys of a server.

    ``owner_token`` is a random string of this start, readable by the machine's owner only. ``required`` closes the
    server to callers without a key even when none was ever made.
    """

    def __init__(self, database: Database, owner_token: str | None, required: bool) -> None:
        self._database = database
        self._owner = _digest(owner_token) if owner_token else None
        self._required = required
        self.on_change: list[Callable[[], None]] = []
        """Called after a key was made or revoked."""

    @property
    def required(self) -> bool:
        """Whether callers need a key; once one was made, for ever: revoking the last must not open the server."""
        if not self._required:
            with self._database.reading() as session:
                self._required = session.scalar(select(tables.Key.id).limit(1)) is not None
        return self._required

    def authenticate(self, secret: str | None, request_id: str | None = None) -> Actor:
        """The actor behind a secret, or behind none; raises NotAuthenticated."""
        if secret is None:
            if self.required:
                raise NotAuthenticated(f"this server wants a key; {HOW}")
            return self._builtin("loopback", request_id)
        digest = _digest(secret)
        if self._owner is not None and hmac.compare_digest(digest, self._owner):
            return self._builtin("owner", request_id)
        if not is_well_formed(secret):
            raise NotAuthenticated(f"this is not a whole key; was it cut or mistyped? {HOW}")
        with self._database.reading() as session:
            found = session.execute(
                select(tables.Key, tables.Project.name)
                .join(tables.Project, tables.Project.id == tables.Key.project_id)
                .where(tables.Key.sha256 == digest)
            ).one_or_none()
        if found is None or not hmac.compare_digest(found[0].sha256, digest) or not _is_active(found[0]):
            raise NotAuthenticated(f"this key is unknown, expired or revoked; {HOW}")
        key, project = found
        return Actor(key.project_id, project, key.name, _role(key), key.id, request_id)

    def is_nobodys(self, secret: str) -> bool:
        """Whether a server that needs no key may take it for none: it never was one of ours."""
        if secret.startswith(_PREFIX) or self.required:
            return False
        return self._owner is None or not hmac.compare_digest(_digest(secret), self._owner)

    def create(self, actor: Actor, wish: KeyCreate) -> NewKey:
        """Make a key; its secret is in the answer and nowhere else. A new project comes into being with its first key.

        Raises NotAllowed for another project's key unless the actor is an operator.
        """
        _require_admin(actor)
        if wish.project != actor.project and not actor.is_operator:
            raise NotAllowed(f"keys of another project are made by an administrator of {DEFAULT_PROJECT!r}")
        secret = new_secret()
        now = tables.now()
        with self._database.session() as session:
            insert_missing(session, tables.Project, name=wish.project, created_at=now)
            key = tables.Key(
                id=f"{int(time.time() * 1000):011x}{secrets.token_hex(4)}",  # sorts by age
                project_id=session.scalars(select(tables.Project.id).where(tables.Project.name == wish.project)).one(),
                name=wish.name,
                prefix=secret[:_SHOWN],
                sha256=_digest(secret),
                role=wish.role,
                created_at=now,
                expires_at=now + timedelta(days=wish.days) if wish.days else None,
                limits=wish.model_dump(include=_LIMITS, exclude_none=True),
            )
            session.add(key)
            detail = {"name": wish.name, "role": wish.role, "project": wish.project, "days": wish.days, **key.limits}
            audit.record(session, actor, "key.create", key.id, detail)
            notes = _notes(session, key, wish)
        self._changed()
        return NewKey(**_shape(key, wish.project).model_dump(), secret=secret, notes=notes)

    def list(self, actor: Actor, limit: int | None = None, after: str | None = None) -> list[Key]:
        """The keys of the actor's project, oldest first; for an operator those of every project."""
        _require_admin(actor)
        query = select(tables.Key, tables.Project.name).join(tables.Project, tables.Project.id == tables.Key.project_id)
        if not actor.is_operator:
            query = query.where(tables.Key.project_id == actor.project_id)
        if after is not None:
            query = query.where(tables.Key.id > after)
        with self._database.reading() as session:
            return [
                _shape(key, project) for key, project in session.execute(query.order_by(tables.Key.id).limit(limit))
            ]

    def revoke(self, actor: Actor, id: str) -> None:
        """Make a key useless for good; doing it twice is harmless. Raises NotFound, for another project's too."""
        _require_admin(actor)
        with self._database.session() as session:
            key = self._find(session, actor, id)
            if key.revoked_at is None:
                key.revoked_at = tables.now()
                audit.record(session, actor, "key.revoke", key.id, {"name": key.name})
        self._changed()

    def entries(self) -> tuple[KeyEntry, ...]:
        """What gateways have to know of the keys that are good now."""
        query = select(tables.Key, tables.Project.name).join(tables.Project, tables.Project.id == tables.Key.project_id)
        with self._database.reading() as session:
            return tuple(
                KeyEntry(
                    id=key.id,
                    sha256=key.sha256,
                    project=project,
                    role=key.role,
                    expires_at=key.expires_at.timestamp() if key.expires_at else None,
                    models=tuple(key.limits["models"]) if "models" in key.limits else None,
                    tokens_per_minute=key.limits.get("tokens_per_minute"),
                    max_tokens=key.limits.get("max_tokens"),
                )
                for key, project in session.execute(query.where(tables.Key.revoked_at.is_(None)))
                if _is_active(key)
            )

    def _builtin(self, name: str, request_id: str | None) -> Actor:
        query = select(tables.Project.id).where(tables.Project.name == DEFAULT_PROJECT)
        with self._database.reading() as session:
            return Actor(session.scalars(query).one(), DEFAULT_PROJECT, name, "admin", None, request_id)

    def _find(self, session: Session, actor: Actor, id: str) -> tables.Key:
        key = session.get(tables.Key, id) if id.isalnum() else None
        if key is None or not (actor.is_operator or key.project_id == actor.project_id):
            raise NotFound(f"there is no key {id[:40]!r}; `modelport keys list` shows those there are")
        return key

    def _changed(self) -> None:
        for hook in self.on_change:
            hook()


def _notes(session: Session, key: tables.Key, wish: KeyCreate) -> list[str]:
    """What a new key's maker perhaps did not mean."""
    there = select(tables.Deployment.name).where(tables.Deployment.project_id == key.project_id)
    unknown = set(wish.models or ()).difference(session.scalars(there))
    missing = [name for name in wish.models or () if name in unknown]
    same = select(tables.Key).where(
        tables.Key.project_id == key.project_id, tables.Key.name == key.name, tables.Key.id != key.id,
        tables.Key.revoked_at.is_(None),
    )  # fmt: skip
    twins = [each.id for each in session.scalars(same) if _is_active(each)]
    notes = []
    if missing:
        notes.append(f"project {wish.project!r} has no endpoint {', '.join(map(repr, missing))} yet")
    if twins:
        notes.append(f"another key is called {key.name!r}: {', '.join(twins)}; `modelport keys revoke ID` ends one")
    return notes


def new_secret() -> str:
    """A fresh secret: prefix, 256 random bits, and a checksum that tells a typing mistake from an unknown key."""
    body = _base62(secrets.randbits(256), _BODY)
    return _PREFIX + body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Whether the checksum is right: what fails it was never a key."""
    body = secret[len(_PREFIX) : len(_PREFIX) + _BODY]
    return secret.isascii() and secret == _PREFIX + body + _checksum(body)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_DIGITS[rest])
    return "".join(reversed(digits))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _is_active(key: tables.Key) -> bool:
    now: datetime = tables.now()
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)


def _role(key: tables.Key) -> Role:
    return next(role for role in ROLES if role == key.role)


def _require_admin(actor: Actor) -> None:
    if not actor.may("admin"):
        raise NotAllowed(f"managing keys needs the role 'admin'; {actor.name!r} is {actor.role!r}")


def _shape(key: tables.Key, project: str) -> Key:
    return Key(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        role=_role(key),
        project=project,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        **key.limits,
    )
