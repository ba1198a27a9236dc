"""Who calls: the gateway's own check, against the keys that control has pushed.

A key of ours that is given is always checked. Without one, a server on loopback answers callers of this machine, but
not a web page of somewhere else that their browser has open (by its Host and Origin); what only looks like a key to
somebody else counts as none there. Control tells it hashes, never keys; what a key was found to be is remembered until
control says something new.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping

from modelport.api.messages import Caller
from modelport.engine.routing import KeyEntry, RoutingTable
from modelport.errors import NotAllowed, NotAuthenticated

HOW = "send a key: `Authorization: Bearer KEY` or `X-Api-Key: KEY`; `modelport keys create` makes one"
_OR_KEY = f"call it as http://localhost, or {HOW}"
_PREFIX = "mp_"
"""Of every key that this product makes."""
_MAX_SEEN = 4096
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Authenticator:
    """Turns headers into a Caller."""

    def __init__(self, host: str, owner_token: str | None) -> None:
        self._hosts = frozenset((*_LOOPBACK, host, f"[{host}]"))
        self._owner = _digest(owner_token) if owner_token else None
        self._keys: dict[str, KeyEntry] = {}
        self._required = True
        self._seen: dict[str, tuple[Caller, float]] = {}
        """By the Authorization header: who it was, and until when."""

    def update(self, table: RoutingTable) -> None:
        """Take the keys of a new table."""
        self._keys = {key.sha256: key for key in table.keys}
        self._required = table.keys_required
        self._seen.clear()

    def __call__(self, headers: Mapping[str, str]) -> Caller:
        """The caller, by headers with lower-case names; raises NotAuthenticated or NotAllowed."""
        bearer = headers.get("authorization", "")
        seen = self._seen.get(bearer)
        if seen is not None and seen[1] > time.time():
            return seen[0]
        caller, until = self._look_up(headers)
        if bearer and len(self._seen) < _MAX_SEEN:
            self._seen[bearer] = (caller, until)
        return caller

    def _look_up(self, headers: Mapping[str, str]) -> tuple[Caller, float]:
        """Who it is, and until when that holds, in seconds since the epoch."""
        secret = secret_of(headers)
        if secret is not None and not self._required and not self._could_be_ours(secret):
            secret = None  # OpenAI's clients insist on sending something
        if secret is None:
            if self._required:
                raise NotAuthenticated(f"this server wants a key; {HOW}")
            self._check_same_machine(headers)
            return Caller(), 0
        digest = _digest(secret)
        if digest == self._owner:
            return Caller(secret=secret), math.inf
        key = self._keys.get(digest)  # looked up by hash: nothing about a key shows in the time this takes
        if key is None or (key.expires_at is not None and key.expires_at < time.time()):
            raise NotAuthenticated(f"this key is unknown, expired or revoked; {HOW}")
        models = None if key.models is None else frozenset(key.models)
        caller = Caller(key.project, key.role, key.id, models, secret)
        return caller, math.inf if key.expires_at is None else key.expires_at

    def _could_be_ours(self, secret: str) -> bool:
        return secret.startswith(_PREFIX) or _digest(secret) == self._owner

    def _check_same_machine(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "localhost")
        if _without_port(host) not in self._hosts:
            raise NotAllowed(f"without a key this server answers requests to its own address only; {_OR_KEY}")
        origin = headers.get("origin")
        if origin is not None and _without_port(origin.partition("://")[2]) not in self._hosts:
            raise NotAllowed(f"without a key this server answers no other site's pages; {_OR_KEY}")


def secret_of(headers: Mapping[str, str]) -> str | None:
    """The key that a request brings, if any."""
    bearer = headers.get("authorization")
    if bearer is not None:
        scheme, _, secret = bearer.partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise NotAuthenticated(f"the Authorization header holds no bearer key; {HOW}")
        return secret.strip()
    return headers.get("x-api-key")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _without_port(host: str) -> str:
    name, separator, port = host.rpartition(":")
    return name if separator and port.isdigit() else host
