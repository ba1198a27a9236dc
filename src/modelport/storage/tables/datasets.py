"""Datasets, their versions, the blobs that these need, and what they were made from."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, Int64, now


class Dataset(InProject, Base):
    """A name. It outlives its deletion, so that a version number never means two things."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("project_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    next_version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=now)
    deleted_at: Mapped[datetime | None]


class DatasetVersion(InProject, Base):
    """An immutable version; only where its files are kept changes."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        UniqueConstraint("dataset_id", "number"),
        Index(None, "project_id", "digest"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    rows: Mapped[int] = mapped_column(Int64)
    size: Mapped[int] = mapped_column(Int64)
    manifest: Mapped[dict[str, Any]]
    job_id: Mapped[str | None] = mapped_column(String(64), unique=True)
    """The job that made it: a job that is run again after a crash makes no second version."""
    archive_url: Mapped[str | None] = mapped_column(String(1000))
    """Where the files are while they are not among the blobs."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(200))


class DatasetBlob(InProject, Base):
    """A dataset version needs a blob; the foreign key keeps the collector away from it."""

    __tablename__ = "dataset_blobs"
    __table_args__ = (
        ForeignKeyConstraint(["project_id", "sha256"], ["blobs.project_id", "blobs.sha256"]),
        Index(None, "project_id", "sha256"),
    )

    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)


class DatasetParent(InProject, Base):
    """One dataset version (``name:number``) that another was made from."""

    __tablename__ = "dataset_parents"
    __table_args__ = (Index(None, "project_id", "parent"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"), primary_key=True)
    parent: Mapped[str] = mapped_column(String(300), primary_key=True)
