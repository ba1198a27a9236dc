"""Grades: what versions were measured to take and to do on a machine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from modelport.storage.tables.base import Base, InProject, now


class Grade(InProject, Base):
    """The newest measurement of a version on a machine. Prices, rules and quality are not here: they are of now."""

    __tablename__ = "grades"
    __table_args__ = (UniqueConstraint("version_id", "machine"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id", ondelete="CASCADE"))
    machine: Mapped[str] = mapped_column(String(200))
    job_id: Mapped[str] = mapped_column(String(90))
    measured: Mapped[dict[str, Any]] = mapped_column(default=dict)
    graded_at: Mapped[datetime] = mapped_column(default=now)
    graded_by: Mapped[str] = mapped_column(String(200))
