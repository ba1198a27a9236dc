"""The contents that a project has uploaded: which are missing, how one comes in, and when one goes.

The row and the file move together: a row comes before its file, and leaves in the transaction that removes the file,
so that an upload and the collector cannot miss each other. Knows no model; versions point at blobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Delete, delete, exists, select, update
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.errors import Conflict, InvalidInput
from modelport.schemas.models import FileEntry, GcReport
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts, Staged, check_staged
from modelport.storage.database import Database, insert_missing

#: Parameters that every database takes in one statement.
_AT_ONCE = 500
#: A folder that was asked for lately may be under inspection, whatever the grace time of blobs.
_INSPECTION_S = 600
#: What keeps a blob from being collected.
_NEEDS = (tables.VersionBlob, tables.DatasetBlob, tables.File)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a push may bring, and how long it may take over it."""

    max_file_bytes: int = 100 * 10**9
    gc_grace_s: float = 3600
    """How long an unreferenced blob stays, so that a running push does not lose its files."""


class Blobs:
    """The blobs of every project."""

    def __init__(self, database: Database, artifacts: Artifacts, limits: Limits) -> None:
        self._database, self._artifacts, self._limits = database, artifacts, limits

    def missing(self, actor: Actor, hashes: Iterable[str]) -> list[str]:
        """Those of the hashes that have to be uploaded; the others are kept for the grace time from now."""
        asked = list(dict.fromkeys(hashes))
        with self._database.session() as session:
            _touch(session, actor.project_id, asked)
            stored = set(_sizes(session, actor.project_id, asked))
        here = {sha256 for sha256 in stored if self._artifacts.exists(actor.project_id, sha256)}
        return [sha256 for sha256 in asked if sha256 not in here]

    def put(self, actor: Actor, sha256: str, chunks: Iterable[bytes], size: int | None = None) -> int:
        """Receive one content; returns its size in bytes.

        Raises InvalidInput when it is not what was announced, TooLarge beyond the limit.
        """
        with self._artifacts.staged(chunks, self._limits.max_file_bytes) as staged:
            check_staged(staged, sha256, size)
            self._keep(actor.project_id, staged)
            return staged.size

    def add(self, actor: Actor, path: str, chunks: Iterable[bytes], size: int | None = None) -> FileEntry:
        """Receive one content whose hash nobody announced, as a file of a version to be."""
        with self._artifacts.staged(chunks, self._limits.max_file_bytes) as staged:
            check_staged(staged, staged.sha256, size)
            self._keep(actor.project_id, staged)
            return FileEntry(path=path, size=staged.size, sha256=staged.sha256)

    def adopt(self, actor: Actor, inside: str, file: Path) -> FileEntry:
        """Store a file of this server, which nobody may change from now on, as the file ``inside`` of a version."""
        with self._artifacts.linked(file) as staged:
            self._keep(actor.project_id, staged)
            return FileEntry(path=inside, size=staged.size, sha256=staged.sha256)

    def check(self, session: Session, project_id: int, files: Iterable[FileEntry]) -> None:
        """Raise InvalidInput unless the files' contents are all stored with the declared sizes; keeps them fresh."""
        declared = {entry.sha256: entry for entry in files}
        _touch(session, project_id, declared)  # first: it holds the rows, so that none goes between look and leap
        stored = _sizes(session, project_id, list(declared))
        for sha256, entry in declared.items():
            if sha256 not in stored:
                raise InvalidInput(
                    f"file {entry.path!r}: its content is not uploaded; PUT /api/v1/blobs/{sha256} first"
                )
        for entry in files:
            if stored[entry.sha256] != entry.size:
                raise InvalidInput(
                    f"file {entry.path!r}: has {stored[entry.sha256]} bytes, {entry.size} are declared; push again"
                )

    def collect(self, actor: Actor, dry_run: bool) -> GcReport:
        """Remove the project's contents that no version needs, what crashes left behind, and folders nobody uses."""
        grace = self._limits.gc_grace_s
        count, size = self._artifacts.sweep(grace, dry_run)
        blob = tables.Blob
        unused = (
            blob.project_id == actor.project_id,
            blob.touched_at <= tables.now() - timedelta(seconds=grace),
            *(~exists().where(need.project_id == blob.project_id, need.sha256 == blob.sha256) for need in _NEEDS),
        )
        with self._database.reading() as session:
            found = session.execute(select(blob.sha256, blob.size).where(*unused)).all()
            digests = {
                digest
                for table in (tables.Version, tables.DatasetVersion)
                for digest in session.scalars(select(table.digest).where(table.project_id == actor.project_id))
            }
        for sha256, bytes_ in found:
            if dry_run or self._remove(actor.project_id, delete(blob).where(*unused, blob.sha256 == sha256), sha256):
                count, size = count + 1, size + (bytes_ or 0)
        if not dry_run:
            self._artifacts.evict(actor.project_id, digests, max(grace, _INSPECTION_S))
            with self._database.session() as session:
                audit.record(session, actor, "gc.run", actor.project, {"blobs": count, "bytes": size})
        return GcReport(blobs=count, bytes=size, dry_run=dry_run)

    def _keep(self, project_id: int, staged: Staged) -> None:
        blob = tables.Blob
        mine = (blob.project_id == project_id, blob.sha256 == staged.sha256)
        with self._database.session() as session:  # the claim: from here on the collector stays away
            _claim(session, project_id, staged.sha256)
        self._artifacts.store(project_id, staged)
        with self._database.session() as session:
            _claim(session, project_id, staged.sha256)
            session.execute(update(blob).where(*mine).values(size=staged.size))
            if not self._artifacts.exists(project_id, staged.sha256):
                raise Conflict(f"blob {staged.sha256} was collected while it arrived; upload it again")

    def _remove(self, project_id: int, statement: Delete, sha256: str) -> bool:
        try:
            with self._database.session() as session:
                removed = session.scalar(statement.returning(tables.Blob.sha256)) is not None
                if removed:
                    self._artifacts.delete(project_id, sha256)
                return removed
        except Conflict:  # a push has just come to need it
            return False


def release(
    session: Session,
    need: type[tables.VersionBlob] | type[tables.DatasetBlob],
    project_id: int,
    version_ids: Sequence[int],
) -> None:
    """These versions need their blobs no more, which are kept for the grace time from now."""
    blob = tables.Blob
    for some in batched(version_ids):
        needed = select(need.sha256).where(need.version_id.in_(some))
        mine = (blob.project_id == project_id, blob.sha256.in_(needed))
        session.execute(update(blob).where(*mine).values(touched_at=tables.now()))
        session.execute(delete(need).where(need.version_id.in_(some)))


def _claim(session: Session, project_id: int, sha256: str) -> None:
    insert_missing(session, tables.Blob, project_id=project_id, sha256=sha256, size=None, touched_at=tables.now())
    _touch(session, project_id, [sha256])


def _sizes(session: Session, project_id: int, hashes: Sequence[str]) -> dict[str, int]:
    blob, sizes = tables.Blob, dict[str, int]()
    for some in batched(hashes):
        query = select(blob.sha256, blob.size).where(blob.project_id == project_id, blob.sha256.in_(some))
        sizes |= {sha256: size for sha256, size in session.execute(query) if size is not None}
    return sizes


def _touch(session: Session, project_id: int, hashes: Iterable[str]) -> None:
    blob = tables.Blob
    for some in batched(sorted(hashes)):  # in one order everywhere, so that two pushes cannot block each other
        session.execute(
            update(blob).where(blob.project_id == project_id, blob.sha256.in_(some)).values(touched_at=tables.now())
        )


def batched(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """``items`` in parts that every database takes as parameters of one statement."""
    return (items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE))
