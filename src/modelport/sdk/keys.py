"""API keys: make, list, revoke."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from modelport.schemas.access import Key, KeyCreate, NewKey, Role
from modelport.sdk.flows import D_co, Flow, Operations, Request, operation, path_of, send, send_json, send_list
from modelport.sdk.models import API, refused

KeyList = list[Key]


class Keys(Operations[D_co]):
    """``client.keys``; for administrators."""

    @operation
    def create(
        self,
        name: str,
        role: Role = "caller",
        *,
        project: str = "default",
        days: int | None = None,
        models: Sequence[str] | None = None,
        tokens_per_minute: int | None = None,
        max_tokens: int | None = None,
    ) -> Flow[NewKey]:
        """Make a key; its ``secret`` is told this once. ``days`` until it expires, never by default.

        ``models`` are the only endpoints that it may call; of each language model it may spend
        ``tokens_per_minute``, and one answer may have ``max_tokens``.
        """
        try:
            body = KeyCreate(
                name=name, role=role, project=project, days=days, models=None if models is None else [*models],
                tokens_per_minute=tokens_per_minute, max_tokens=max_tokens,
            )  # fmt: skip
        except ValidationError as error:
            raise refused(error, KeyCreate) from None
        answer = yield from send_json("POST", f"{API}/keys", body.model_dump(), idempotent=False)
        return NewKey.model_validate(answer)

    @operation
    def list(self) -> Flow[KeyList]:
        """All keys, without their secrets."""
        return [Key.model_validate(item) for item in (yield from send_list(f"{API}/keys", "id"))]

    @operation
    def revoke(self, id: str) -> Flow[None]:
        """Make a key useless, at once and for good."""
        yield from send(Request("DELETE", API + path_of("keys", id)))
