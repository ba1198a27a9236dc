"""The record of management actions: written in the transaction of the action, never changed, read newest first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from modelport.control.actors import Actor
from modelport.schemas.access import AuditRow
from modelport.storage import tables
from modelport.storage.database import Database


def record(session: Session, actor: Actor, action: str, object: str, detail: dict[str, Any] | None = None) -> None:
    """Add one row to the open transaction. ``action`` reads ``noun.verb``; ``detail`` is JSON, and holds no secret."""
    session.add(
        tables.Audit(
            project_id=actor.project_id,
            actor=actor.name,
            action=action,
            object=object,
            detail=detail or {},
            request_id=actor.request_id,
        )
    )


def rows(database: Database, actor: Actor, limit: int, before: int | None = None) -> list[AuditRow]:
    """At most ``limit`` rows of the actor's project, newest first, older than the row ``before``."""
    query = select(tables.Audit).where(tables.Audit.project_id == actor.project_id)
    if before is not None:
        query = query.where(tables.Audit.id < before)
    with database.reading() as session:
        found = session.scalars(query.order_by(tables.Audit.id.desc()).limit(limit))
        return [AuditRow.model_validate(row, from_attributes=True) for row in found]
