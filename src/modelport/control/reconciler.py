"""Brings what runs to what is wished for, after a crash too.

One loop: read the wishes, look at the fleet, start what is missing, switch callers over to what is proven, and let
go of the rest — in this order, so that an update never lowers capacity and a version that does not work never
replaces one that does. Knows no HTTP; gateways are reached through ``publish``.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from modelport import errors, plugins
from modelport.control.adapters import Told, is_adapter
from modelport.control.deployments import Deployments, Observation, Wish, Wishes
from modelport.control.engines import Engines
from modelport.control.environments import BuildFailed, Environment, Environments, name_of
from modelport.control.identity import Identity
from modelport.engine.fleet import HEARTBEAT_SOCKET, Fleet, Limits, Replica
from modelport.engine.generation import Facts
from modelport.engine.replica import Spec
from modelport.engine.routing import Cascade, ReplicaAddress, Route, RoutingTable, facts_of, features_of
from modelport.schemas.deployments import ReplicaStatus, bytes_of
from modelport.telemetry import log

_TICK_S = 1.0
_ATTEMPTS = 2
"""Replicas of a new revision that may fail before the revision does."""
_BACKOFF_S = 30.0
_BACKOFF_PROVEN_S = 0.5
_PROVEN_S = 30.0
"""A version that was ready so lately is known to work: whatever ends its replicas now, requests wait for the next."""
_HEAR_S = 2.0
_TAIL_LINES = 20


class Shown(NamedTuple):
    """What its replicas have shown when they were ready; holds while there is none, too."""

    platform: str = ""
    batching: bool = False
    streams: bool = False
    language: Facts | None = None

    @classmethod
    def of(cls, ready: Sequence[Replica]) -> Shown:
        """What these have in common."""
        return cls(
            ready[0].platform, all(r.not_batched is None for r in ready), all(r.streams for r in ready),
            facts_of([r.language for r in ready]),
        )  # fmt: skip


@dataclass(slots=True)
class Group:
    """Replicas that run the same version in the same way."""

    failures: int = 0
    """Replicas in a row that ended before they were ready."""
    restarts: int = 0
    not_before: float = 0
    """Next start, on the monotonic clock."""
    ready_at: float = -math.inf
    """When a replica was last seen ready, on the same clock."""
    reason: str | None = None
    log_tail: list[str] = field(default_factory=list)
    folder: Path | None = None
    draft: Path | None = None
    """Where the files of its draft model are."""
    runtime: str = ""
    """Where the runtime's class is."""
    environment: Environment | None = None
    """Where its replicas run, if not in the server's own."""
    preparing: asyncio.Task[None] | None = None
    shown: Shown = field(default_factory=Shown)

    @property
    def proven(self) -> bool:
        """Whether it worked a moment ago."""
        return time.monotonic() - self.ready_at < _PROVEN_S


class Reconciler:
    """The loop."""

    def __init__(
        self,
        deployments: Deployments,
        identity: Identity,
        materialize: Callable[[int, int], Path],
        publish: Callable[[RoutingTable], Awaitable[None]],
        logs: Path,
        trusted_sklearn_types: tuple[str, ...],
        environments: Environments,
        engines: Engines,
    ) -> None:
        self.fleet: Fleet
        self._deployments = deployments
        self._identity = identity
        self._materialize = materialize
        self._publish = publish
        self._logs = logs
        self._trusted = trusted_sklearn_types
        self._environments = environments
        self._engines = engines
        self._groups: dict[str, Group] = {}
        self._wishes: list[Wishes] = []
        self._stale = True
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._last: tuple[Any, ...] | None = None
        self._number = 0
        self._confirmed: frozenset[tuple[str, str, str]] = frozenset()
        """Replicas that every gateway sends callers to, by project and endpoint."""
        self._told = Told(self._wake.set)
        self._publishing = asyncio.Lock()

    # -- what others call -----------------------------------------------------------------------------------------

    def wishes_changed(self) -> None:
        """From any thread: read the wishes again."""
        self._stale = True
        self._loop.call_soon_threadsafe(self._wake.set)

    def keys_changed(self) -> None:
        """From a worker thread: returns when every gateway knows the keys as they are now."""
        asyncio.run_coroutine_threadsafe(self._publish_now(), self._loop).result(timeout=10)

    def replica_changed(self, replica: Replica) -> None:
        """By the fleet: something became ready, failed or ended."""
        if replica.state == "failed" and replica.id not in self.fleet.replicas:
            self._note_failure(replica)
        elif replica.ready and (group := self._groups.get(replica.group)) is not None:
            group.failures, group.ready_at = 0, time.monotonic()
        self._wake.set()

    def observe(self, deployment_id: int) -> Observation:
        """How a deployment is at this moment; from any thread."""
        wishes = next((w for w in self._wishes if w.deployment_id == deployment_id), None)
        seen = Observation()
        if wishes is None:
            return seen
        answering = wishes.serving or wishes.desired
        for wish in {w.group: w for w in (answering, wishes.desired)}.values():
            group = self._groups.get(_name(wishes, wish))
            for replica in self._running(wishes, wish):
                seen.replicas.append(_status(replica, wish, group))
                if replica.load and replica.ready:
                    seen.load[replica.id] = replica.load
                if replica.ready and (wishes.project, wishes.name, replica.id) in self._confirmed:
                    seen.ready += 1
                    seen.serving_version = wish.manifest.version
                    seen.batching = replica.not_batched or f"up to {wish.spec.max_batch} rows a run"
                    seen.answering_revision = wish.number
            if group is not None and group.reason:
                seen.reason, seen.log_tail = group.reason, group.log_tail
        return seen

    async def run(self) -> None:
        """For ever."""
        await self._hear_adopted()
        while True:
            self._wake.clear()
            try:
                await self._turn()
            except errors.ModelportError as error:  # the database is away: what runs goes on running
                log("reconciler_waits", error=error.message)
            try:
                await asyncio.wait_for(self._wake.wait(), _TICK_S)
            except TimeoutError:
                continue

    async def _hear_adopted(self) -> None:
        """After a restart replicas say within a heartbeat how they are; a table before that would name none of them."""
        deadline = time.monotonic() + _HEAR_S
        while any(r.memory is None for r in self.fleet.replicas.values()) and time.monotonic() < deadline:
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), 0.05)

    # -- one turn -------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        if self._stale:
            self._stale = False
            self._wishes = await asyncio.to_thread(self._deployments.wishes)
        for wishes in self._wishes:
            await self._bring_up(wishes)
        await self._publish_now()
        self._let_go()
        self._tell_bases()

    async def _bring_up(self, wishes: Wishes) -> None:
        if wishes.stopped:
            return
        desired, serving = wishes.desired, wishes.serving
        if serving is not None and (serving.number == desired.number or desired.state == "failed"):
            self._keep(wishes, serving)
            return
        if desired.state == "failed":
            return
        if serving is not None and serving.group != desired.group:
            self._keep(wishes, serving)
        self._keep(wishes, desired)
        group = self._groups[_name(wishes, desired)]
        if self._ready(wishes, desired) >= desired.spec.replicas:
            await asyncio.to_thread(self._deployments.proven, wishes.deployment_id, desired.number)
        elif group.failures >= _ATTEMPTS and (serving is None or serving.group != desired.group):
            reason = f"did not come up: {group.reason}"
            await asyncio.to_thread(
                self._deployments.failed, wishes.deployment_id, desired.number, reason, group.log_tail
            )
            del self._groups[_name(wishes, desired)]
        else:
            return
        self._stale = True
        self._wake.set()

    def _ready(self, wishes: Wishes, wish: Wish) -> int:
        return sum(replica.ready for replica in self._running(wishes, wish))

    def _running(self, wishes: Wishes, wish: Wish) -> list[Replica]:
        """The replicas of a revision; an adapter's are those of its base that hold it."""
        if not is_adapter(wish.manifest):
            return self.fleet.of(_name(wishes, wish))
        base = self._base(wishes, wish)
        if base is None:
            return []
        found = self._answering(base, base.serving or base.desired)
        return [replica for replica in found if self._told.held(replica, _name(wishes, wish))]

    def _base(self, wishes: Wishes, wish: Wish) -> Wishes | None:
        """The deployment that an adapter runs on, unless it is gone or stopped."""
        wanted = (wishes.project_id, wish.spec.base)
        return next((w for w in self._wishes if (w.project_id, w.name) == wanted and not w.stopped), None)

    def _keep(self, wishes: Wishes, wish: Wish) -> None:
        """Start what is missing of one revision."""
        name = _name(wishes, wish)
        group = self._groups.setdefault(name, Group())
        if is_adapter(wish.manifest):
            self._keep_adapter(wishes, wish, group)
            return
        alive = [r for r in self.fleet.of(name) if r.state in ("starting", "ready")]
        if len(alive) >= wish.spec.replicas or time.monotonic() < group.not_before:
            return
        if group.folder is None:
            if group.preparing is None:
                group.preparing = asyncio.create_task(self._prepare(wishes, wish, group))
            return
        for _ in range(wish.spec.replicas - len(alive)):
            self._start(name, wish, group)

    def _keep_adapter(self, wishes: Wishes, wish: Wish, group: Group) -> None:
        """Have its files here, and say why its base does not hold it; the base is told when callers have been."""
        if group.folder is None:
            if group.preparing is None and time.monotonic() >= group.not_before:
                group.preparing = asyncio.create_task(self._prepare(wishes, wish, group))
            return
        base, refused = self._base(wishes, wish), self._told.refused(_name(wishes, wish))
        if refused is not None:
            group.failures, group.reason = _ATTEMPTS, refused
        elif base is None:
            group.reason = f"its base {wish.spec.base!r} is not deployed, or stopped"
        elif not self._answering(base, base.serving or base.desired):
            group.reason = f"its base {wish.spec.base!r} has no ready replica"
        else:
            group.reason = None

    def _tell_bases(self) -> None:
        """Which adapters their replicas are to hold."""
        wanted: dict[tuple[int, str | None], dict[str, Path]] = {}
        for wishes in self._wishes:
            for wish in (wishes.serving, wishes.desired):
                if wish is None or wishes.stopped or wish.state == "failed" or not is_adapter(wish.manifest):
                    continue
                group = self._groups.get(_name(wishes, wish))
                if group is not None and group.folder is not None:
                    wanted.setdefault((wishes.project_id, wish.spec.base), {})[_name(wishes, wish)] = group.folder
        for wishes in self._wishes:
            for wish in {w.group: w for w in (wishes.serving, wishes.desired) if w is not None}.values():
                for replica in self.fleet.of(_name(wishes, wish)):
                    if replica.ready:
                        self._told.hold(replica, wanted.get((wishes.project_id, wishes.name), {}))
        self._told.forget(self.fleet.replicas)

    async def _prepare(self, wishes: Wishes, wish: Wish, group: Group) -> None:
        """The version's files, on this machine, and what runs them."""
        try:
            self._deployments.check(wish.manifest, wish.spec)
            folder = await asyncio.to_thread(self._materialize, wishes.project_id, wish.version_id)
            if wish.draft is not None:
                group.draft = await asyncio.to_thread(self._materialize, wishes.project_id, wish.draft[0])
            if not is_adapter(wish.manifest):
                group.runtime = plugins.reference("runtimes", wish.runtime)
                group.environment = await self._environment(wishes, wish, group)
            group.folder = folder
        except Exception as error:
            message = error.message if isinstance(error, errors.ModelportError) else type(error).__name__
            group.failures += 1
            group.reason = f"it could not be prepared: {message}"
            group.not_before = time.monotonic() + _backoff(group.failures)
        finally:
            group.preparing = None
            self._wake.set()

    async def _environment(self, wishes: Wishes, wish: Wish, group: Group) -> Environment | None:
        """Where a version with requirements runs; built first, which callers see."""
        if (python := self._engines.python(wish.runtime)) is not None:
            return self._environments.given(python)
        requirements = self._requirements(wish)
        if requirements is None:
            return None
        log_file = self._logs / f"replica-{_name(wishes, wish)}-environment.log"
        group.reason, group.log_tail = f"building its environment: {', '.join(requirements)}"[:500], []
        try:
            made = await self._environments.ensure(requirements, log_file)
        except BuildFailed:
            group.log_tail = tail(log_file, _TAIL_LINES)
            raise
        group.reason = None
        if "requirements" in wish.manifest.details:
            await asyncio.to_thread(self._deployments.resolved, wishes, wish, made.packages)
        return made

    def _requirements(self, wish: Wish) -> list[str] | None:
        """Of an environment of its own: the version's, or those of the engine that runs it."""
        declared: list[str] | None = wish.manifest.details.get("requirements")
        return self._engines.requirements(wish.runtime) if declared is None else declared

    def environments_in_use(self) -> set[str]:
        """The names of those that a wish or a running replica needs; from any thread."""
        wishes = [wish for w in self._deployments.wishes() for wish in (w.desired, w.serving) if wish is not None]
        wished = {name_of(r) for w in wishes if (r := self._requirements(w)) is not None}
        return wished | {group.environment.name for group in list(self._groups.values()) if group.environment}

    def _start(self, name: str, wish: Wish, group: Group) -> None:
        manifest, spec = wish.manifest, wish.spec
        key = secrets.token_hex(4)
        environment = group.environment
        self.fleet.start(
            Spec(
                id=f"{name}-{key}", socket=f"r-{key}.sock", heartbeat=HEARTBEAT_SOCKET,
                runtime=group.runtime, folder=str(group.folder), files=[f.path for f in manifest.files],
                signature=manifest.signature.to_json(), labels=manifest.labels, threads=spec.threads,
                sample=manifest.sample, memory=bytes_of(spec.memory), trusted_sklearn_types=self._trusted,
                details={key: fact for key, fact in manifest.details.items() if key != "requirements"},
                engine=spec.engine.asked, draft=_draft(wish, group.draft),
                preprocessing=[step.model_dump() for step in manifest.preprocessing],
                model_signature=manifest.model_signature.to_json() if manifest.model_signature else None,
            ),
            name,
            Limits(spec.timeout_s, spec.start_timeout_s),
            {**self._engines.variables(wish.runtime), **spec.env, **(environment.variables if environment else {})},
            environment.python if environment is not None else None,
        )  # fmt: skip

    def _note_failure(self, replica: Replica) -> None:
        group = self._groups.get(replica.group)
        if group is None:
            return
        group.restarts += 1
        log("replica_ended", replica=replica.id, pid=replica.pid, reason=replica.reason, restarts=group.restarts)
        if not replica.was_ready:
            group.failures += 1
        group.reason = replica.reason
        group.log_tail = tail(self._logs / f"{replica.log}.log", _TAIL_LINES)
        now = time.monotonic()
        if replica.was_ready:
            group.ready_at = now
        group.not_before = now + min(_backoff(group.failures), _BACKOFF_PROVEN_S if group.proven else _BACKOFF_S)

    # -- gateways -------------------------------------------------------------------------------------------------

    async def _publish_now(self) -> None:
        """Tell every gateway, and return when all of them act on it. Nothing is sent when nothing has changed."""
        async with self._publishing:
            routes = tuple(route for wishes in self._wishes if (route := self._route(wishes)) is not None)
            keys, required = await asyncio.to_thread(lambda: (self._identity.entries(), self._identity.required))
            content = (routes, keys, required)
            if content == self._last:
                return
            self._number = max(self._number + 1, int(time.time() * 1000))  # grows across restarts
            await self._publish(RoutingTable(self._number, routes, keys, required))
            self._last = content
            self._confirmed = frozenset((route.project, route.name, r.id) for route in routes for r in route.replicas)

    def _route(self, wishes: Wishes) -> Route | None:
        wish, stopped = wishes.serving or wishes.desired, wishes.stopped
        group = self._groups.get(_name(wishes, wish))
        ready = [] if stopped else self._answering(wishes, wish)
        shown = group.shown if group is not None else Shown()
        if ready:
            shown = Shown.of(ready)
            if group is not None:
                group.shown = shown
        manifest, spec, signature, adapter = wish.manifest, wish.spec, wish.manifest.signature, None
        if is_adapter(manifest):
            adapter, base = _name(wishes, wish), self._base(wishes, wish)
            if base is None:
                return None
            signature = (base.serving or base.desired).manifest.signature
        crashing = group is not None and group.failures > _ATTEMPTS and not group.proven
        return Route(
            project=wishes.project, name=wishes.name, model=manifest.model, version=manifest.version,
            platform=shown.platform, signature=signature, adapter=adapter,
            replicas=tuple(ReplicaAddress(r.id, r.socket) for r in ready), labels=manifest.labels, alias=wishes.alias,
            batching=shown.batching, max_batch=spec.max_batch,
            max_delay_ms=spec.max_delay_ms, timeout_s=spec.timeout_s, cache_bytes=bytes_of(spec.cache) or 0,
            recovering=not (ready or stopped or crashing) and wishes.serving is not None and spec.replicas > 0,
            asleep=spec.replicas == 0 and not stopped, stopped=stopped, streams=shown.streams,
            features=features_of(manifest.details), language=shown.language, fallback=tuple(spec.fallback),
            cascade=msgspec.convert(spec.cascade.model_dump(), Cascade) if spec.cascade is not None else None,
        )  # fmt: skip

    def _answering(self, wishes: Wishes, wish: Wish) -> list[Replica]:
        ready = [r for r in self._running(wishes, wish) if r.ready]
        if is_adapter(wish.manifest):
            return ready
        wanted = wish.spec.replicas
        if wishes.desired.group == wish.group and wishes.desired.state != "failed":
            wanted = wishes.desired.spec.replicas  # only the number changes: callers may use them at once
        return ready[:wanted]

    def _let_go(self) -> None:
        """Stop what nobody is sent to any more: the gateways have confirmed it."""
        wanted: dict[str, int] = {}
        for wishes in self._wishes:
            if wishes.stopped:
                continue
            for wish in (wishes.serving, wishes.desired):
                if wish is not None and wish.state != "failed":
                    wanted[_name(wishes, wish)] = wish.spec.replicas
        for name in {replica.group for replica in self.fleet.replicas.values()}:
            alive = [r for r in self.fleet.of(name) if r.state in ("starting", "ready")]
            alive.sort(key=lambda r: r.state != "ready")  # the ready ones stay
            for replica in alive[wanted.get(name, 0) :]:
                self.fleet.stop(replica)
        for name in [name for name in self._groups if name not in wanted]:
            if not self.fleet.of(name) and self._groups[name].preparing is None:
                del self._groups[name]


def _draft(wish: Wish, folder: Path | None) -> dict[str, Any] | None:
    """What a replica is told of its draft model."""
    if wish.draft is None:
        return None
    manifest = wish.draft[1]
    return {"folder": str(folder), "files": [file.path for file in manifest.files], "details": manifest.details}


def _name(wishes: Wishes, wish: Wish) -> str:
    return f"{wishes.deployment_id}-{wish.group}"


def _backoff(failures: int) -> float:
    """Seconds until the next start."""
    return 0.0 if failures <= 1 else min(_BACKOFF_S, 0.5 * 2 ** (failures - 2))


def _status(replica: Replica, wish: Wish, group: Group | None) -> ReplicaStatus:
    return ReplicaStatus(
        id=replica.id,
        state=replica.state,
        pid=replica.pid,
        revision=wish.number,
        restarts=group.restarts if group is not None else 0,
        memory_mb=round(replica.memory / 1e6, 1) if replica.memory else None,
        uptime_s=round(time.monotonic() - replica.started, 1),
    )


def tail(file: Path, lines: int) -> list[str]:
    """The last lines of a log."""
    try:
        with file.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 65_536))
            return [line.decode(errors="replace")[:2000] for line in log.read().splitlines()[-lines:]]
    except OSError:
        return []
