"""Real replica processes for tests of the engine, without supervisor or control."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.fleet import HEARTBEAT_SOCKET, Fleet, Limits, Replica
from modelport.engine.inspect import inspect
from modelport.engine.placement.process import replica_environment, spawn
from modelport.engine.replica import Spec
from modelport.engine.routing import ReplicaAddress, Route, RoutingTable, facts_of
from modelport.engine.runtime import Trust


@dataclass
class Engine:
    """One model on some replicas, and a data plane that knows them."""

    folder: Path
    """Where sockets and logs are, and the model unless ``model`` says otherwise."""
    plane: DataPlane = field(default_factory=DataPlane)
    processes: dict[str, Popen[bytes]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    number: int = 0
    runtime: str = "modelport.engine.runtimes.onnx:OnnxRuntime"
    files: tuple[str, ...] = ("model.onnx",)
    details: dict[str, Any] = field(default_factory=dict)
    python_path: str = ""
    model: Path | None = None
    python: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """What a deployment asks of a language model's engine."""
    draft: dict[str, Any] | None = None
    """The model that writes ahead, as ``replica.Spec`` has it."""
    start_s: float = 30

    def start(self, process_id: str, argv: list[str], env: Mapping[str, str], log: str, about: Any) -> None:
        with (self.folder / f"{log}.log").open("ab") as out:
            self.processes[process_id] = spawn(argv, cwd=self.folder, log=out, env={**replica_environment(), **env})

    def stop(self, process_id: str, signum: int) -> None:
        self.processes[process_id].send_signal(signum)

    def kill(self, process_id: str) -> None:
        process = self.processes.pop(process_id)
        process.kill()
        self.fleet.exited(process_id, process.wait())

    async def add(self, count: int) -> None:
        """Start so many replicas, and wait until they are proven."""
        for _ in range(count):
            self.number += 1
            spec = Spec(
                id=str(self.number), socket=f"r-{self.number}.sock", heartbeat=HEARTBEAT_SOCKET,
                runtime=self.runtime, folder=str(self.model or self.folder), files=list(self.files),
                signature=self.signature.to_json(), labels={}, details=self.details,
                engine=self.options, draft=self.draft,
            )  # fmt: skip
            env = {"PYTHONPATH": self.python_path} if self.python_path else {}
            self.fleet.start(spec, "group", Limits(), env, self.python)
        await self.until(lambda: all(replica.ready for replica in self.fleet.of("group")), self.start_s)

    async def until(self, condition: Any, at_most_s: float = 30) -> None:
        async with asyncio.timeout(at_most_s):
            while not condition():
                self.changed.clear()
                await asyncio.wait([asyncio.ensure_future(self.changed.wait())], timeout=0.1)

    async def publish(self, **options: Any) -> Endpoint:
        self.table = getattr(self, "table", 0) + 1
        ready = [replica for replica in self.fleet.of("group") if replica.ready]
        batching = all(replica.not_batched is None for replica in ready)
        route = Route(
            "default", "model", "model", 1, "onnx", self.signature,
            tuple(ReplicaAddress(replica.id, replica.socket) for replica in ready),
            **{"batching": batching, "language": facts_of([replica.language for replica in ready]), **options},
        )  # fmt: skip
        await self.plane.update(RoutingTable(self.table, (route,)))
        return self.plane.find("default", "model")

    def note(self, replica: Replica) -> None:
        self.changed.set()


@asynccontextmanager
async def engine(
    content: bytes | Callable[[Engine], None], replicas: int = 1, **options: Any
) -> AsyncIterator[tuple[Engine, Endpoint]]:
    """A running engine around one ONNX model, or what a function makes of it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        made = Engine(folder)
        try:
            if not isinstance(content, bytes):
                content(made)
            else:
                (folder / "model.onnx").write_bytes(content)
                made.signature = inspect(folder / "model.onnx", Trust()).signature  # type: ignore[attr-defined]
            made.fleet = Fleet(made, made.note)  # type: ignore[attr-defined]
            await made.fleet.open(folder)  # type: ignore[attr-defined]
            await made.add(replicas)
            yield made, await made.publish(**options)
        finally:
            made.plane.close()
            os.chdir(before)
            for process in made.processes.values():
                process.kill()
                process.wait()
