"""Project, Key, Role, audit row."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.names import Name

#: What a role may do; each includes those before it. ``caller`` predicts, and has files and batches of its own key;
#: ``viewer`` also reads the management API, ``developer`` also pushes and deploys, ``admin`` also manages keys.
Role = Literal["caller", "viewer", "developer", "admin"]
ROLES: tuple[Role, ...] = ("caller", "viewer", "developer", "admin")


class KeyCreate(BaseModel):
    """Body of ``POST /keys``."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "mobile-app", "role": "caller", "days": 90}]}
    )
    name: Name
    role: Role = "caller"
    project: Name = "default"
    days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Days until it expires; never by default."""
    models: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = None
    """The only endpoints that it may call; all others answer as missing. By default it may call every one."""
    tokens_per_minute: Annotated[int, Field(ge=1, le=10**12)] | None = None
    """Tokens, of prompts and answers together, that it may spend in a minute on each language model."""
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Tokens that one answer of a language model may have."""


class Key(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    """The first characters of the secret, to recognise it by."""
    role: Role
    project: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    models: list[str] | None = None
    """The only endpoints that it may call; None for every one."""
    tokens_per_minute: int | None = None
    """Of each language model."""
    max_tokens: int | None = None
    """Of one answer of a language model."""


class NewKey(Key):
    """A key with its secret: the only time that it is shown."""

    secret: str
    notes: list[str] = []
    """What was perhaps not meant: a model that there is none of, a name that another key has."""


class AuditRow(BaseModel):
    """One management action."""

    id: int
    at: datetime
    actor: str
    action: str
    object: str
    detail: dict[str, Any] = {}
    request_id: str | None = None
