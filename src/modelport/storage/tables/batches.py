"""Files that callers upload or batches write, and batches: requests that are worked on beside the live ones."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, Int64, now


class File(InProject, Base):
    """One file; the foreign key keeps the collector away from its content."""

    __tablename__ = "files"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "sha256"], ["blobs.project_id", "blobs.sha256"]),
        Index(None, "project_id", "sha256"),
        Index(None, "project_id", "key_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    """Sorts by age."""
    key_id: Mapped[str | None] = mapped_column(String(40))
    """Whose it is; without a foreign key, since a key may go."""
    purpose: Mapped[str] = mapped_column(String(40))
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(Int64)
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(String(200))
    expires_at: Mapped[datetime | None]


class Batch(InProject, Base):
    """What is wanted of a file's requests, and what became of them; its job has the same id, and takes it along."""

    __tablename__ = "batches"
    __table_args__ = (Index(None, "project_id", "input_file_id"),)

    id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(String(40))
    """Whose limits hold for its requests; without a foreign key, since a key may go."""
    endpoint: Mapped[str] = mapped_column(String(100))
    input_file_id: Mapped[str] = mapped_column(String(40))
    """No foreign key: the file may go when the batch is done."""
    completion_window: Mapped[str] = mapped_column(String(10))
    expires_at: Mapped[datetime]
    output_seconds: Mapped[int | None]
    """How long what it writes is kept; None for ever."""
    status: Mapped[str] = mapped_column(String(20))
    moments: Mapped[dict[str, Any]]
    """When it came to be in which status, seconds since the epoch."""
    labels: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """OpenAI's ``metadata``."""
    model: Mapped[str | None] = mapped_column(String(200))
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    output_file_id: Mapped[str | None] = mapped_column(String(40))
    error_file_id: Mapped[str | None] = mapped_column(String(40))
    problems: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    usage: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(default=now)
