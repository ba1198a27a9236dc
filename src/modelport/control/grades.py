"""Grades: what versions were measured to do on which machine; by that their price, their class, their place among kin.

Only what was measured is kept, the newest of every version and machine. Price, class and quality are told anew each
time: by the settings and the evaluations of now. Knows no replica and no row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.blobs import batched
from modelport.control.evaluations import FOR_CHOICES
from modelport.control.push import as_json
from modelport.control.versions import find_model, find_version, show_versions
from modelport.evaluation.score import is_better, less_is_better, main_figure
from modelport.schemas.evaluation import Evaluation
from modelport.schemas.grades import Family, Grade, Measured, Quality, Relative
from modelport.schemas.models import ModelVersion
from modelport.schemas.names import NAME_PATTERN
from modelport.schemas.training import Task
from modelport.settings import ClassRule, GradeSettings
from modelport.storage import tables
from modelport.storage.database import Database, insert_missing

GradeList = list[Grade]
_HOUR_S = 3600
_MOST_KIN = 500
#: How versions name those that they were made from.
_VERSION = re.compile(rf"({NAME_PATTERN.strip('^$')}):([1-9][0-9]{{0,8}})")
_TASKS: tuple[Task, ...] = get_args(Task)


class Grades:
    """Everything about grades. Synchronous; safe for many threads and, on one database, many servers."""

    def __init__(self, database: Database, settings: GradeSettings) -> None:
        self._database, self._settings = database, settings

    def record(self, actor: Actor, version: ModelVersion, measured: Measured, job_id: str) -> Grade:
        """Keep what was measured, in place of what the same machine measured before; raises NotFound."""
        with self._database.session() as session:
            row = find_version(session, actor.project_id, version.model, version.version)
            mine = {"project_id": actor.project_id, "version_id": row.id, "machine": measured.machine}
            session.execute(delete(tables.Grade).filter_by(**mine))
            insert_missing(  # where another job has done so meanwhile, its figures are as new
                session, tables.Grade, **mine, measured=as_json(measured), job_id=job_id, graded_at=tables.now(),
                graded_by=actor.name,
            )  # fmt: skip
            found = session.scalars(select(tables.Grade).filter_by(**mine)).one()
            shown = self._grade(session, found, version)
            detail = {"machine": measured.machine, "grade": shown.grade, "job": job_id}
            audit.record(session, actor, "version.grade", f"{version.model}:{version.version}", detail)
        return shown

    def made_by(self, actor: Actor, job_id: str) -> GradeList:
        """What a job has measured so far."""
        table = tables.Grade
        query = select(table).where(table.project_id == actor.project_id, table.job_id == job_id).order_by(table.id)
        return self._shown(query)

    def list(
        self,
        actor: Actor,
        model: str | None = None,
        version: int | None = None,
        limit: int | None = None,
        after: int | None = None,
    ) -> Sequence[Grade]:
        """The project's grades, newest first, older than the one with the id ``after``."""
        table, versions = tables.Grade, tables.Version
        query = select(table).join(versions, versions.id == table.version_id)
        query = query.where(table.project_id == actor.project_id)
        if model is not None:
            names = tables.Model
            query = query.join(names, names.id == versions.model_id).where(names.name == model)
        if version is not None:
            query = query.where(versions.number == version)
        if after is not None:
            query = query.where(table.id < after)
        return self._shown(query.order_by(table.id.desc()).limit(limit))

    def family(self, actor: Actor, name: str, machine: str | None = None) -> Family:
        """A model's versions and their kin on one machine, by default that of the newest grade; raises NotFound."""
        with self._database.reading() as session:
            kin = _kin(session, actor.project_id, find_model(session, actor.project_id, name))
            graded: dict[int, dict[str, tables.Grade]] = {}
            for some in batched(list(kin)):
                for row in session.scalars(select(tables.Grade).where(tables.Grade.version_id.in_(some))):
                    graded.setdefault(row.version_id, {})[row.machine] = row
            newest = sorted((row for rows in graded.values() for row in rows.values()), key=lambda row: row.graded_at)
            machines = list(dict.fromkeys(row.machine for row in reversed(newest)))
            chosen = machine or (machines[0] if machines else None)
            relatives = []
            for id, version in zip(kin, show_versions(session, list(kin.values())), strict=True):
                measured = graded.get(id, {}).get(chosen or "")
                grade = None if measured is None else self._grade(session, measured, version)
                relatives.append(
                    Relative(model=version.model, version=version.version, aliases=version.aliases, grade=grade)
                )
        return _placed(
            Family(model=name, machine=chosen, machines=machines, currency=self._settings.currency, relatives=relatives)
        )

    def _shown(self, query: Select[tables.Grade]) -> GradeList:
        with self._database.reading() as session:
            rows = session.scalars(query).all()
            versions = [session.get_one(tables.Version, row.version_id) for row in rows]
            shown = show_versions(session, versions)
            return [self._grade(session, row, version) for row, version in zip(rows, shown, strict=True)]

    def _grade(self, session: Session, row: tables.Grade, version: ModelVersion) -> Grade:
        measured, quality = Measured.model_validate(row.measured), _quality(session, row.project_id, version)
        cost = _cost(self._settings, measured)
        return Grade(
            id=row.id, model=version.model, version=version.version, measured=measured, quality=quality,
            cost_per_million=cost, currency=self._settings.currency,
            grade=_class_of(self._settings.classes, measured, cost, quality), job=row.job_id,
            graded_at=row.graded_at, graded_by=row.graded_by,
        )  # fmt: skip


def _cost(settings: GradeSettings, measured: Measured) -> float | None:
    """Of a million rows, by a replica that has work for its share of the time."""
    if not measured.rows_per_s or measured.peak_mb is None:
        return None
    hour = measured.threads * settings.core_hour + measured.peak_mb / 1000 * settings.gb_hour
    return hour / _HOUR_S * 1e6 / (measured.rows_per_s * settings.utilization)


def _class_of(
    classes: Mapping[str, ClassRule], measured: Measured, cost: float | None, quality: Quality | None
) -> str | None:
    """The first class whose conditions hold; None for what was not measured, or when there is none."""
    latency = measured.latency
    if latency is None:
        return None
    value = None if quality is None else quality.value
    known = {
        "max_size_mb": measured.served_bytes / 1e6, "max_memory_mb": measured.peak_mb, "max_p50_ms": latency.p50_ms,
        "max_p99_ms": latency.p99_ms, "min_rows_per_s": measured.rows_per_s, "max_cost_per_million": cost,
        "min_quality": value, "max_quality": value,
    }  # fmt: skip
    for name, rule in classes.items():
        wanted = rule.model_dump(exclude_none=True)
        if all(_holds(condition, known[condition], limit) for condition, limit in wanted.items()):
            return name
    return None


def _holds(condition: str, value: float | None, limit: float) -> bool:
    return value is not None and (value <= limit if condition.startswith("max_") else value >= limit)


def _quality(session: Session, project_id: int, version: ModelVersion) -> Quality | None:
    """By rows that no choice was made by where there are such; what the version itself tells comes after the record."""
    table = tables.Evaluation
    mine = (table.project_id == project_id, table.model == version.model, table.version == version.version)
    judged = [row for row in session.scalars(select(table).where(*mine).order_by(table.id.desc())) if row.figures]
    fair = next((row for row in judged if row.part not in FOR_CHOICES), None)
    if fair is not None:
        return _of_evaluation(fair, version, False)
    if (told := _of_training(version, "test", False)) is not None:
        return told
    return _of_evaluation(judged[0], version, True) if judged else _of_training(version, "validation", True)


def _of_evaluation(row: tables.Evaluation, version: ModelVersion, flattered: bool) -> Quality | None:
    figure = None if row.report is None else Evaluation.model_validate(row.report).main
    figure = figure or _main(version, row.figures)
    value = None if figure is None else row.figures.get(figure)
    if figure is None or value is None:
        return None
    return Quality(
        figure=figure, value=value, less_is_better=less_is_better(figure), data=row.data, evaluation=row.id,
        flattered=flattered,
    )  # fmt: skip


def _of_training(version: ModelVersion, part: str, flattered: bool) -> Quality | None:
    figures = {
        name.removeprefix(f"{part}_"): value
        for name, value in version.manifest.metrics.items()
        if name.startswith(f"{part}_")
    }
    figure = _main(version, figures)
    if figure is None:
        return None
    about = f"{part} rows of its training"
    better = less_is_better(figure)
    return Quality(figure=figure, value=figures[figure], less_is_better=better, data=about, flattered=flattered)


def _main(version: ModelVersion, figures: Mapping[str, float]) -> str | None:
    task = next((known for known in _TASKS if known == version.manifest.task), None)
    return next(iter(figures), None) if task is None else main_figure(task, dict(figures))


def _kin(session: Session, project_id: int, model: tables.Model) -> dict[int, tables.Version]:
    """By id: the versions of a model, and whoever can be reached from them over parents and children."""
    version, parent = tables.Version, tables.Parent
    newest = select(version).where(version.model_id == model.id).order_by(version.number.desc()).limit(_MOST_KIN)
    found = {row.id: row for row in session.scalars(newest)}
    fresh = list(found.values())
    while fresh and len(found) < _MOST_KIN:
        ids = [row.id for row in fresh]
        named = [match for ref in _parents(session, ids) if (match := _VERSION.fullmatch(ref))]
        names = [f"{row.manifest['model']}:{row.number}" for row in fresh]
        near = [row for match in named for row in _numbered(session, project_id, match[1], int(match[2]))]
        for some in batched(names):
            query = select(version).join(parent, parent.version_id == version.id)
            near += session.scalars(query.where(parent.project_id == project_id, parent.parent.in_(some)))
        fresh = list({row.id: row for row in near if row.id not in found}.values())
        found |= {row.id: row for row in fresh}
    return found


def _parents(session: Session, ids: Sequence[int]) -> list[str]:
    found: list[str] = []
    for some in batched(ids):
        found += session.scalars(select(tables.Parent.parent).where(tables.Parent.version_id.in_(some)))
    return list(dict.fromkeys(found))


def _numbered(session: Session, project_id: int, name: str, number: int) -> Sequence[tables.Version]:
    model, version = tables.Model, tables.Version
    query = select(version).join(model, model.id == version.model_id)
    return session.scalars(
        query.where(model.project_id == project_id, model.name == name, version.number == number)
    ).all()


def _placed(family: Family) -> Family:
    """Sorted by price; the best marked among those that can be compared, by the figure that most of them have."""
    family.relatives.sort(key=lambda one: (_price(one) is None, _price(one) or 0.0, one.model, -one.version))
    judged = [one.grade.quality for one in family.relatives if one.grade is not None and one.grade.quality is not None]
    if not judged:
        return family
    figure = family.figure = Counter(quality.figure for quality in judged).most_common(1)[0][0]
    family.less_is_better = less_is_better(figure)
    places = [(one, _price(one), _value(one, figure)) for one in family.relatives]
    placed = [(one, price, value) for one, price, value in places if price is not None and value is not None]
    for one, price, value in placed:
        one.best = not any(
            cheaper <= price
            and not is_better(figure, value, other)
            and (cheaper < price or is_better(figure, other, value))
            for _, cheaper, other in placed
        )
    others = sorted({quality.figure for quality in judged} - {figure})
    if others:
        family.warnings.append(f"versions that are judged by {', '.join(others)} have no place beside {figure}")
    data = sorted({quality.data for quality in judged if quality.figure == figure})
    if len(data) > 1:
        family.warnings.append(
            f"{figure} is from different rows ({', '.join(data[:5])}): judge all by the same with `modelport evaluate`"
        )
    return family


def _price(one: Relative) -> float | None:
    return None if one.grade is None else one.grade.cost_per_million


def _value(one: Relative, figure: str) -> float | None:
    quality = None if one.grade is None else one.grade.quality
    return quality.value if quality is not None and quality.figure == figure else None
