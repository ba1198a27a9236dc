"""Keys, and the record of what was done with them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, now


class Key(InProject, Base):
    """A key, by the hash of its secret. Never deleted: that keys exist is what closes the server."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    prefix: Mapped[str] = mapped_column(String(20))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    limits: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """``models``, ``tokens_per_minute`` and ``max_tokens``, as far as they are limited."""


class Audit(InProject, Base):
    """One management action, written in the transaction of the action itself."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "project_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    actor: Mapped[str] = mapped_column(String(200))
    action: Mapped[str] = mapped_column(String(100))
    object: Mapped[str] = mapped_column(String(300))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    request_id: Mapped[str | None] = mapped_column(String(128))
