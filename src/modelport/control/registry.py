"""The registry: immutable, numbered versions of models, the aliases that move between them, and their files.

Heavy work (hashing, inspecting) is done outside database sessions; then one transaction makes it true, with its audit
row. Knows no HTTP and no deployment but by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from modelport.control import audit, resolved
from modelport.control.actors import Actor
from modelport.control.blobs import Blobs, Limits, batched, release
from modelport.control.push import (
    as_json,
    check_alias_name,
    check_push,
    check_sample,
    digest_of,
    make_manifest,
    served_signature,
)
from modelport.control.versions import (
    Ref,
    deployments_of,
    find_model,
    find_version,
    is_name,
    show_models,
    show_versions,
    take_number,
)
from modelport.engine.runtime import Inspected
from modelport.errors import Conflict, InvalidInput, NotFound
from modelport.schemas.models import (
    FileEntry,
    GcReport,
    Inspection,
    LineageNode,
    Manifest,
    Model,
    ModelVersion,
    VersionPush,
)
from modelport.storage import tables
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database
from modelport.storage.paths import check_paths

Inspect = Callable[[Path, tuple[str, ...]], Inspection | Inspected]
"""Looks at a folder and its files' paths; raises ArtifactRefused."""
AliasMoved = Callable[[Actor, str, str, int], None]
"""Gets the actor, the model, the alias and the version number that it points to now."""


class Registry:
    """Everything about models. Synchronous; safe for many threads and, on one database, many servers."""

    def __init__(self, database: Database, artifacts: Artifacts, inspect: Inspect, limits: Limits) -> None:
        self._database, self._artifacts, self._inspect, self._limits = database, artifacts, inspect, limits
        self._blobs = Blobs(database, artifacts, limits)
        self.collectors: list[Callable[[bool], tuple[int, int]]] = []
        """Collect environments (only count them when told so); each returns how many, and their bytes."""
        self.on_alias_moved: list[AliasMoved] = []
        """Called after an alias points to another version."""

    # Contents

    def missing_blobs(self, actor: Actor, hashes: Iterable[str]) -> list[str]:
        """Those of the SHA-256 hashes whose contents have to be uploaded."""
        return self._blobs.missing(actor, hashes)

    def put_blob(self, actor: Actor, sha256: str, chunks: Iterable[bytes], size: int | None = None) -> int:
        """Receive one content in constant memory; returns its size. Raises InvalidInput, TooLarge."""
        return self._blobs.put(actor, sha256, chunks, size)

    def add_file(self, actor: Actor, path: str, chunks: Iterable[bytes], size: int | None = None) -> FileEntry:
        """Receive one content whose hash nobody announced, as the file ``path`` of a version to be."""
        check_paths([path])
        return self._blobs.add(actor, path, chunks, size)

    def adopt(self, actor: Actor, path: str, file: Path) -> FileEntry:
        """Take a file of this server, which nobody may change from now on, as the file ``path`` of a version to be."""
        check_paths([path])
        return self._blobs.adopt(actor, path, file)

    def gc(self, actor: Actor, dry_run: bool = False) -> GcReport:
        """Remove the project's unused contents that are older than the grace time, and what crashes left behind."""
        report = self._blobs.collect(actor, dry_run)
        for collect in self.collectors:
            count, size = collect(dry_run)
            report.environments, report.bytes = report.environments + count, report.bytes + size
        return report

    # Versions

    def push(self, actor: Actor, name: str, push: VersionPush) -> ModelVersion:
        """Register uploaded contents as the next version; all of it or nothing.

        Raises InvalidInput, ArtifactRefused, and Conflict when a content was collected in the meantime.
        """
        found = self._examine(actor, name, push)
        make_manifest(name, 1, push, found, tables.now(), actor.name)  # refuses before the number is taken
        with self._database.session() as session:
            self._blobs.check(session, actor.project_id, push.files)
            version = _insert_version(session, actor, name, push, found)
            shown = show_versions(session, [version])[0]
        if push.alias is not None:
            self._tell(actor, name, push.alias, version.number)
        return shown

    def draft(self, actor: Actor, name: str, push: VersionPush, files: Path | None = None) -> ModelVersion:
        """The version that a push would make, with the number 0: it can be run, and is not registered.

        ``files`` is a folder with its contents, where they are not in the store.
        """
        manifest = make_manifest(name, 0, push, self._examine(actor, name, push, files), tables.now(), actor.name)
        about = manifest.model_dump(
            include={"model", "version", "digest", "format", "size", "created_at", "created_by"}
        )
        return ModelVersion(**about, manifest=manifest)

    def _examine(self, actor: Actor, name: str, push: VersionPush, folder: Path | None = None) -> Inspection:
        """What uploaded contents, or those of a folder, are; raises what is wrong with a push of them."""
        if not is_name(name):
            raise InvalidInput(f"model name {name[:40]!r}: letters, digits, '.', '_' and '-', at most 100")
        check_push(push, self._limits.max_file_bytes)
        if folder is None:
            with self._database.session() as session:
                self._blobs.check(session, actor.project_id, push.files)
            folder = self._artifacts.materialize(actor.project_id, digest_of(push.files), push.files)
        seen = self._inspect(folder, tuple(entry.path for entry in push.files))
        found = Inspection.model_validate(seen, from_attributes=True)
        check_sample(served_signature(found, push), push.sample)
        return found

    def models(self, actor: Actor, limit: int | None = None, after: str | None = None) -> list[Model]:
        """The project's models by name, beginning after the name ``after``."""
        model = tables.Model
        query = select(model).where(model.project_id == actor.project_id, model.deleted_at.is_(None))
        if after is not None:
            query = query.where(model.name > after)
        with self._database.reading() as session:
            return show_models(session, session.scalars(query.order_by(model.name).limit(limit)).all())

    def model(self, actor: Actor, name: str) -> Model:
        """One model; raises NotFound."""
        with self._database.reading() as session:
            return show_models(session, [find_model(session, actor.project_id, name)])[0]

    def versions(
        self, actor: Actor, name: str, limit: int | None = None, after: int | None = None
    ) -> list[ModelVersion]:
        """A model's versions, newest first, beginning after the number ``after``."""
        with self._database.reading() as session:
            query = select(tables.Version).where(
                tables.Version.model_id == find_model(session, actor.project_id, name).id
            )
            if after is not None:
                query = query.where(tables.Version.number < after)
            return show_versions(
                session, session.scalars(query.order_by(tables.Version.number.desc()).limit(limit)).all()
            )

    def version(self, actor: Actor, name: str, ref: Ref = None) -> ModelVersion:
        """One version by number, alias or ``latest``; raises NotFound."""
        with self._database.reading() as session:
            return show_versions(session, [find_version(session, actor.project_id, name, ref)])[0]

    def resolve(self, actor: Actor, name: str, version: int | None = None, alias: str | None = None) -> ModelVersion:
        """The version that a deployment means; the newest when it names neither. Raises NotFound, InvalidInput."""
        if version is not None and alias is not None:
            raise InvalidInput("give a version or an alias, not both: leave one out")
        return self.version(actor, name, version if alias is None else alias)

    def made_from(self, actor: Actor, parent: str) -> list[ModelVersion]:
        """The versions that name ``parent`` (``dataset:NAME:3``, ``job:ID``) among what they were made of, in order."""
        version, made = tables.Version, tables.Parent
        with self._database.reading() as session:
            query = select(version).join(made, made.version_id == version.id)
            mine = (made.project_id == actor.project_id, made.parent == parent)
            return show_versions(session, session.scalars(query.where(*mine).order_by(version.id)).all())

    def lineage(self, actor: Actor, name: str, ref: Ref = None) -> LineageNode:
        """What a version was made from, which versions were made from it, and who uses it."""
        with self._database.reading() as session:
            version = find_version(session, actor.project_id, name, ref)
            shown = show_versions(session, [version])[0]
            me = f"{shown.model}:{shown.version}"
            children = (
                select(tables.Model.name, tables.Version.number)
                .join(tables.Version, tables.Version.model_id == tables.Model.id)
                .join(tables.Parent, tables.Parent.version_id == tables.Version.id)
                .where(tables.Parent.project_id == actor.project_id, tables.Parent.parent == me)
                .order_by(tables.Model.name, tables.Version.number)
            )
            return LineageNode(
                version=me,
                parents=shown.manifest.parents,
                children=[f"{model}:{number}" for model, number in session.execute(children)],
                deployments=shown.deployed_in,
                packages=resolved.packages_of(session, actor.project_id, me),
            )

    # Names and labels

    def set_alias(self, actor: Actor, name: str, alias: str, number: int) -> None:
        """Point an alias at a version, wherever it pointed before."""
        check_alias_name(alias)
        with self._database.session() as session:
            model = find_model(session, actor.project_id, name, lock=True)
            version = find_version(session, actor.project_id, name, number)
            _set_alias(session, actor, model, alias, version)
        self._tell(actor, name, alias, number)

    def delete_alias(self, actor: Actor, name: str, alias: str) -> None:
        """Remove an alias; its version stays. Raises NotFound."""
        with self._database.session() as session:
            model = find_model(session, actor.project_id, name, lock=True)
            found = session.get(tables.Alias, (model.id, alias)) if is_name(alias) else None
            if found is None:
                raise NotFound(f"model {name!r} has no alias {alias[:100]!r}; `modelport models show` lists them")
            session.delete(found)
            audit.record(session, actor, "alias.delete", f"{name}@{alias}")

    def set_label(self, actor: Actor, name: str, ref: Ref, key: str, value: str) -> None:
        """Put a label on a version, or change it."""
        with self._database.session() as session:
            version = find_version(session, actor.project_id, name, ref)
            session.merge(tables.Label(project_id=actor.project_id, version_id=version.id, key=key, value=value))
            audit.record(session, actor, "label.set", f"{name}:{version.number}", {"key": key, "value": value})

    def delete_label(self, actor: Actor, name: str, ref: Ref, key: str) -> None:
        """Remove a label from a version; raises NotFound."""
        with self._database.session() as session:
            version = find_version(session, actor.project_id, name, ref)
            found = session.get(tables.Label, (version.id, key)) if is_name(key) else None
            if found is None:
                raise NotFound(
                    f"version {name}:{version.number} has no label {key[:100]!r}; `modelport models show` lists them"
                )
            session.delete(found)
            audit.record(session, actor, "label.delete", f"{name}:{version.number}", {"key": key})

    # Leaving

    def delete_version(self, actor: Actor, name: str, ref: Ref) -> None:
        """Delete a version. Raises Conflict while a deployment uses it or an alias points to it."""
        with self._database.session() as session:
            find_model(session, actor.project_id, name, lock=True)
            version = find_version(session, actor.project_id, name, ref)
            shown = show_versions(session, [version])[0]
            if shown.aliases:
                raise Conflict(f"{name}:{version.number} is {', '.join(shown.aliases)}; move or remove the alias first")
            _delete_versions(session, actor, name, [version])
            audit.record(session, actor, "version.delete", f"{name}:{version.number}", {"digest": version.digest})

    def delete_model(self, actor: Actor, name: str) -> None:
        """Delete a model with all versions and aliases. Raises Conflict while a deployment uses one.

        Its name can be used again, and its numbers go on: a version number never means two things.
        """
        with self._database.session() as session:
            model = find_model(session, actor.project_id, name, lock=True)
            versions = session.scalars(select(tables.Version).where(tables.Version.model_id == model.id)).all()
            session.execute(delete(tables.Alias).where(tables.Alias.model_id == model.id))
            _delete_versions(session, actor, name, versions)
            model.deleted_at = tables.now()
            audit.record(session, actor, "model.delete", name, {"versions": len(versions)})

    # Files

    def find_file(self, actor: Actor, name: str, ref: Ref, path: str) -> FileEntry:
        """One file of a version; raises NotFound."""
        shown = self.version(actor, name, ref)
        for entry in shown.manifest.files:
            if entry.path == path:
                return entry
        raise NotFound(f"version {name}:{shown.version} has no file {path[:200]!r}; its manifest lists them")

    def iterate_file(self, actor: Actor, entry: FileEntry, start: int = 0) -> Iterator[bytes]:
        """A file's content in chunks, verified when it is whole."""
        return self._artifacts.iterate(actor.project_id, entry.sha256, start)

    def materialize(self, project_id: int, version_id: int) -> Path:
        """A local read-only folder with a version's files; raises NotFound."""
        with self._database.reading() as session:
            version = session.get(tables.Version, version_id)
            if version is None or version.project_id != project_id:
                raise NotFound(f"there is no version with id {version_id}")
            manifest = Manifest.model_validate(version.manifest)
        return self._artifacts.materialize(project_id, manifest.digest, manifest.files)

    def _tell(self, actor: Actor, name: str, alias: str, number: int) -> None:
        for hook in self.on_alias_moved:
            hook(actor, name, alias, number)


def _insert_version(session: Session, actor: Actor, name: str, push: VersionPush, found: Inspection) -> tables.Version:
    now, project_id = tables.now(), actor.project_id
    model_id, number = take_number(session, tables.Model, project_id, name)
    manifest = make_manifest(name, number, push, found, now, actor.name)
    version = tables.Version(
        project_id=project_id,
        model_id=model_id,
        number=manifest.version,
        format=manifest.format,
        digest=manifest.digest,
        size=manifest.size,
        manifest=as_json(manifest),
        created_at=now,
        created_by=actor.name,
    )
    session.add(version)
    session.flush()
    own = {"project_id": project_id, "version_id": version.id}
    session.add_all(tables.VersionBlob(**own, sha256=sha256) for sha256 in {entry.sha256 for entry in push.files})
    session.add_all(tables.Parent(**own, parent=parent) for parent in set(push.parents))
    session.add_all(tables.Label(**own, key=key, value=value) for key, value in push.labels.items())
    detail = {"digest": manifest.digest, "format": manifest.format, "labels": push.labels}
    audit.record(session, actor, "version.push", f"{name}:{manifest.version}", detail)
    if push.alias is not None:
        _set_alias(session, actor, session.get_one(tables.Model, model_id), push.alias, version)
    return version


def _set_alias(session: Session, actor: Actor, model: tables.Model, alias: str, version: tables.Version) -> None:
    found = session.get(tables.Alias, (model.id, alias))
    if found is None:
        found = tables.Alias(project_id=actor.project_id, model_id=model.id, name=alias)
        session.add(found)
    detail = {"version": version.number}
    found.version_id = version.id
    session.flush()
    audit.record(session, actor, "alias.set", f"{model.name}@{alias}", detail)


def _delete_versions(session: Session, actor: Actor, name: str, versions: Sequence[tables.Version]) -> None:
    ids = [version.id for version in versions]
    using = deployments_of(session, ids, lock=True)
    if using:
        names = sorted({deployment for found in using.values() for deployment in found})
        raise Conflict(f"model {name!r} is in use by {', '.join(names)}; undeploy or move it to another version first")
    release(session, tables.VersionBlob, actor.project_id, ids)
    for some in batched(ids):
        # Revisions that are neither wished for nor serving are history, and go with what they ran.
        session.execute(delete(tables.Revision).where(tables.Revision.version_id.in_(some)))
        session.execute(delete(tables.Version).where(tables.Version.id.in_(some)))
