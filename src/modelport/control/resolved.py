"""What the requirements of a Python predictor came to: the packages of the environment that its version first ran in.

A manifest is fixed when a version is pushed, and packages are chosen when an environment is built: so they are
recorded beside it, in the audit, and again whenever a later build chose others. Knows no environment.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.storage import tables
from modelport.storage.database import Database

_ACTION = "version.resolve"


def record(database: Database, project_id: int, project: str, version: str, packages: Sequence[str]) -> None:
    """Keep the packages (``name==1.2``) of a version (``model:3``), unless they are those that are known."""
    with database.session() as session:
        if packages and packages_of(session, project_id, version) != list(packages):
            actor = Actor(project_id, project, "reconciler", "admin")
            audit.record(session, actor, _ACTION, version, {"packages": list(packages)})


def packages_of(session: Session, project_id: int, version: str) -> list[str]:
    """The packages of the version's newest environment; none for what runs in the server's own, or has never run."""
    row = tables.Audit
    query = (
        select(row.detail)
        .where(row.project_id == project_id, row.action == _ACTION, row.object == version)
        .order_by(row.id.desc())
        .limit(1)
    )
    found = session.scalars(query).one_or_none()
    return list(found["packages"]) if found else []
