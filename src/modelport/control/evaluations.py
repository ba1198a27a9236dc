"""The record of what was judged by which rows: openings of parts, figures, whole reports.

Rows are opened before anything is learnt from them, and what was found is written beneath afterwards; both in one
transaction with their audit row. Rows that were seen once are seen for good: nothing here is deleted. Knows no model's
files and no row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.push import as_json
from modelport.errors import NotFound
from modelport.schemas.datasets import DatasetVersion
from modelport.schemas.evaluation import Evaluation, EvaluationRecord, EvaluationShown, Opening, Purpose
from modelport.storage import tables
from modelport.storage.database import Database, insert_missing

_SHOWN, _NAMED = 100, 3
#: Parts that choices are made by, so that they are opened again and again.
FOR_CHOICES = ("train", "validation", "valid", "val", "dev")


class Evaluations:
    """Everything about evaluations. Synchronous; safe for many threads and, on one database, many servers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(
        self, actor: Actor, data: DatasetVersion, part: str | None, purpose: Purpose, job_id: str, subject: str
    ) -> list[Opening]:
        """Say that a job is about to judge ``subject`` (such as ``digits:3``) by these rows; earlier openings.

        Rows of a whole version are rows of its parts, too. Saying it again for the same job and subject changes
        nothing.
        """
        ref = reference(data, part)
        row = {
            "project_id": actor.project_id, "job_id": job_id, "purpose": purpose, "data": ref, "subject": subject[:300],
            "data_digest": data.digest, "part": part or "", "figures": {}, "about": {}, "created_at": tables.now(),
            "created_by": actor.name,
        }  # fmt: skip
        with self._database.session() as session:
            if _mine(session, actor, job_id, ref, subject[:300]) is None:
                insert_missing(session, tables.Evaluation, **row)
                detail = {"purpose": purpose, "subject": subject[:300], "job": job_id}
                audit.record(session, actor, "evaluation.open", ref, detail)
            found = _mine(session, actor, job_id, ref, subject[:300])
            assert found is not None
            return _before(session, found)

    def record(
        self,
        actor: Actor,
        data: DatasetVersion,
        part: str | None,
        job_id: str,
        subject: str,
        *,
        model: str,
        version: int | None,
        figures: Mapping[str, float],
        report: Evaluation | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> EvaluationRecord:
        """Write what was found beneath what was opened before; raises NotFound."""
        ref = reference(data, part)
        with self._database.session() as session:
            found = _mine(session, actor, job_id, ref, subject[:300])
            if found is None:
                raise NotFound(f"{ref} was not opened for {subject[:100]!r}")
            found.model, found.version, found.figures = model, version, dict(figures)
            found.report, found.about = None if report is None else as_json(report), dict(about or {})
            where = model if version is None else f"{model}:{version}"
            audit.record(session, actor, "evaluation.record", where, {"data": ref, "job": job_id})
            session.flush()
            return _record(session, found)

    def list(
        self,
        actor: Actor,
        model: str | None = None,
        version: int | None = None,
        data: str | None = None,
        limit: int | None = None,
        after: int | None = None,
    ) -> Sequence[EvaluationRecord]:
        """The project's evaluations, newest first, older than the one with the id ``after``."""
        table = tables.Evaluation
        query = select(table).where(table.project_id == actor.project_id)
        if model is not None:
            query = query.where(table.model == model)
        if version is not None:
            query = query.where(table.version == version)
        if data is not None:
            query = query.where(
                or_(table.data == data, table.data.startswith(f"{data}{_separator(data)}", autoescape=True))
            )
        if after is not None:
            query = query.where(table.id < after)
        with self._database.reading() as session:
            return [
                _record(session, row) for row in session.scalars(query.order_by(table.id.desc()).limit(limit)).all()
            ]

    def get(self, actor: Actor, id: int) -> EvaluationShown:
        """One with its report and the openings before it; raises NotFound."""
        with self._database.reading() as session:
            found = session.get(tables.Evaluation, id) if 0 < id < 2**31 else None
            if found is None or found.project_id != actor.project_id:
                raise NotFound(f"there is no evaluation {id}; `modelport evaluations list` shows those there are")
            return EvaluationShown(
                **_record(session, found).model_dump(),
                report=None if found.report is None else Evaluation.model_validate(found.report),
                openings=_before(session, found),
                about=found.about,
            )


def reference(data: DatasetVersion, part: str | None) -> str:
    """How a dataset version's rows are written down."""
    return f"{data.dataset}:{data.version}" + (f"/{part}" if part else "")


def told_of(ref: str, openings: Sequence[Opening]) -> list[str]:
    """What a reader should know of rows that were judged by before; nothing of those that choices are made by."""
    part = ref.partition("/")[2]
    if not openings or part in FOR_CHOICES:
        return []
    by = ", ".join(dict.fromkeys(f"{one.purpose} of {one.model or 'a model'}" for one in openings[:5]))
    times = "once" if len(openings) == 1 else f"{len(openings)} times"
    return [
        f"{ref} was opened {times} before ({by}): figures on rows that choices were made by are too good; judge by a "
        "part that no choice has seen"
    ]


def _separator(data: str) -> str:
    return "/" if ":" in data else ":"


def _mine(session: Session, actor: Actor, job_id: str, ref: str, subject: str) -> tables.Evaluation | None:
    table = tables.Evaluation
    query = select(table).where(
        table.project_id == actor.project_id, table.job_id == job_id, table.data == ref, table.subject == subject
    )
    return session.scalars(query).one_or_none()


def _same_rows(row: tables.Evaluation) -> Any:
    """Earlier rows about the same, or overlapping, rows by other jobs."""
    table = tables.Evaluation
    same = [table.project_id == row.project_id, table.data_digest == row.data_digest, table.job_id != row.job_id]
    if row.part:
        same.append(table.part.in_((row.part, "")))
    return (*same, table.id < row.id)


def _before(session: Session, row: tables.Evaluation) -> list[Opening]:
    """By job, newest first."""
    table = tables.Evaluation
    query = select(table).where(*_same_rows(row)).order_by(table.id.desc()).limit(_SHOWN)
    jobs: dict[str, list[tables.Evaluation]] = {}
    for one in session.scalars(query):
        jobs.setdefault(one.job_id, []).append(one)
    return [
        Opening.model_validate(
            {
                "id": rows[0].id, "at": rows[0].created_at, "by": rows[0].created_by, "purpose": rows[0].purpose,
                "model": _subjects(rows), "job": job,
            }
        )
        for job, rows in jobs.items()
    ]  # fmt: skip


def _subjects(rows: Sequence[tables.Evaluation]) -> str:
    names = [f"{row.model}:{row.version}" if row.model and row.version else row.subject for row in reversed(rows)]
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _record(session: Session, row: tables.Evaluation) -> EvaluationRecord:
    count = select(func.count(func.distinct(tables.Evaluation.job_id))).where(*_same_rows(row))
    return EvaluationRecord.model_validate(
        {
            "id": row.id, "model": row.model or row.subject, "version": row.version, "data": row.data,
            "purpose": row.purpose, "job": row.job_id, "figures": row.figures,
            "opened_before": session.scalar(count) or 0, "created_at": row.created_at, "created_by": row.created_by,
        }
    )  # fmt: skip
