"""One version on so many replicas of this process's own: started, replaced when they end, told to whoever sends.

``modelport serve`` and batch inference run a model so, without control. Knows processes and routes; knows no registry
and no caller.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from modelport import plugins
from modelport.engine.fleet import HEARTBEAT_SOCKET, Fleet, Limits, Replica
from modelport.engine.generation import Facts
from modelport.engine.placement.early import Early
from modelport.engine.placement.ports import CannotStart
from modelport.engine.placement.process import replica_environment, spawn
from modelport.engine.replica import Spec
from modelport.engine.routing import ReplicaAddress, Route, facts_of, features_of
from modelport.engine.runtime import Inspected

_GROUP = "local"
_BACKOFF_S = 1.0
_REAP_S = 0.05
_GRACE_S = 10.0


@dataclass(slots=True)
class LocalModel:
    """What is run: the files, and what is known of them."""

    folder: Path
    files: tuple[str, ...]
    found: Inspected
    version: int = 1
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    model_signature: dict[str, Any] | None = None


@dataclass(slots=True)
class Running:
    """How it is run."""

    name: str
    replicas: int = 1
    threads: int = 1
    max_batch: int = 32
    max_delay_ms: float = 0
    limits: Limits = field(default_factory=Limits)
    trusted_sklearn_types: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    python: str | None = None
    """Interpreter of the replicas, where it is not this one."""
    runtime: str | None = None
    """Where it is not the one of the format."""
    engine: Mapping[str, Any] = field(default_factory=dict)
    """What is asked of a language model's engine."""
    memory: int | None = None
    """Most bytes of one replica."""
    cache_bytes: int = 0
    """Of answers that are kept for equal inputs."""


class _Children:
    """The launcher of a tree whose root is this process."""

    def __init__(self, folder: Path, early: Early | None, log: IO[bytes]) -> None:
        self._folder, self._early, self._log = folder, early, log
        self._running: dict[str, Any] = {}
        self.fleet: Fleet | None = None

    def start(self, process_id: str, argv: list[str], env: Mapping[str, str], log: str, about: Any) -> None:
        early, self._early = self._early, None
        if early is not None and early.fits(argv, env):
            self._running[process_id] = early.process
            return
        if early is not None:
            early.process.kill()
            early.process.wait()
        whole = {**replica_environment(), **env}
        self._running[process_id] = spawn(argv, cwd=self._folder, log=self._log, env=whole)

    def stop(self, process_id: str, signum: int) -> None:
        process = self._running.get(process_id)
        if process is not None and process.poll() is None:
            process.send_signal(signum)

    async def reap(self) -> None:
        """For ever. By asking, because uvloop keeps the signal of a child's end to itself."""
        assert self.fleet is not None
        while True:
            for process_id, process in list(self._running.items()):
                if process.poll() is not None:
                    del self._running[process_id]
                    self.fleet.exited(process_id, process.returncode)
            await asyncio.sleep(_REAP_S)

    def end(self, signum: int) -> None:
        if self._early is not None:
            self._early.process.kill()
            self._early.process.wait()
        for process in self._running.values():
            process.send_signal(signum)
        deadline = time.monotonic() + _GRACE_S
        for process in self._running.values():
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.wait()


class LocalReplicas:
    """The replicas of one model. ``publish`` is told a new route whenever who answers has changed.

    The working folder of this process has to be ``folder``: sockets have relative names.
    """

    def __init__(
        self,
        folder: Path,
        publish: Callable[[int, Route], Awaitable[None]],
        early: Early | None = None,
        log: IO[bytes] | None = None,
    ) -> None:
        self._children = _Children(folder, early, log or sys.stderr.buffer)
        self.fleet = self._children.fleet = Fleet(self._children, self._changed)
        self._folder, self._publish = folder, publish
        self._number = self._started = self._failures = 0
        self._shown: tuple[str, bool, bool, Facts | None] = ("", False, False, None)
        """Platform, whether rows may share a run, whether answers come in parts, and what a language model says of
        itself: as its replicas last were."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()
        self._reaping: asyncio.Task[None] | None = None
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when callers are answered; raises CannotStart when the model cannot be run at all."""

    async def open(self) -> None:
        """Be ready to start replicas."""
        self._reaping = asyncio.create_task(self._children.reap())
        await self.fleet.open(self._folder)

    def run(self, model: LocalModel, how: Running) -> None:
        """Start them; each that ends is replaced from now on."""
        self._model, self._how = model, how
        for _ in range(how.replicas):
            self._start_one()

    @property
    def replicas(self) -> list[Replica]:
        """Those that run now."""
        return self.fleet.of(_GROUP)

    @property
    def restarts(self) -> int:
        """Replicas that were replaced."""
        return max(0, self._started - self._how.replicas)

    def close(self, signum: int = signal.SIGTERM) -> None:
        """End them all; told by SIGTERM they finish what they have."""
        if self._reaping is not None:
            self._reaping.cancel()
        self._children.end(signum)

    def _start_one(self) -> None:
        self._started += 1
        model, how, found = self._model, self._how, self._model.found
        spec = Spec(
            id=f"{self._started}", socket=f"r-{self._started}.sock", heartbeat=HEARTBEAT_SOCKET,
            runtime=plugins.reference("runtimes", how.runtime or found.runtime), memory=how.memory,
            folder=str(model.folder), files=list(model.files), signature=found.signature.to_json(),
            labels=found.labels, preprocessing=model.preprocessing, model_signature=model.model_signature,
            threads=how.threads, trusted_sklearn_types=how.trusted_sklearn_types, sample=found.sample,
            details={key: fact for key, fact in found.details.items() if key != "requirements"},
            engine=dict(how.engine),
        )  # fmt: skip
        self.fleet.start(spec, _GROUP, how.limits, how.env, how.python)

    def _changed(self, replica: Replica) -> None:
        if replica.ready:
            self._failures = 0
        elif replica.state == "failed" and replica.id not in self.fleet.replicas:
            self._failures += 1
            if not self.first_ready.done():
                self.first_ready.set_exception(CannotStart(f"the model does not load: {replica.reason}"))
                return
            sys.stderr.write(f"modelport: a replica is replaced: {replica.reason}\n")
            delay = 0.0 if self._failures < 3 else min(30.0, _BACKOFF_S * self._failures)
            asyncio.get_running_loop().call_later(delay, self._start_one)
        task = asyncio.ensure_future(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._lock:
            ready = [r for r in self.replicas if r.ready]
            self._number += 1
            if ready:
                self._shown = (
                    ready[0].platform, all(r.not_batched is None for r in ready), all(r.streams for r in ready),
                    facts_of([r.language for r in ready]),
                )  # fmt: skip
            if ready or self.first_ready.done():
                await self._publish(self._number, self._route(ready))
            if ready and not self.first_ready.done():
                self.first_ready.set_result(None)

    def _route(self, ready: list[Replica]) -> Route:
        how, found = self._how, self._model.found
        platform, batching, streams, language = self._shown
        return Route(
            project="default", name=how.name, model=how.name, version=self._model.version,
            platform=platform, signature=found.signature, labels=found.labels,
            replicas=tuple(ReplicaAddress(r.id, r.socket) for r in ready), recovering=not ready,
            batching=batching, max_batch=how.max_batch, max_delay_ms=how.max_delay_ms,
            timeout_s=how.limits.run_s, streams=streams, features=features_of(found.details),
            language=language, cache_bytes=how.cache_bytes,
        )  # fmt: skip
