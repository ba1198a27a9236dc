"""Deployments and their revisions: every wish that was ever made, and what became of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, now


class Deployment(InProject, Base):
    """An endpoint's wish: its desired revision, and the one that serves."""

    __tablename__ = "deployments"
    __table_args__ = (UniqueConstraint("project_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    model: Mapped[str] = mapped_column(String(100))
    alias: Mapped[str | None] = mapped_column(String(100))
    follow: Mapped[bool] = mapped_column(default=False)
    stopped: Mapped[bool] = mapped_column(default=False)
    desired_revision: Mapped[int]
    serving_revision: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class Revision(InProject, Base):
    """One version with one spec, as it was wished for once."""

    __tablename__ = "revisions"
    __table_args__ = (UniqueConstraint("deployment_id", "number"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    deployment_id: Mapped[int] = mapped_column(ForeignKey("deployments.id", ondelete="CASCADE"))
    number: Mapped[int]
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20), default="pending")
    """``pending``, ``proven`` or ``failed``."""
    message: Mapped[str | None] = mapped_column(Text)
    log_tail: Mapped[list[str]] = mapped_column(default=list)
    batching: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
