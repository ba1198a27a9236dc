"""Blobs: which contents a project has stored, and which version needs which."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, Int64, now


class Blob(InProject, Base):
    """One content. The row comes before the file and leaves with it, so that no file is ever without a row."""

    __tablename__ = "blobs"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int | None] = mapped_column(Int64)
    """Bytes; None until the whole content is stored."""
    touched_at: Mapped[datetime] = mapped_column(default=now)
    """When a push last asked for it: younger than the grace time, it is never collected."""


class VersionBlob(InProject, Base):
    """A version needs a blob; the foreign key keeps the collector away from it."""

    __tablename__ = "version_blobs"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "sha256"], ["blobs.project_id", "blobs.sha256"]),
        Index(None, "project_id", "sha256"),
    )

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
