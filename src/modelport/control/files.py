"""Files of a project: uploaded to be worked on, or written by a batch; their contents are blobs.

Knows no line and no request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.blobs import Blobs
from modelport.control.jobs.records import clean, new_job_id
from modelport.errors import Conflict, InvalidInput, NotFound
from modelport.schemas.batches import FINAL, FileObject, Purpose
from modelport.schemas.jobs import ENDED
from modelport.schemas.models import FileEntry
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database

Order = Literal["asc", "desc"]
_LONGEST_NAME = 255


class Files:
    """The service of the noun. Synchronous; safe for many threads."""

    def __init__(self, database: Database, artifacts: Artifacts, blobs: Blobs) -> None:
        self._database, self._artifacts, self._blobs = database, artifacts, blobs

    def receive(self, actor: Actor, chunks: Iterable[bytes]) -> FileEntry:
        """Store a content that may become a file; when it does not, it is collected as any blob."""
        return self._blobs.add(actor, "file", chunks)

    def create(self, actor: Actor, entry: FileEntry, filename: str, purpose: Purpose) -> FileObject:
        """A file of a content that was received."""
        if not entry.size:
            raise InvalidInput.of("file", "'file' is empty")
        with self._database.session() as session:
            row = self.insert(session, actor, entry, filename, purpose)
            return shown(row)

    def insert(self, session: Session, actor: Actor, entry: FileEntry, filename: str, purpose: Purpose) -> tables.File:
        """Its row, with the audit's, in the caller's transaction."""
        self._blobs.check(session, actor.project_id, [entry])
        row = tables.File(
            id=f"file-{new_job_id()}", project_id=actor.project_id, purpose=purpose, sha256=entry.sha256,
            filename=(clean(filename) or "file")[:_LONGEST_NAME], size=entry.size, created_by=actor.name,
            created_at=tables.now(),
        )  # fmt: skip
        session.add(row)
        session.flush()
        audit.record(session, actor, "file.create", row.id, {"purpose": purpose, "bytes": entry.size})
        return row

    def all(
        self, actor: Actor, purpose: str | None = None, order: Order = "desc", limit: int = 100,
        after: str | None = None,
    ) -> tuple[list[FileObject], bool]:  # fmt: skip
        """A page of the project's files, and whether there are more behind it."""
        file = tables.File
        query = select(file).where(file.project_id == actor.project_id)
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
            return shown(require_file(session, actor.project_id, file_id))

    def content(self, actor: Actor, file_id: str) -> tuple[FileObject, Iterator[bytes]]:
        """One with its content in chunks; raises NotFound."""
        with self._database.reading() as session:
            row = require_file(session, actor.project_id, file_id)
            return shown(row), self._artifacts.iterate(actor.project_id, row.sha256)

    def delete(self, actor: Actor, file_id: str) -> None:
        """Forget it; raises NotFound, and Conflict while a batch is to read it."""
        batch, blob = tables.Batch, tables.Blob
        with self._database.session() as session:
            row = require_file(session, actor.project_id, file_id)
            reading = (
                select(batch.id)
                .join(tables.Job, tables.Job.id == batch.id)
                .where(batch.project_id == actor.project_id, batch.input_file_id == file_id)
                .where(batch.status.not_in(FINAL), tables.Job.state.not_in(ENDED))
            )
            if (user := session.scalar(reading.limit(1))) is not None:
                raise Conflict(f"batch_{user} reads file {file_id}; cancel the batch first, or wait for its end")
            mine = (blob.project_id == row.project_id, blob.sha256 == row.sha256)
            session.execute(update(blob).where(*mine).values(touched_at=tables.now()))
            session.delete(row)
            audit.record(session, actor, "file.delete", file_id, {"filename": row.filename})


def require_file(session: Session, project_id: int, file_id: str) -> tables.File:
    """A project's file; raises NotFound."""
    row = session.get(tables.File, file_id)
    if row is None or row.project_id != project_id:
        raise NotFound(f"there is no file {file_id[:100]!r}; GET /v1/files lists those there are")
    return row


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
