"""The replicas that run, by what they say of themselves: starting, ready, draining, failed, hung, gone.

Whoever decides (control, or ``modelport serve``) asks here for replicas and hears of every change. A replica whose
heartbeat is missing, whose run takes longer than its limit, or that does not become ready in time, is killed. Knows
processes and heartbeats; knows no version, no deployment and no traffic.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from modelport.engine.placement.process import replica_argv, thread_variables
from modelport.engine.replica import Spec
from modelport.engine.running import mark_of

HEARTBEAT_SOCKET = "heartbeat.sock"
_SILENT_S = 5.0
_TICK_S = 0.5
_DRAIN_S = 60.0


class Launcher(Protocol):
    """What starts and signals processes; ``Fleet.exited`` is told of their ends."""

    def start(self, process_id: str, argv: list[str], env: Mapping[str, str], log: str, about: Any) -> None:
        """Start one; ``about`` is handed to ``Fleet.adopt`` after a restart of the asker."""

    def stop(self, process_id: str, signum: int) -> None:
        """Send a signal; unknown ids are ignored."""


@dataclass(slots=True)
class Limits:
    """How long things may take, in seconds."""

    run_s: float = 60
    start_s: float = 120


@dataclass(slots=True)
class Replica:
    """One process, as it was last heard of."""

    id: str
    group: str
    """Whose it is: all replicas of one revision of one deployment have the same."""
    socket: str
    log: str
    limits: Limits
    state: str = "starting"
    reason: str | None = None
    """Why it failed, in one line."""
    pid: int | None = None
    memory: int | None = None
    """Resident bytes."""
    not_batched: str | None = None
    platform: str = ""
    streams: bool = False
    language: dict[str, Any] | None = None
    """Of a model that writes texts: its ``generation.Facts`` as JSON."""
    load: dict[str, float] = field(default_factory=dict)
    """Of the same: texts under way and waiting, the share of the cache that is used."""
    was_ready: bool = False
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    stopped: float | None = None

    @property
    def ready(self) -> bool:
        """Whether it is loaded and proven, and has not been asked to go."""
        return self.state == "ready"


class Fleet:
    """All replicas of one machine."""

    def __init__(self, launcher: Launcher, on_change: Callable[[Replica], None]) -> None:
        self.replicas: dict[str, Replica] = {}
        self._launcher = launcher
        self._on_change = on_change
        self._tick = time.monotonic()

    async def open(self, folder: Path) -> None:
        """Listen for heartbeats in the run folder, and watch."""
        path = folder / HEARTBEAT_SOCKET
        path.unlink(missing_ok=True)
        # relative, because the path of a Unix socket may hold only about a hundred bytes
        self._server = await asyncio.start_unix_server(self._hear, HEARTBEAT_SOCKET)
        self._watching = asyncio.create_task(self._watch())

    def of(self, group: str) -> list[Replica]:
        """The replicas of one group that still run, oldest first."""
        return [replica for replica in self.replicas.values() if replica.group == group]

    def start(
        self, spec: Spec, group: str, limits: Limits, env: Mapping[str, str], python: str | None = None
    ) -> Replica:
        """Ask for one more replica, in this interpreter or in another one."""
        replica = Replica(spec.id, group, spec.socket, f"replica-{spec.id}", limits)
        self.replicas[spec.id] = replica
        env = {**thread_variables(spec.threads), **env}
        about = {"group": group, "socket": spec.socket, "limits": asdict(limits)}
        told = _spec_file(spec.socket)  # labels and samples outgrow a command line
        being_written = told.with_suffix(".part")
        being_written.write_text(json.dumps(asdict(spec)))
        being_written.rename(told)
        self._launcher.start(spec.id, replica_argv(str(told), python), env, replica.log, about)
        return replica

    def adopt(self, replica_id: str, pid: int, about: dict[str, Any]) -> None:
        """A replica that outlived the one who asked for it: it will say how it is."""
        replica = Replica(
            replica_id, about["group"], about["socket"], f"replica-{replica_id}", Limits(**about["limits"])
        )
        replica.pid = pid
        self.replicas[replica_id] = replica

    def stop(self, replica: Replica) -> None:
        """Let it finish what it has: it ends when the last gateway has hung up."""
        if replica.stopped is None:
            replica.stopped = time.monotonic()
            replica.state = "draining"
            self._launcher.stop(replica.id, signal.SIGTERM)

    def kill(self, replica: Replica, reason: str) -> None:
        """End it now; what it was running is sent to another one."""
        replica.state, replica.reason = "failed", replica.reason or reason
        self._launcher.stop(replica.id, signal.SIGKILL)
        self._on_change(replica)

    def exited(self, replica_id: str, code: int, reason: str | None = None) -> None:
        """The process has ended and has been reaped."""
        replica = self.replicas.pop(replica_id, None)
        if replica is None:
            return
        for left in (_spec_file(replica.socket), mark_of(replica.socket), Path(replica.socket)):
            left.unlink(missing_ok=True)
        if replica.state != "draining":
            replica.reason = replica.reason or reason or _why(code)
            replica.state = "failed"
        self._on_change(replica)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._note(json.loads(line))
        except (OSError, ValueError, asyncio.CancelledError):  # gone, garbled, or we are stopping
            pass
        finally:
            writer.close()

    def _note(self, facts: dict[str, Any]) -> None:
        replica = self.replicas.get(facts["id"])
        if replica is None:
            return
        replica.heard = time.monotonic()
        replica.pid, replica.memory = facts["pid"], facts["memory"]
        replica.load = facts.get("load", replica.load)
        if facts["state"] == "failed":
            replica.reason = facts["reason"]
        elif facts["state"] == "ready" and replica.state == "starting":
            replica.state, replica.was_ready = "ready", True
            replica.not_batched, replica.platform = facts["not_batched"], facts["platform"]
            replica.streams, replica.language = facts["streams"], facts.get("language")
            self._on_change(replica)
        if facts["busy_s"] > replica.limits.run_s and replica.state in ("ready", "draining"):
            self.kill(replica, f"a run took longer than its limit of {replica.limits.run_s:g} s")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            if now - self._tick > 4 * _TICK_S:  # it was us who stood still: nobody is blamed for this turn
                for replica in self.replicas.values():
                    replica.heard = now
            self._tick = now
            for replica in list(self.replicas.values()):
                self._check(replica, now)

    def _check(self, replica: Replica, now: float) -> None:
        if replica.state == "starting" and now - replica.started > replica.limits.start_s:
            self.kill(replica, f"was not ready within {replica.limits.start_s:g} s")
        elif replica.state == "ready" and now - replica.heard > _SILENT_S:
            self.kill(replica, f"sent no heartbeat for {_SILENT_S:g} s")
        elif replica.stopped is not None and now - replica.stopped > _DRAIN_S + replica.limits.run_s:
            self._launcher.stop(replica.id, signal.SIGKILL)


def _spec_file(socket: str) -> Path:
    """Where a replica reads what it is to do: beside its socket, in the working folder."""
    return Path(socket).with_suffix(".json")


def _why(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        return f"its process was ended by {name}"
    return f"its process ended with code {code}"
