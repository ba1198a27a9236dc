"""The registry of datasets: immutable, numbered versions of tables, their files, where these are kept, and lineage.

A version is registered in one transaction with its audit row, once for each job. Knows no HTTP, no job but by its
id, and not what is inside a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from modelport.control import audit
from modelport.control.actors import Actor
from modelport.control.blobs import Blobs, batched, release
from modelport.control.push import as_json, digest_of
from modelport.control.versions import is_name, take_number
from modelport.errors import InvalidInput, MissingExtra, NotAllowed, NotFound
from modelport.schemas.datasets import (
    Dataset,
    DatasetLineage,
    DatasetManifest,
    DatasetVersion,
    Facts,
    Head,
)
from modelport.schemas.models import FileEntry
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from modelport.storage.paths import check_paths
from modelport.storage.sources import is_within

LATEST = "latest"
#: Without leading zeros, and within what a database takes for an integer.
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
Ref = int | str | None
"""A version's number, or ``latest`` (None says the same)."""
#: Called with the bytes moved, and all of them.
Moved = Callable[[int, int], None]


class Datasets:
    """Everything about datasets. Synchronous; safe for many threads and, on one database, many servers."""

    def __init__(
        self, database: Database, artifacts: Artifacts, blobs: Blobs, cache: Path, archives: Sequence[str] = ()
    ) -> None:
        self._database, self._artifacts, self._blobs, self._cache = database, artifacts, blobs, cache
        self._archives = tuple(archives)

    # Versions

    def register(
        self,
        actor: Actor,
        name: str,
        folder: Path,
        facts: Facts,
        *,
        parents: Sequence[str] = (),
        job_id: str | None = None,
        description: str = "",
    ) -> DatasetVersion:
        """Make the Parquet files of a folder the next version of ``name``; all of it or nothing.

        Registering again for the same job gives the version that it made. The folder's files become read-only.
        """
        if not is_name(name):
            raise InvalidInput(f"dataset name {name[:40]!r}: letters, digits, '.', '_' and '-', at most 100")
        if (made := self.made_by(actor, job_id)) is not None:
            return made
        paths = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
        inside = [path.relative_to(folder).as_posix() for path in paths]
        check_paths(inside)
        if not inside:
            raise InvalidInput(f"dataset {name!r}: there is no file to register")
        files = [self._blobs.adopt(actor, at, path) for at, path in zip(inside, paths, strict=True)]
        with self._database.session() as session:
            if job_id is not None and (found := _of_job(session, actor, job_id)) is not None:
                return _shown(session, [found])[0]
            self._blobs.check(session, actor.project_id, files)
            version = _insert(session, actor, name, files, facts, list(parents), job_id, description)
            return _shown(session, [version])[0]

    def list(self, actor: Actor, limit: int | None = None, after: str | None = None) -> Sequence[Dataset]:
        """The project's datasets by name, beginning after the name ``after``."""
        table = tables.Dataset
        query = select(table).where(table.project_id == actor.project_id, table.deleted_at.is_(None))
        if after is not None:
            query = query.where(table.name > after)
        with self._database.reading() as session:
            return [_dataset(session, row) for row in session.scalars(query.order_by(table.name).limit(limit)).all()]

    def get(self, actor: Actor, name: str) -> Dataset:
        """One dataset; raises NotFound."""
        with self._database.reading() as session:
            return _dataset(session, _find(session, actor, name))

    def versions(
        self, actor: Actor, name: str, limit: int | None = None, after: int | None = None
    ) -> Sequence[DatasetVersion]:
        """A dataset's versions, newest first, beginning after the number ``after``."""
        table = tables.DatasetVersion
        with self._database.reading() as session:
            query = select(table).where(table.dataset_id == _find(session, actor, name).id)
            if after is not None:
                query = query.where(table.number < after)
            return _shown(session, session.scalars(query.order_by(table.number.desc()).limit(limit)).all())

    def version(self, actor: Actor, name: str, ref: Ref = None) -> DatasetVersion:
        """One version by number or ``latest``; raises NotFound."""
        with self._database.reading() as session:
            return _shown(session, [_find_version(session, actor, name, ref)])[0]

    def resolve(self, actor: Actor, ref: str) -> tuple[DatasetVersion, str | None]:
        """What ``NAME``, ``NAME:3`` or ``NAME:3/part`` means: the version and the part; raises NotFound."""
        whole, _, part = ref.partition("/")
        name, _, number = whole.partition(":")
        found = self.version(actor, name, number or None)
        if part and part not in found.manifest.parts:
            parts = ", ".join(found.manifest.parts) or "none: `modelport data split` makes them"
            raise NotFound(f"dataset {name}:{found.version} has no part {part[:50]!r}; it has {parts}")
        return found, part or None

    def lineage(self, actor: Actor, name: str, ref: Ref = None) -> DatasetLineage:
        """What a version was made from, and what was made from it."""
        version = self.version(actor, name, ref)
        me = f"{version.dataset}:{version.version}"
        with self._database.reading() as session:
            children = (
                select(tables.Dataset.name, tables.DatasetVersion.number)
                .join(tables.DatasetVersion, tables.DatasetVersion.dataset_id == tables.Dataset.id)
                .join(tables.DatasetParent, tables.DatasetParent.version_id == tables.DatasetVersion.id)
                .where(tables.DatasetParent.project_id == actor.project_id, tables.DatasetParent.parent == me)
                .order_by(tables.Dataset.name, tables.DatasetVersion.number)
            )
            models = (
                select(tables.Model.name, tables.Version.number)
                .join(tables.Version, tables.Version.model_id == tables.Model.id)
                .join(tables.Parent, tables.Parent.version_id == tables.Version.id)
                .where(tables.Parent.project_id == actor.project_id, tables.Parent.parent == f"dataset:{me}")
                .order_by(tables.Model.name, tables.Version.number)
            )
            return DatasetLineage(
                version=me,
                parents=version.manifest.parents,
                source=version.manifest.source,
                job=version.manifest.job,
                children=[f"{child}:{number}" for child, number in session.execute(children)],
                models=[f"{model}:{number}" for model, number in session.execute(models)],
            )

    def made_by(self, actor: Actor, job_id: str | None) -> DatasetVersion | None:
        """The version that a job has made."""
        if job_id is None:
            return None
        with self._database.reading() as session:
            found = _of_job(session, actor, job_id)
            return None if found is None else _shown(session, [found])[0]

    # Leaving

    def delete(self, actor: Actor, name: str, ref: Ref = None) -> None:
        """Delete a version, or the dataset with all of them; what was made from it stays. Numbers go on."""
        with self._database.session() as session:
            if ref is None:
                found = _find(session, actor, name, lock=True)
                every = select(tables.DatasetVersion).where(tables.DatasetVersion.dataset_id == found.id)
                versions = session.scalars(every).all()
                found.deleted_at = tables.now()
                _delete_versions(session, actor, versions)
                audit.record(session, actor, "dataset.delete", name, {"versions": len(versions)})
                return
            version = _find_version(session, actor, name, ref, lock=True)
            _delete_versions(session, actor, [version])
            detail = {"digest": version.digest}
            audit.record(session, actor, "dataset_version.delete", f"{name}:{version.number}", detail)

    # Files

    def head(self, actor: Actor, name: str, ref: Ref, rows: int, part: str = "") -> Head:
        """The first rows of a version, or of one part of a split; raises NotFound, MissingExtra."""
        version, _ = self.resolve(actor, f"{name}:{LATEST if ref is None else ref}" + (f"/{part}" if part else ""))
        try:
            room: Any = import_module("modelport.data.head")
            writing: Any = import_module("modelport.data.writing")
        except ModuleNotFoundError:
            raise MissingExtra("data", "showing rows") from None
        parts = writing.parts_in(self.materialize(actor, version) / part)
        found: Head = room.head(parts, rows)
        return found

    def check_archive(self, url: str) -> None:
        """Raise NotAllowed unless the operator lets versions be archived there."""
        if is_within(url, self._archives):
            return
        raise NotAllowed(
            f"archive {url.partition('?')[0][:200]!r}: the operator allows {', '.join(self._archives) or 'none'} "
            "(MODELPORT_DATA_ARCHIVES)"
        )

    def check_uploaded(self, actor: Actor, files: Sequence[FileEntry]) -> None:
        """Raise InvalidInput unless the contents were all uploaded; they are kept for the grace time from now."""
        with self._database.session() as session:
            self._blobs.check(session, actor.project_id, files)

    def uploaded(self, actor: Actor, files: Sequence[FileEntry]) -> Path:
        """A local read-only folder with uploaded contents."""
        return self._artifacts.materialize(actor.project_id, digest_of(files), files)

    def materialize(self, actor: Actor, version: DatasetVersion) -> Path:
        """A local read-only folder with the version's files, brought back from its archive where they are there."""
        if version.archived is not None:
            self.restore(actor, version.dataset, version.version)
        manifest = version.manifest
        return self._artifacts.materialize(actor.project_id, manifest.digest, manifest.files)

    def find_file(self, actor: Actor, name: str, ref: Ref, path: str) -> FileEntry:
        """One file of a version; raises NotFound."""
        shown = self.version(actor, name, ref)
        for entry in shown.manifest.files:
            if entry.path == path:
                if shown.archived is not None:
                    self.restore(actor, name, shown.version)
                return entry
        raise NotFound(f"dataset {name}:{shown.version} has no file {path[:200]!r}; its manifest lists them")

    def iterate_file(self, actor: Actor, entry: FileEntry, start: int = 0) -> Iterator[bytes]:
        """A file's content in chunks, verified when it is whole."""
        return self._artifacts.iterate(actor.project_id, entry.sha256, start)

    def archive(
        self, actor: Actor, name: str, ref: Ref, url: str, told: Moved = lambda done, total: None
    ) -> DatasetVersion:
        """Move a version's files to ``url``; they come back when somebody needs them. Doing it twice is harmless."""
        version = self.version(actor, name, ref)
        if version.archived is None:
            place = Artifacts(url, self._cache / "archives")
            done = 0
            for entry in version.manifest.files:
                told(done, version.size)
                if not place.exists(actor.project_id, entry.sha256):
                    chunks = self._artifacts.iterate(actor.project_id, entry.sha256)
                    place.write(actor.project_id, entry.sha256, chunks, entry.size)
                done += entry.size
            told(done, version.size)
            with self._database.session() as session:
                row = _find_version(session, actor, name, version.version, lock=True)
                row.archive_url = url
                release(session, tables.DatasetBlob, actor.project_id, [row.id])
                audit.record(session, actor, "dataset_version.archive", f"{name}:{version.version}", {"to": url})
        return self.version(actor, name, version.version)

    def restore(self, actor: Actor, name: str, ref: Ref) -> DatasetVersion:
        """Bring an archived version's files back, verified; the archive keeps its copy."""
        version = self.version(actor, name, ref)
        if version.archived is None:
            return version
        place, files = Artifacts(version.archived, self._cache / "archives"), version.manifest.files
        lacking = set(self._blobs.missing(actor, [entry.sha256 for entry in files]))
        for entry in files:
            if entry.sha256 in lacking:
                self._blobs.put(actor, entry.sha256, place.iterate(actor.project_id, entry.sha256), entry.size)
        with self._database.session() as session:
            self._blobs.check(session, actor.project_id, files)
            row = _find_version(session, actor, name, version.version, lock=True)
            if row.archive_url is not None:
                row.archive_url = None
                _need(session, actor, row.id, files)
                detail = {"from": version.archived}
                audit.record(session, actor, "dataset_version.restore", f"{name}:{version.version}", detail)
        return self.version(actor, name, version.version)


def _find(session: Session, actor: Actor, name: str, *, lock: bool = False) -> tables.Dataset:
    table = tables.Dataset
    query = select(table).where(table.project_id == actor.project_id, table.name == name, table.deleted_at.is_(None))
    found = session.scalars(query.with_for_update() if lock else query).one_or_none() if is_name(name) else None
    if found is None:
        raise NotFound(f"there is no dataset {name[:100]!r}; `modelport data list` shows those there are")
    return found


def _find_version(session: Session, actor: Actor, name: str, ref: Ref, *, lock: bool = False) -> tables.DatasetVersion:
    table = tables.DatasetVersion
    query = select(table).where(table.dataset_id == _find(session, actor, name, lock=lock).id)
    text, found = LATEST if ref is None else str(ref), None
    if text == LATEST:
        found = session.scalars(query.order_by(table.number.desc()).limit(1)).one_or_none()
    elif _NUMBER.fullmatch(text):
        found = session.scalars(query.where(table.number == int(text))).one_or_none()
    if found is None:
        what = "no version" if text == LATEST else f"no version {text[:100]!r}"
        raise NotFound(f"dataset {name!r} has {what}; `modelport data list {name}` shows those there are")
    return found


def _of_job(session: Session, actor: Actor, job_id: str) -> tables.DatasetVersion | None:
    table = tables.DatasetVersion
    mine = select(table).where(table.project_id == actor.project_id, table.job_id == job_id)
    return session.scalars(mine).one_or_none()


def _insert(
    session: Session,
    actor: Actor,
    name: str,
    files: list[FileEntry],
    facts: Facts,
    parents: list[str],
    job_id: str | None,
    description: str,
) -> tables.DatasetVersion:
    now, project_id = tables.now(), actor.project_id
    dataset_id, number = take_number(session, tables.Dataset, project_id, name)
    manifest = DatasetManifest(
        **facts.model_dump(),
        dataset=name,
        version=number,
        files=files,
        size=sum(entry.size for entry in files),
        digest=digest_of(files),
        parents=parents,
        job=job_id,
        description=description,
        created_at=now,
        created_by=actor.name,
    )
    version = tables.DatasetVersion(
        project_id=project_id,
        dataset_id=dataset_id,
        number=manifest.version,
        digest=manifest.digest,
        rows=manifest.rows,
        size=manifest.size,
        manifest=as_json(manifest),
        job_id=job_id,
        created_at=now,
        created_by=actor.name,
    )
    session.add(version)
    session.flush()
    _need(session, actor, version.id, files)
    session.add_all(
        tables.DatasetParent(project_id=project_id, version_id=version.id, parent=parent) for parent in set(parents)
    )
    detail = {"digest": manifest.digest, "rows": manifest.rows, "job": job_id}
    audit.record(session, actor, "dataset_version.register", f"{name}:{manifest.version}", detail)
    return version


def _need(session: Session, actor: Actor, version_id: int, files: Sequence[FileEntry]) -> None:
    session.add_all(
        tables.DatasetBlob(project_id=actor.project_id, version_id=version_id, sha256=sha256)
        for sha256 in sorted({entry.sha256 for entry in files})
    )


def _delete_versions(session: Session, actor: Actor, versions: Sequence[tables.DatasetVersion]) -> None:
    ids = [version.id for version in versions]
    release(session, tables.DatasetBlob, actor.project_id, ids)
    for some in batched(ids):
        session.execute(delete(tables.DatasetVersion).where(tables.DatasetVersion.id.in_(some)))


def _shown(session: Session, versions: Sequence[tables.DatasetVersion]) -> list[DatasetVersion]:
    return [
        DatasetVersion(
            dataset=version.manifest["dataset"],
            version=version.number,
            digest=version.digest,
            rows=version.rows,
            size=version.size,
            archived=version.archive_url,
            created_at=version.created_at,
            created_by=version.created_by,
            manifest=DatasetManifest.model_validate(version.manifest),
        )
        for version in versions
    ]


def _dataset(session: Session, row: tables.Dataset) -> Dataset:
    version = tables.DatasetVersion
    numbers = session.execute(
        select(version.number, version.rows, version.size)
        .where(version.dataset_id == row.id)
        .order_by(version.number.desc())
    ).all()
    newest: Mapping[str, int] = dict(zip(("number", "rows", "size"), numbers[0], strict=True)) if numbers else {}
    return Dataset(
        name=row.name,
        latest_version=newest.get("number"),
        versions=len(numbers),
        rows=newest.get("rows"),
        size=newest.get("size"),
        created_at=row.created_at,
    )
