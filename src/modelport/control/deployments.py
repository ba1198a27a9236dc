"""Deployments: the wishes, their revisions, and how they are shown.

Every change of a wish is a new revision; what became of a revision is recorded beside it. What runs at the moment is
asked of the reconciler. Knows no process and no traffic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from modelport import plugins
from modelport.control import audit, resolved, stand_ins
from modelport.control.actors import Actor
from modelport.control.adapters import on_its_base
from modelport.control.drafts import check_draft, parts_of
from modelport.control.machine import gpu_count
from modelport.control.versions import find_version
from modelport.errors import Conflict, InvalidInput, NotFound
from modelport.schemas.deployments import Deployment, DeploymentApply, DeploymentSpec, ReplicaStatus
from modelport.schemas.models import Manifest
from modelport.storage import tables
from modelport.storage.database import Database

_NOT_OF_A_REPLICA = {"replicas", "max_batch", "max_delay_ms", "cache", "fallback", "cascade"}


@dataclass(frozen=True, slots=True)
class Wish:
    """One revision, with all that is needed to run it."""

    number: int
    version_id: int
    spec: DeploymentSpec
    manifest: Manifest
    state: str
    draft: tuple[int, Manifest] | None = None
    """Of the version that writes ahead: its id and what it is."""

    @property
    def runtime(self) -> str:
        """Name of what runs it."""
        return self.spec.runtime or self.manifest.runtime

    @property
    def group(self) -> str:
        """Equal for revisions that differ only in what gateways do and in how many replicas there are."""
        content = json.dumps([self.version_id, self.spec.model_dump(exclude=_NOT_OF_A_REPLICA)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Wishes:
    """One deployment as the reconciler sees it."""

    deployment_id: int
    project_id: int
    project: str
    name: str
    alias: str | None
    stopped: bool
    desired: Wish
    serving: Wish | None


@dataclass(slots=True)
class Observation:
    """What the reconciler sees of one deployment."""

    replicas: list[ReplicaStatus] = field(default_factory=list)
    ready: int = 0
    """Ready replicas that answer callers."""
    serving_version: int | None = None
    answering_revision: int | None = None
    """The revision that callers reach; it lags behind the proven one until every gateway has confirmed."""
    reason: str | None = None
    log_tail: list[str] = field(default_factory=list)
    batching: str | None = None
    load: dict[str, dict[str, float]] = field(default_factory=dict)
    """What the replicas of a language model say, by their ids: see ``fleet.Replica``."""


class Deployments:
    """The service of the noun."""

    def __init__(self, database: Database, resolve: Callable[..., Any]) -> None:
        self._database = database
        self._resolve = resolve
        self.on_change: list[Callable[[], None]] = []
        self.observe: Callable[[int], Observation] = lambda _: Observation()
        self.check: Callable[[Manifest, DeploymentSpec], None] = lambda _, __: None
        """Raises when this server does not run such a version in such a way."""

    # -- what callers ask -----------------------------------------------------------------------------------------

    def apply(self, actor: Actor, name: str, wish: DeploymentApply) -> Deployment:
        """Wish for a version; the same wish again changes nothing, unless it failed the last time."""
        _check(wish)
        target = self._resolve(actor, wish.model, version=wish.version, alias=wish.alias)
        self.check(target.manifest, wish.spec)
        with self._database.session() as session:
            version = _version(session, actor.project_id, wish.model, target.version)
            row = _find(session, actor, name)
            if row is None:
                row = tables.Deployment(
                    project_id=actor.project_id, name=name, model=wish.model, desired_revision=0, stopped=False
                )
                session.add(row)
                session.flush()
            elif row.model != wish.model:
                raise Conflict(
                    f"deployment {name!r} serves model {row.model!r}; delete it first, or choose another name"
                )
            _check_others(session, row, wish.spec, target.manifest)
            row.alias, row.follow = wish.alias, wish.follow
            spec = on_its_base(_with_defaults(wish.spec, target.manifest), target.manifest, _deployed(session, row))
            spec = _with_draft(session, actor.project_id, spec, target.manifest)
            self._revise(session, row, version.id, spec)
            audit.record(
                session, actor, "deployment.apply", name,
                {"model": wish.model, "version": target.version, "revision": row.desired_revision}
                | ({"draft": spec.draft} if spec.draft is not None else {}),
            )  # fmt: skip
        self._changed()
        return self.get(actor, name)

    def _revise(self, session: Session, row: tables.Deployment, version_id: int, spec: DeploymentSpec) -> None:
        if spec.draft is not None:  # of an earlier revision it may be gone
            find_version(session, row.project_id, *parts_of(spec.draft))
        plain = spec.model_dump(mode="json")
        present = _revision(session, row, row.desired_revision) if row.desired_revision else None
        same = present is not None and present.version_id == version_id and present.spec == plain
        row.stopped, row.updated_at = False, tables.now()
        if same and present is not None and present.state != "failed":
            return
        row.desired_revision += 1
        session.add(
            tables.Revision(
                project_id=row.project_id, deployment_id=row.id, number=row.desired_revision, version_id=version_id,
                spec=plain, state="pending", log_tail=[],
            )
        )  # fmt: skip

    def all(self, actor: Actor) -> list[Deployment]:
        """All of the actor's project, by name."""
        with self._database.reading() as session:
            query = select(tables.Deployment).where(tables.Deployment.project_id == actor.project_id)
            return [self._shape(session, row) for row in session.scalars(query.order_by(tables.Deployment.name))]

    def get(self, actor: Actor, name: str) -> Deployment:
        """One; raises NotFound."""
        with self._database.reading() as session:
            return self._shape(session, _require(session, actor, name))

    def identify(self, actor: Actor, name: str) -> int:
        """The id of one, which names its replicas' logs."""
        with self._database.reading() as session:
            return _require(session, actor, name).id

    def delete(self, actor: Actor, name: str) -> None:
        """Take it away; its replicas finish what they have."""
        with self._database.session() as session:
            session.delete(_require(session, actor, name))
            audit.record(session, actor, "deployment.delete", name)
        self._changed()

    def set_stopped(self, actor: Actor, name: str, stopped: bool) -> Deployment:
        """End its replicas but keep the wish, or start them again."""
        with self._database.session() as session:
            row = _require(session, actor, name)
            row.stopped, row.updated_at = stopped, tables.now()
            audit.record(session, actor, "deployment.stop" if stopped else "deployment.start", name)
        self._changed()
        return self.get(actor, name)

    def rollback(self, actor: Actor, name: str) -> Deployment:
        """Wish for the last proven revision before the desired one again."""
        with self._database.session() as session:
            row = _require(session, actor, name)
            earlier = session.scalars(
                select(tables.Revision)
                .where(
                    tables.Revision.deployment_id == row.id,
                    tables.Revision.state == "proven",
                    tables.Revision.number < row.desired_revision,
                )
                .order_by(tables.Revision.number.desc())
            ).first()
            if earlier is None:
                raise Conflict(f"deployment {name!r} has no earlier revision that worked")
            row.alias, row.follow = None, False
            self._revise(session, row, earlier.version_id, DeploymentSpec(**earlier.spec))
            audit.record(session, actor, "deployment.rollback", name, {"to": earlier.number})
        self._changed()
        return self.get(actor, name)

    def alias_moved(self, actor: Actor, model: str, alias: str, version: int) -> None:
        """Deployments that follow the alias wish for its new version."""
        with self._database.session() as session:
            query = select(tables.Deployment).where(
                tables.Deployment.project_id == actor.project_id,
                tables.Deployment.model == model,
                tables.Deployment.alias == alias,
                tables.Deployment.follow,
            )
            for row in session.scalars(query):
                present = _revision(session, row, row.desired_revision)
                target = _version(session, actor.project_id, model, version)
                was_stopped = row.stopped
                self._revise(session, row, target.id, DeploymentSpec(**present.spec))
                row.stopped = was_stopped
                audit.record(session, actor, "deployment.follow", row.name, {"alias": alias, "version": version})
        self._changed()

    # -- what the reconciler asks and says ------------------------------------------------------------------------

    def wishes(self) -> list[Wishes]:
        """Every deployment of every project."""
        with self._database.reading() as session:
            query = select(tables.Deployment, tables.Project.name).join(
                tables.Project, tables.Project.id == tables.Deployment.project_id
            )
            return [
                Wishes(
                    row.id, row.project_id, project, row.name, row.alias, row.stopped,
                    _wish(session, row, row.desired_revision),
                    _wish(session, row, row.serving_revision) if row.serving_revision else None,
                )
                for row, project in session.execute(query)
            ]  # fmt: skip

    def proven(self, deployment_id: int, number: int) -> None:
        """This revision answers from now on."""
        with self._database.session() as session:
            row = session.get(tables.Deployment, deployment_id)
            if row is not None:
                row.serving_revision = number
                _revision(session, row, number).state = "proven"

    def resolved(self, wishes: Wishes, wish: Wish, packages: list[str]) -> None:
        """A version's requirements came to these packages."""
        version = f"{wish.manifest.model}:{wish.manifest.version}"
        resolved.record(self._database, wishes.project_id, wishes.project, version, packages)

    def failed(self, deployment_id: int, number: int, message: str, log_tail: list[str]) -> None:
        """This revision could not be brought up; what served before goes on."""
        with self._database.session() as session:
            row = session.get(tables.Deployment, deployment_id)
            if row is not None:
                revision = _revision(session, row, number)
                revision.state, revision.message, revision.log_tail = "failed", message, log_tail

    def _changed(self) -> None:
        for hook in self.on_change:
            hook()

    def _shape(self, session: Session, row: tables.Deployment) -> Deployment:
        desired = _wish(session, row, row.desired_revision)
        revision = _revision(session, row, row.desired_revision)
        seen = self.observe(row.id)
        state, reason, tail = _state(row, revision, seen, desired.spec)
        return Deployment(
            name=row.name, model=row.model, version=desired.manifest.version, serving_version=seen.serving_version,
            alias=row.alias, follow=row.follow, revision=row.desired_revision, serving_revision=row.serving_revision,
            state=state, reason=reason, log_tail=tail, replicas_ready=seen.ready, spec=desired.spec,
            replicas=seen.replicas, batching=seen.batching, created_at=row.created_at, updated_at=row.updated_at,
        )  # fmt: skip


def _state(
    row: tables.Deployment, revision: tables.Revision, seen: Observation, spec: DeploymentSpec
) -> tuple[Any, str | None, list[str]]:
    """The state in one word, why in one line, and the lines that a failed replica wrote."""
    if row.stopped:
        return "stopped", "stopped on purpose; `modelport deployments start` starts it", []
    if revision.state == "failed":
        goes_on = "" if row.serving_revision is None else f"; revision {row.serving_revision} keeps serving"
        return "failed", f"revision {revision.number} {revision.message}{goes_on}", revision.log_tail
    if revision.state == "pending":
        return ("starting" if row.serving_revision is None else "updating"), seen.reason, seen.log_tail
    wanted = spec.replicas
    if seen.answering_revision not in (None, revision.number):
        return "updating", None, []
    if seen.ready > wanted and spec.base is None:  # gateways still send to those that are to go; an adapter has none
        return "updating", None, []
    if seen.ready == 0 and wanted and seen.reason is None:
        return "starting", None, []
    if seen.ready < wanted:
        return "degraded", seen.reason or f"{seen.ready} of {wanted} replicas are ready", seen.log_tail
    return "ready", None, []


def _with_defaults(spec: DeploymentSpec, manifest: Manifest) -> DeploymentSpec:
    """The spec, with the batch size that the version came with where the wish names none."""
    declared = manifest.details.get("max_batch")
    if not isinstance(declared, int) or "max_batch" in spec.model_fields_set:
        return spec
    return DeploymentSpec.model_validate({**spec.model_dump(), "max_batch": min(max(declared, 1), 65_536)})


def _with_draft(session: Session, project_id: int, spec: DeploymentSpec, manifest: Manifest) -> DeploymentSpec:
    """The spec, with the version of its draft model; raises InvalidInput, NotFound."""
    if spec.draft is None:
        return spec
    draft = Manifest.model_validate(find_version(session, project_id, *parts_of(spec.draft)).manifest)
    check_draft(spec.runtime or manifest.runtime, manifest, draft)
    return spec.model_copy(update={"draft": f"{draft.model}:{draft.version}"})


def _check(wish: DeploymentApply) -> None:
    if wish.version is not None and wish.alias is not None:
        raise InvalidInput("give a version or an alias, not both: leave one out")
    if wish.follow and wish.alias is None:
        raise InvalidInput("follow needs an alias to follow: NAME@alias")
    if wish.spec.runtime is not None and wish.spec.runtime not in plugins.names("runtimes"):
        known = ", ".join(plugins.names("runtimes"))
        raise InvalidInput(f"spec.runtime: no runtime {wish.spec.runtime!r} is installed; there are {known}")
    gpus = gpu_count()
    if wish.spec.gpu > gpus:
        raise InvalidInput(f"spec.gpu: {wish.spec.gpu} asked, this machine has {gpus}")


def _check_others(session: Session, row: tables.Deployment, spec: DeploymentSpec, manifest: Manifest) -> None:
    """Raises InvalidInput for other endpoints that cannot stand in for this one."""
    if not stand_ins.named(spec):
        return
    query = select(tables.Deployment).where(
        tables.Deployment.project_id == row.project_id, tables.Deployment.desired_revision > 0
    )
    known = {each.name: _wish(session, each, each.desired_revision) for each in session.scalars(query)}
    stand_ins.check(row.name, spec, manifest, {name: (wish.spec, wish.manifest) for name, wish in known.items()})


def _deployed(session: Session, but: tables.Deployment) -> dict[str, tuple[DeploymentSpec, Manifest]]:
    """What the project's other deployments are wished to serve, and how, by name."""
    query = select(tables.Deployment).where(
        tables.Deployment.project_id == but.project_id, tables.Deployment.id != but.id
    )
    wished = {row.name: _wish(session, row, row.desired_revision) for row in session.scalars(query)}
    return {name: (wish.spec, wish.manifest) for name, wish in wished.items()}


def _find(session: Session, actor: Actor, name: str) -> tables.Deployment | None:
    query = select(tables.Deployment).where(
        tables.Deployment.project_id == actor.project_id, tables.Deployment.name == name
    )
    return session.scalars(query).one_or_none()


def _require(session: Session, actor: Actor, name: str) -> tables.Deployment:
    row = _find(session, actor, name)
    if row is None:
        raise NotFound(f"there is no deployment {name[:100]!r}")
    return row


def _revision(session: Session, row: tables.Deployment, number: int) -> tables.Revision:
    query = select(tables.Revision).where(tables.Revision.deployment_id == row.id, tables.Revision.number == number)
    return session.scalars(query).one()


def _version(session: Session, project_id: int, model: str, number: int) -> tables.Version:
    query = (
        select(tables.Version)
        .join(tables.Model, tables.Model.id == tables.Version.model_id)
        .where(tables.Version.project_id == project_id, tables.Model.name == model, tables.Version.number == number)
    )
    found = session.scalars(query).one_or_none()
    if found is None:
        raise NotFound(f"there is no version {number} of model {model!r}")
    return found


def _wish(session: Session, row: tables.Deployment, number: int) -> Wish:
    revision = _revision(session, row, number)
    version = session.get_one(tables.Version, revision.version_id)
    spec = DeploymentSpec(**revision.spec)
    draft = find_version(session, row.project_id, *parts_of(spec.draft)) if spec.draft is not None else None
    return Wish(
        number, version.id, spec, Manifest.model_validate(version.manifest), revision.state,
        (draft.id, Manifest.model_validate(draft.manifest)) if draft is not None else None,
    )  # fmt: skip
