"""Models and versions as rows: found by what a caller names them, and shown as the API shows them.

Every function works inside the caller's session. Another project's objects answer exactly as missing ones.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, or_, select, update
from sqlalchemy.orm import Session

from modelport.control.blobs import batched
from modelport.errors import NotFound
from modelport.schemas.models import Manifest, Model, ModelVersion
from modelport.schemas.names import NAME_PATTERN
from modelport.storage import tables
from modelport.storage.database import insert_missing

LATEST = "latest"
Ref = int | str | None
"""A version as callers name it: its number, an alias, or ``latest`` (None says the same)."""
_NAME = re.compile(NAME_PATTERN.strip("^$"))
#: Without leading zeros, and within what a database takes for an integer.
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def is_name(text: str) -> bool:
    """Whether ``text`` could name anything; what could not is not asked of the database."""
    return _NAME.fullmatch(text) is not None


def find_model(session: Session, project_id: int, name: str, *, lock: bool = False) -> tables.Model:
    """The model of that name; raises NotFound. ``lock`` keeps others from changing it until the session ends."""
    model = tables.Model
    query = select(model).where(model.project_id == project_id, model.name == name, model.deleted_at.is_(None))
    found = session.scalars(query.with_for_update() if lock else query).one_or_none() if is_name(name) else None
    if found is None:
        raise NotFound(f"there is no model {name[:100]!r}; `modelport models list` shows those there are")
    return found


def find_version(session: Session, project_id: int, name: str, ref: Ref = None) -> tables.Version:
    """One version of a model; raises NotFound."""
    model = find_model(session, project_id, name)
    version, alias = tables.Version, tables.Alias
    query = select(version).where(version.model_id == model.id)
    ref = LATEST if ref is None else str(ref)
    found: tables.Version | None = None
    if ref == LATEST:
        found = session.scalars(query.order_by(version.number.desc()).limit(1)).one_or_none()
    elif _NUMBER.fullmatch(ref):
        found = session.scalars(query.where(version.number == int(ref))).one_or_none()
    elif is_name(ref):
        named = query.join(alias, alias.version_id == version.id).where(alias.name == ref)
        found = session.scalars(named).one_or_none()
    if found is None:
        what = "no version" if ref == LATEST else f"no version or alias {ref[:100]!r}"
        raise NotFound(f"model {name!r} has {what}; `modelport models list` shows what there is")
    return found


def take_number(
    session: Session, table: type[tables.Model] | type[tables.Dataset], project_id: int, name: str
) -> tuple[int, int]:
    """The row of a name, and the number of its next version, which nobody else gets. The name is made where it is new,
    and comes back from its deletion."""
    now, mine = tables.now(), (table.project_id == project_id, table.name == name)
    insert_missing(session, table, project_id=project_id, name=name, next_version=1, created_at=now)
    session.execute(update(table).where(*mine, table.deleted_at.is_not(None)).values(deleted_at=None, created_at=now))
    taking = update(table).where(*mine).values(next_version=table.next_version + 1)  # holds the row: numbers queue up
    row_id, following = session.execute(taking.returning(table.id, table.next_version)).one()
    return row_id, following - 1


def deployments_of(session: Session, version_ids: Sequence[int], *, lock: bool = False) -> dict[int, list[str]]:
    """Names of the deployments whose desired or serving revision is one of the versions, by version id."""
    deployment, revision = tables.Deployment, tables.Revision
    using = defaultdict(set)
    for some in batched(version_ids):
        query = (
            select(revision.version_id, deployment.name)
            .join(deployment, deployment.id == revision.deployment_id)
            .where(revision.version_id.in_(some), _is_current())
        )
        drafts = _as_drafts(some)
        for each in (query, drafts):
            for version_id, name in session.execute(each.with_for_update(of=deployment) if lock else each):
                using[version_id].add(name)
    return {version_id: sorted(names) for version_id, names in using.items()}


def _as_drafts(version_ids: Sequence[int]) -> Select[int, str]:
    """Ids of those that write ahead for another version, with the names of its deployments."""
    deployment, revision, version, model = tables.Deployment, tables.Revision, tables.Version, tables.Model
    name = model.name + ":" + cast(version.number, String)
    return (
        select(version.id, deployment.name)
        .join(model, model.id == version.model_id)
        .join(revision, and_(revision.project_id == version.project_id, revision.spec["draft"].as_string() == name))
        .join(deployment, deployment.id == revision.deployment_id)
        .where(version.id.in_(version_ids), _is_current())
    )


def _is_current() -> ColumnElement[bool]:
    deployment, revision = tables.Deployment, tables.Revision
    return or_(revision.number == deployment.desired_revision, revision.number == deployment.serving_revision)


def show_versions(session: Session, versions: Sequence[tables.Version]) -> list[ModelVersion]:
    """Versions as the API shows them, in the same order."""
    ids = [version.id for version in versions]
    aliases: dict[int, list[str]] = defaultdict(list)
    labels: dict[int, dict[str, str]] = defaultdict(dict)
    for some in batched(ids):
        alias, label = tables.Alias, tables.Label
        for row in session.scalars(select(alias).where(alias.version_id.in_(some)).order_by(alias.name)):
            aliases[row.version_id].append(row.name)
        for row_ in session.scalars(select(label).where(label.version_id.in_(some)).order_by(label.key)):
            labels[row_.version_id][row_.key] = row_.value
    deployed = deployments_of(session, ids)
    return [
        ModelVersion(
            model=version.manifest["model"],
            version=version.number,
            digest=version.digest,
            format=version.format,
            size=version.size,
            aliases=aliases[version.id],
            labels=labels[version.id],
            deployed_in=deployed.get(version.id, []),
            created_at=version.created_at,
            created_by=version.created_by,
            manifest=Manifest.model_validate(version.manifest),
        )
        for version in versions
    ]


def show_models(session: Session, models: Sequence[tables.Model]) -> list[Model]:
    """Models as the API shows them, in the same order."""
    version, alias = tables.Version, tables.Alias
    counts: dict[int, tuple[int, int]] = {}
    aliases: dict[int, dict[str, int]] = defaultdict(dict)
    for some in batched([model.id for model in models]):
        counted = select(version.model_id, func.max(version.number), func.count()).where(version.model_id.in_(some))
        for model_id, latest, count in session.execute(counted.group_by(version.model_id)):
            counts[model_id] = (latest, count)
        named = select(alias.model_id, alias.name, version.number).join(version, version.id == alias.version_id)
        for model_id, name, number in session.execute(named.where(alias.model_id.in_(some)).order_by(alias.name)):
            aliases[model_id][name] = number
    shown = []
    for model in models:
        found = counts.get(model.id)
        shown.append(
            Model(
                name=model.name,
                latest_version=found[0] if found else None,
                versions=found[1] if found else 0,
                aliases=aliases[model.id],
                created_at=model.created_at,
            )
        )
    return shown
