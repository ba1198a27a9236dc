"""Files of a project: uploaded to be worked on, or written by a batch; their contents are blobs.

A file is its key's: callers have only those of their own, everybody else the project's. What keys and projects keep
is bounded, and a file whose time is over answers as a missing one. Knows no line and no request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, case, func, or_, select, update
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.blobs import Blobs
from modelport.control.jobs.records import clean, new_job_id
from modelport.errors import Conflict, InvalidInput, NotFound, TooLarge
from modelport.schemas.batches import FINAL, MOST_BYTES, FileObject, Purpose
from modelport.schemas.jobs import ENDED
from modelport.schemas.models import FileEntry
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database

Order = Literal["asc", "desc"]
_LONGEST_NAME = 255
_LEAST_BYTES = 100_000
"""What a file counts as, so that small ones cannot be many without end."""
_SWEPT_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that files may have together, those of one key and those of a project."""

    key: int = 10 * 10**9
    project: int = 100 * 10**9


class Files:
    """The service of the noun. Synchronous; safe for many threads."""

    def __init__(self, database: Database, artifacts: Artifacts, blobs: Blobs, room: Room | None = None) -> None:
        self._database, self._artifacts, self._blobs, self._room = database, artifacts, blobs, room or Room()

    def upload(self, actor: Actor, chunks: Iterable[bytes]) -> FileEntry:
        """Store what may become a file that a batch reads; raises TooLarge as soon as it is known."""
        with self._database.reading() as session:
            self.check_room(session, actor, 1)
            kept = self._kept(session, actor)

        def bounded() -> Iterator[bytes]:
            size = 0
            for chunk in chunks:
                size += len(chunk)
                if size > MOST_BYTES:
                    raise too_large()
                _check(kept, size)
                yield chunk

        return self.receive(actor, bounded())

    def receive(self, actor: Actor, chunks: Iterable[bytes]) -> FileEntry:
        """Store a content that may become a file; when it does not, it is collected as any blob."""
        return self._blobs.add(actor, "file", chunks)

    def create(
        self, actor: Actor, entry: FileEntry, filename: str, purpose: Purpose, keep_s: int | None = None
    ) -> FileObject:
        """A file of a content that was received; ``keep_s`` after now it is gone. Raises TooLarge without room."""
        if not entry.size:
            raise InvalidInput.of("file", "'file' is empty")
        with self._database.session() as session:
            session.get(tables.Project, actor.project_id, with_for_update=True)  # two uploads see each other's bytes
            self.check_room(session, actor, entry.size)
            row = self.insert(session, actor, entry, filename, purpose, keep_s)
            return shown(row)

    def check_room(self, session: Session, actor: Actor, more: int) -> None:
        """Raise TooLarge when the actor's key, or the project, would keep too many bytes."""
        _check(self._kept(session, actor), more)

    def _kept(self, session: Session, actor: Actor) -> list[tuple[str, int, int]]:
        """Whose files are bounded, what they have now, and what they may have."""
        file = tables.File
        counted = func.coalesce(func.sum(case((file.size < _LEAST_BYTES, _LEAST_BYTES), else_=file.size)), 0)
        mine: tuple[ColumnElement[bool], ...] = (file.project_id == actor.project_id, _is_there())
        bounds = [("the project", self._room.project, mine)]
        if actor.key_id is not None:
            bounds = [("your key", self._room.key, (*mine, file.key_id == actor.key_id)), *bounds]
        return [(whose, int(session.scalar(select(counted).where(*where)) or 0), most) for whose, most, where in bounds]

    def insert(
        self, session: Session, actor: Actor, entry: FileEntry, filename: str, purpose: Purpose,
        keep_s: int | None = None,
    ) -> tables.File:  # fmt: skip
        """Its row, with the audit's, in the caller's transaction."""
        self._blobs.check(session, actor.project_id, [entry])
        now = tables.now()
        row = tables.File(
            id=f"file-{new_job_id()}", project_id=actor.project_id, purpose=purpose, sha256=entry.sha256,
            filename=(clean(filename) or "file")[:_LONGEST_NAME], size=entry.size, created_by=actor.name,
            created_at=now, expires_at=now + timedelta(seconds=keep_s) if keep_s else None, key_id=actor.key_id,
        )  # fmt: skip
        session.add(row)
        session.flush()
        audit.record(session, actor, "file.create", row.id, {"purpose": purpose, "bytes": entry.size})
        return row

    def all(
        self, actor: Actor, purpose: str | None = None, order: Order = "desc", limit: int = 100,
        after: str | None = None,
    ) -> tuple[list[FileObject], bool]:  # fmt: skip
        """A page of the project's files (a caller's own), and whether there are more behind it."""
        file = tables.File
        query = select(file).where(file.project_id == actor.project_id, _is_there())
        if not actor.may("viewer"):
            query = query.where(file.key_id == actor.key_id)
        if purpose is not None:
            query = query.where(file.purpose == purpose)
        if after is not None:
            query = query.where(file.id > after if order == "asc" else file.id < after)
        query = query.order_by(file.id.asc() if order == "asc" else file.id.desc()).limit(limit + 1)
        with self._database.reading() as session:
            found = [shown(row) for row in session.scalars(query)]
        return found[:limit], len(found) > limit

    def get(self, actor: Actor, file_id: str) -> FileObject:
        """One; raises NotFound."""
        with self._database.reading() as session:
            return shown(require_file(session, actor, file_id))

    def content(self, actor: Actor, file_id: str) -> tuple[FileObject, Iterator[bytes]]:
        """One with its content in chunks; raises NotFound."""
        with self._database.reading() as session:
            row = require_file(session, actor, file_id)
            return shown(row), self._artifacts.iterate(actor.project_id, row.sha256)

    def source(self, project_id: int, file_id: str) -> Iterator[bytes]:
        """What a batch was accepted for: its time may be over since. Raises NotFound."""
        with self._database.reading() as session:
            row = session.get(tables.File, file_id)
            if row is None or row.project_id != project_id:
                raise _missing(file_id)
            return self._artifacts.iterate(project_id, row.sha256)

    def delete(self, actor: Actor, file_id: str) -> None:
        """Forget it; raises NotFound, NotAllowed, and Conflict while a batch is to read it."""
        blob = tables.Blob
        with self._database.session() as session:
            row = require_file(session, actor, file_id)
            actor.require_own(row.key_id, f"file {file_id}")
            reading = _readers().where(tables.Batch.input_file_id == file_id)
            if (user := session.scalar(reading.limit(1))) is not None:
                raise Conflict(f"batch_{user} reads file {file_id}; cancel the batch first, or wait for its end")
            mine = (blob.project_id == row.project_id, blob.sha256 == row.sha256)
            session.execute(update(blob).where(*mine).values(touched_at=tables.now()))
            session.delete(row)
            audit.record(session, actor, "file.delete", file_id, {"filename": row.filename})

    def sweep(self) -> int:
        """Forget those whose time is over and that no batch is to read; their contents go as any unused blob."""
        file, project = tables.File, tables.Project
        over = (
            select(file, project.name)
            .join(project, project.id == file.project_id)
            .where(file.expires_at <= tables.now())
            .where(~_readers().where(tables.Batch.input_file_id == file.id).exists())
            .limit(_SWEPT_AT_ONCE)
        )
        with self._database.session() as session:
            found = session.execute(over).all()
            for row, name in found:
                actor = Actor(row.project_id, name, "schedule", "admin")
                audit.record(session, actor, "file.expire", row.id, {"filename": row.filename})
                session.delete(row)
        return len(found)


def require_file(session: Session, actor: Actor, file_id: str) -> tables.File:
    """A file that the actor may know of; raises NotFound."""
    row = session.get(tables.File, file_id)
    if row is None or row.project_id != actor.project_id or not actor.sees(row.key_id) or _is_over(row):
        raise _missing(file_id)
    return row


def _missing(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id[:100]!r}; GET /v1/files lists those there are")


def _is_over(row: tables.File) -> bool:
    return row.expires_at is not None and row.expires_at <= tables.now()


def _is_there() -> ColumnElement[bool]:
    return or_(tables.File.expires_at.is_(None), tables.File.expires_at > tables.now())


def _readers() -> Any:
    """Of batches that are not over: their ids."""
    batch, job = tables.Batch, tables.Job
    return select(batch.id).join(job, job.id == batch.id).where(batch.status.not_in(FINAL), job.state.not_in(ENDED))


def _check(kept: list[tuple[str, int, int]], more: int) -> None:
    for whose, used, most in kept:
        if used + max(more, _LEAST_BYTES) > most:
            raise TooLarge(
                f"the files of {whose} have {used} bytes of {most}, {more} more do not fit; delete some:"
                " DELETE /v1/files/{id}"
            )


def too_large() -> TooLarge:
    """What no batch takes."""
    return TooLarge(f"a batch takes a file of {MOST_BYTES} bytes at most; cut it into several")


def shown(row: tables.File) -> FileObject:
    """A row as the API shows it."""
    purpose: Purpose = "batch" if row.purpose == "batch" else "batch_output"
    return FileObject(
        id=row.id, bytes=row.size, created_at=seconds(row.created_at), filename=row.filename, purpose=purpose,
        expires_at=seconds(row.expires_at) if row.expires_at else None,
    )  # fmt: skip


def seconds(moment: datetime) -> int:
    """Since the epoch."""
    return int(moment.timestamp())
