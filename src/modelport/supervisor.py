"""The root of the tree: locks the home, binds the ports, alone spawns processes, restarts what dies or hangs.

    supervisor
    ├─ control      decides; asks for replicas over a socket
    ├─ gateway-N    answer callers on sockets bound here
    └─ replicas     one model each

Everything is its child, and is killed with it; nothing is adopted. It knows neither models nor HTTP, and imports only
the standard library.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelport.engine.placement.ports import CannotStart, bind
from modelport.engine.placement.process import replica_environment, spawn
from modelport.engine.placement.pulse import EVERY_S, GOODBYE, Pulse
from modelport.starting import argv_of
from modelport.telemetry import log

_RESTART_S = 0.2
_SLOWEST_RESTART_S = 30.0
_STABLE_S = 10.0
"""A process that lived so long was well: its successor comes at once."""
_LATE_S = 4 * EVERY_S
_ROTATE_EVERY_S = 10.0
_KEPT_LOGS = 200
"""Of replicas that have ended."""
_LEAVING = "leaving-"
"""What a gateway is called that answers its last requests."""


@dataclass(slots=True)
class Config:
    """What ``modelport up`` has resolved from flags, environment and file."""

    home: str
    host: str
    port: int
    grpc_port: int | None
    gateways: int
    settings: dict[str, Any]
    """All settings, for control and gateways."""
    tls_certificate: str | None = None
    tls_key: str | None = None
    grace_s: float = 30.0
    log_max_bytes: int = 20_000_000


@dataclass(slots=True)
class Child:
    """One process of the tree."""

    id: str
    process: subprocess.Popen[bytes]
    about: Any = None
    started: float = field(default_factory=time.monotonic)
    pulse: Pulse | None = None
    """Of a gateway that has not been given up."""


class Supervisor:
    """The running tree."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._home = Path(config.home)
        self._run = self._home / "run"
        self._logs = self._home / "logs"
        self._children: dict[str, Child] = {}
        self._control: asyncio.StreamWriter | None = None
        self._stopping = asyncio.Event()
        self._died = asyncio.Event()
        self._token = secrets.token_urlsafe(32)
        self._crashes: dict[str, int] = {}
        """How often in a row control or a gateway ended soon after its start."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._started_at = time.time()

    async def run(self) -> None:
        """Start everything, keep it alive, and end it when a signal asks."""
        with self._locked():
            shutil.rmtree(self._run, ignore_errors=True)
            self._run.mkdir(mode=0o700)
            self._logs.mkdir(mode=0o700, exist_ok=True)
            self._http, port = bind(self._config.host, self._config.port, self._config.gateways, "--port")
            grpc_port = None
            if self._config.grpc_port is not None:  # held, not listened on: every gateway listens on it itself
                self._grpc_hold, grpc_port = bind(
                    self._config.host, self._config.grpc_port, 1, "--grpc-port", listen=False
                )
            loop = asyncio.get_running_loop()
            for signum in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(signum, self._stopping.set)
            loop.add_signal_handler(signal.SIGCHLD, self._died.set)
            self._announce(port, grpc_port)
            self._greet()
            await self._start_control()
            for index in range(self._config.gateways):
                self._start_gateway(index)
            self._in_background(self._rotate_logs())
            self._in_background(self._feel_pulses())
            try:
                await self._watch()
            finally:
                await self._end()

    # -- the home -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._home / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                raise CannotStart(
                    f"Modelport already runs on this home (process {lock.read().strip() or 'unknown'}); "
                    "stop it with `modelport down`, or choose another MODELPORT_HOME"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def _announce(self, port: int, grpc_port: int | None) -> None:
        """Where the server is, and the token by which its owner's own commands are known."""
        config = self._config
        scheme = "https" if config.tls_certificate else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        self._endpoint = {
            "url": f"{scheme}://{shown}:{port}",
            "grpc": f"{shown}:{grpc_port}" if grpc_port is not None else None,
            "token": self._token,
            "pid": os.getpid(),
            "certificate": config.tls_certificate,
        }
        partial = self._run / "endpoint.part"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(self._endpoint, file)
        partial.replace(self._run / "endpoint.json")

    def _greet(self) -> None:
        url, grpc = self._endpoint["url"], self._endpoint["grpc"]
        sys.stderr.write(
            f"modelport listens on {url}" + (f", gRPC on {grpc}" if grpc else "") + f"\n"
            f"  documentation of the API: {url}/docs   figures: {url}/metrics   logs: in its home, under logs/\n"
            "Ctrl-C stops it.\n"
        )
        sys.stderr.flush()

    def _boot(self) -> str:
        return json.dumps({**asdict(self._config), "endpoint": self._endpoint, "started_at": self._started_at})

    # -- children -------------------------------------------------------------------------------------------------

    def _spawn(
        self, name: str, argv: list[str], log: str, env: dict[str, str], fds: tuple[int, ...] = (), about: Any = None
    ) -> None:
        with (self._logs / f"{log}.log").open("ab") as file:
            process = spawn(argv, cwd=self._run, log=file, env=env, pass_fds=fds)
        self._children[name] = Child(name, process, about)

    async def _start_control(self) -> None:
        ours, theirs = socket.socketpair()
        argv = argv_of("modelport.api.control", str(theirs.fileno()))
        self._spawn("control", argv, "control", {**os.environ, "MODELPORT_BOOT": self._boot()}, (theirs.fileno(),))
        theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=1 << 22)
        self._control = writer
        self._tell("running", processes=[self._describe(c) for c in self._children.values() if c.id != "control"])
        self._in_background(self._listen(reader))

    def _start_gateway(self, index: int) -> None:
        name, fd = f"gateway-{index}", self._http[index].fileno()
        ours, its = os.pipe()
        argv = argv_of("modelport.api.gateway", str(index), str(fd), str(its))
        self._spawn(name, argv, name, {**os.environ, "MODELPORT_BOOT": self._boot()}, (fd, its))
        os.close(its)
        child = self._children[name]
        child.pulse = Pulse(child.process.pid, child.started)
        asyncio.get_running_loop().add_reader(ours, self._hear_gateway, child, index, ours)
        self._tell("started", **self._describe(child))

    def _hear_gateway(self, child: Child, index: int, pipe: int) -> None:
        """It is alive, or leaves; the pipe ends when it has ended (see _watch)."""
        said = os.read(pipe, 4096)
        if not said:
            asyncio.get_running_loop().remove_reader(pipe)
            os.close(pipe)
            return
        if child.pulse is not None:
            child.pulse.beat(time.monotonic())
        if GOODBYE in said and not self._stopping.is_set():
            self._succeed(child, index)

    def _succeed(self, child: Child, index: int) -> None:
        """It ends, and what is under way there may take a while: its successor takes the new callers at once."""
        self._children[f"{_LEAVING}{child.process.pid}"] = self._children.pop(child.id)
        child.id = f"{_LEAVING}{child.process.pid}"
        self._start_gateway(index)

    async def _feel_pulses(self) -> None:
        """End the gateways that hang: their callers, old and new, would wait for ever."""
        felt = time.monotonic()
        while True:
            await asyncio.sleep(EVERY_S)
            before, felt = felt, time.monotonic()
            for child in list(self._children.values()):
                if child.pulse is None or child.process.poll() is not None:
                    continue
                if felt - before > _LATE_S:
                    child.pulse.forgive(felt)
                elif why := child.pulse.hung(felt):
                    log("gateway_hung", gateway=child.id, pid=child.process.pid, reason=f"it {why}, and is killed")
                    child.pulse = None
                    self._signal([child.id], signal.SIGKILL)

    def _describe(self, child: Child) -> dict[str, Any]:
        return {"id": child.id, "pid": child.process.pid, "about": child.about}

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Do what control asks."""
        while line := await reader.readline():
            message = json.loads(line)
            if message["op"] == "start":
                self._start_for_control(message)
            elif child := self._children.get(message["id"]):
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(message["signal"])

    def _start_for_control(self, message: dict[str, Any]) -> None:
        name = message["id"]
        if self._stopping.is_set() or name in self._children:
            return
        try:
            env = {**replica_environment(), **message["env"]}
            self._spawn(name, message["argv"], message["log"], env, about=message["about"])
        except OSError as error:
            self._tell("exit", id=name, code=127, reason=f"could not be started: {error.strerror}")
            return
        self._tell("started", **self._describe(self._children[name]))

    def _tell(self, event: str, **facts: Any) -> None:
        if self._control is not None and not self._control.is_closing():
            self._control.write(json.dumps({"event": event, **facts}).encode() + b"\n")

    async def _watch(self) -> None:
        """Reap what died; control and gateways come back, replicas are control's to decide."""
        while not self._stopping.is_set():
            stopping = asyncio.ensure_future(self._stopping.wait())
            died = asyncio.ensure_future(self._died.wait())
            await asyncio.wait((stopping, died), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            died.cancel()
            self._died.clear()
            for child in self._reap():
                if child.id == "control" or child.id.startswith("gateway-"):
                    self._in_background(self._revive(child))
                self._tell("exit", id=child.id, code=child.process.returncode)

    def _reap(self) -> list[Child]:
        dead = [child for child in self._children.values() if child.process.poll() is not None]
        for child in dead:
            del self._children[child.id]
        return dead

    async def _revive(self, child: Child) -> None:
        short_lived = time.monotonic() - child.started < _STABLE_S
        self._crashes[child.id] = self._crashes.get(child.id, 0) + 1 if short_lived else 0
        await asyncio.sleep(min(_SLOWEST_RESTART_S, _RESTART_S * 2 ** self._crashes[child.id]))
        if self._stopping.is_set():
            return
        if child.id == "control":
            await self._start_control()
        else:
            self._start_gateway(int(child.id.removeprefix("gateway-")))

    async def _end(self) -> None:
        """Gateways first, so that every accepted request is answered; then the rest."""
        deadline = time.monotonic() + self._config.grace_s
        is_gateway = {name: name.startswith(("gateway-", _LEAVING)) for name in self._children}
        for wave in (True, False):
            self._signal([n for n, gateway in is_gateway.items() if gateway is wave], signal.SIGTERM)
            while any(is_gateway.get(n) is wave for n in self._children) and time.monotonic() < deadline:
                self._reap()
                await asyncio.sleep(0.02)
        self._signal(list(self._children), signal.SIGKILL)
        for child in self._children.values():
            child.process.wait()
        (self._run / "endpoint.json").unlink(missing_ok=True)

    def _signal(self, names: list[str], signum: int) -> None:
        for name in names:
            if child := self._children.get(name):
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(signum)

    # -- housekeeping ---------------------------------------------------------------------------------------------

    def _in_background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rotate_logs(self) -> None:
        """Copy and truncate: the children keep writing to the file they hold, which is opened for appending."""
        while True:
            await asyncio.sleep(_ROTATE_EVERY_S)
            for file in self._logs.glob("*.log"):
                with contextlib.suppress(OSError):
                    if file.stat().st_size > self._config.log_max_bytes:
                        shutil.copyfile(file, file.with_suffix(".log.1"))
                        os.truncate(file, 0)
            self._drop_old_logs()

    def _drop_old_logs(self) -> None:
        """Every replica has a log of its own, and they come and go for years."""
        running = {f"replica-{name}" for name in self._children}
        with contextlib.suppress(OSError):
            ended = [file for file in self._logs.glob("replica-*") if file.name.partition(".log")[0] not in running]
            for file in sorted(ended, key=lambda file: file.stat().st_mtime)[:-_KEPT_LOGS]:
                file.unlink()


def main() -> None:
    """``python -m modelport.supervisor``, with MODELPORT_CONFIG: what ``modelport up`` turns into."""
    config = Config(**json.loads(os.environ.pop("MODELPORT_CONFIG")))
    try:
        asyncio.run(Supervisor(config).run())
    except CannotStart as error:
        sys.stderr.write(f"modelport: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
