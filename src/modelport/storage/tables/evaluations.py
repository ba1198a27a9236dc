"""Evaluations: every time that rows of a dataset were judged by, with what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, now


class Evaluation(InProject, Base):
    """Rows that were opened to judge a model by them. It outlives the model and the data: what was seen, was seen."""

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint("project_id", "job_id", "data", "subject"),
        Index(None, "project_id", "data_digest"),
        Index(None, "project_id", "model", "version"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(String(90))
    """Rows that a job opens again after a crash are not opened twice."""
    purpose: Mapped[str] = mapped_column(String(20))
    data: Mapped[str] = mapped_column(String(200))
    """``NAME:NUMBER``, with ``/part`` where it was one."""
    data_digest: Mapped[str] = mapped_column(String(64))
    """Of the dataset version: the same rows under another name are the same rows."""
    part: Mapped[str] = mapped_column(String(50), default="")
    subject: Mapped[str] = mapped_column(String(300))
    """What was judged, so that a job may judge several things by the same rows."""
    model: Mapped[str | None] = mapped_column(String(100))
    version: Mapped[int | None]
    figures: Mapped[dict[str, Any]] = mapped_column(default=dict)
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    about: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(String(200))
