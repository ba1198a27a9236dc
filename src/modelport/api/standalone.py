"""``modelport serve PATH``: a model file to an API in the smallest tree — this process, and one per replica.

The same gateway, data plane and replicas as under ``modelport up``; no registry, no control, no database. Gone with
Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from modelport import errors, plugins
from modelport.api.gateway import Gateway, GatewayConfig, serve_http, start_grpc
from modelport.engine.fleet import HEARTBEAT_SOCKET, Fleet, Limits, Replica
from modelport.engine.inspect import inspect
from modelport.engine.manifests import read_manifest, verify_files
from modelport.engine.placement.early import Early
from modelport.engine.placement.ports import CannotStart, bind, is_loopback
from modelport.engine.placement.process import replica_environment, spawn
from modelport.engine.replica import Spec
from modelport.engine.routing import ReplicaAddress, Route, RoutingTable, features_of
from modelport.engine.runtime import Inspected, Trust
from modelport.tensors import Signature

if TYPE_CHECKING:
    from modelport.control.environments import Environment

_GROUP = "serve"
_BACKOFF_S = 1.0
_REAP_S = 0.05


@dataclass(slots=True)
class ServeOptions:
    """What ``modelport serve`` was asked for."""

    path: Path
    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = 8001
    replicas: int = 1
    threads: int = 1
    max_batch: int = 32
    max_delay_ms: float = 0
    timeout_s: float = 60
    """A run that takes longer is hung."""
    start_timeout_s: float = 120
    trusted_sklearn_types: tuple[str, ...] = ()
    allow_python: bool = False
    allow_native_code: bool = False
    key: str | None = None
    """What callers have to send; beyond loopback there is no serving without."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    """Beyond loopback without TLS: behind a proxy that ends it."""
    manifest: Path | None = None
    """Of a version from a registry: then nothing is guessed, and the files are verified."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of the replicas."""
    early: Early | None = None
    """A first replica that was started before this module was imported."""


@dataclass(slots=True)
class _Model:
    """What is served: the files, and what is known of them."""

    folder: Path
    files: tuple[str, ...]
    found: Inspected
    version: int = 1
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    model_signature: dict[str, Any] | None = None


class _Children:
    """The launcher of a tree whose root is this process."""

    def __init__(self, folder: Path, early: Early | None) -> None:
        self._folder = folder
        self._early = early
        self._running: dict[str, Any] = {}
        self.fleet: Fleet | None = None

    def start(self, process_id: str, argv: list[str], env: Mapping[str, str], log: str, about: Any) -> None:
        out: IO[bytes] = sys.stderr.buffer
        early, self._early = self._early, None
        if early is not None and early.fits(argv, env):
            self._running[process_id] = early.process
            return
        if early is not None:
            early.process.kill()
            early.process.wait()
        self._running[process_id] = spawn(argv, cwd=self._folder, log=out, env={**replica_environment(), **env})

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

    def end(self) -> None:
        if self._early is not None:
            self._early.process.kill()
            self._early.process.wait()
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        for process in self._running.values():
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.kill()
            process.wait()


class Standalone:
    """One model, served."""

    def __init__(self, options: ServeOptions, folder: Path) -> None:
        self._options = options
        self._children = _Children(folder, options.early)
        self.fleet = self._children.fleet = Fleet(self._children, self._changed)
        self._folder = folder
        self._number = 0
        self._started = 0
        self._failures = 0
        self._shown = ("", False, False)
        """Platform, whether rows may share a run, whether answers come in parts: as its replicas last were."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._table_lock = asyncio.Lock()
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until a signal; raises CannotStart when the model cannot be served at all."""
        options = self._options
        sockets, port = bind(options.host, options.port, 1, "--port")
        grpc_address = None
        if options.grpc_port is not None:
            _, grpc_port = bind(options.host, options.grpc_port, 1, "--grpc-port", listen=False)
            grpc_address = f"{options.host}:{grpc_port}"
        config = GatewayConfig(
            options.host, owner_token=options.key, grpc_address=grpc_address,
            tls_certificate=str(options.tls_certificate) if options.tls_certificate else None,
            tls_key=str(options.tls_key) if options.tls_key else None,
        )  # fmt: skip
        self._app = Gateway(config, None)
        reaping = asyncio.create_task(self._children.reap())
        await self.fleet.open(self._folder)
        self._model = await asyncio.to_thread(_known if options.manifest else _inspected, options)
        self._found = self._model.found
        self._environment = await self._build_environment()
        try:
            for _ in range(options.replicas):
                self._start_one()
            await self.first_ready
            grpc_server = await start_grpc(self._app, config)
            self._greet(port, grpc_address)
            await serve_http(self._app, sockets, config, grpc_server)
        finally:
            reaping.cancel()
            self._children.end()

    def _start_one(self) -> None:
        self._started += 1
        model, found, options = self._model, self._found, self._options
        spec = Spec(
            id=f"{self._started}", socket=f"r-{self._started}.sock", heartbeat=HEARTBEAT_SOCKET,
            runtime=plugins.reference("runtimes", found.runtime),
            folder=str(model.folder), files=list(model.files), signature=found.signature.to_json(),
            labels=found.labels, preprocessing=model.preprocessing, model_signature=model.model_signature,
            threads=options.threads, trusted_sklearn_types=options.trusted_sklearn_types, sample=found.sample,
            details={key: fact for key, fact in found.details.items() if key != "requirements"},
        )  # fmt: skip
        environment, limits = self._environment, Limits(options.timeout_s, options.start_timeout_s)
        if environment is None:
            self.fleet.start(spec, _GROUP, limits, options.env)
        else:
            self.fleet.start(spec, _GROUP, limits, {**options.env, **environment.variables}, environment.python)

    async def _build_environment(self) -> Environment | None:
        """Where a Python predictor runs; shared with the server of the same home."""
        requirements = self._found.details.get("requirements")
        if requirements is None:
            return None
        from modelport.control.environments import BuildFailed, Environments  # noqa: PLC0415  (predictors only)
        from modelport.settings import load_settings  # noqa: PLC0415

        sys.stderr.write(f"the environment for {', '.join(requirements)} is built once, and kept …\n")
        log = self._folder / "environment.log"
        try:
            return await Environments(load_settings().home / "environments").ensure(requirements, log)
        except BuildFailed as error:
            sys.stderr.write(log.read_text(errors="replace"))
            raise CannotStart(error.message) from None

    def _changed(self, replica: Replica) -> None:
        if replica.state == "failed" and replica.id not in self.fleet.replicas:
            self._failures += 1
            if not self.first_ready.done():
                self.first_ready.set_exception(CannotStart(f"the model does not load: {replica.reason}"))
                return
            sys.stderr.write(f"modelport: a replica is replaced: {replica.reason}\n")
            delay = 0.0 if self._failures < 3 else min(30.0, _BACKOFF_S * self._failures)
            asyncio.get_running_loop().call_later(delay, self._start_one)
        task = asyncio.ensure_future(self._publish())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self) -> None:
        async with self._table_lock:
            ready = [r for r in self.fleet.of(_GROUP) if r.ready]
            self._number += 1
            found, options = self._found, self._options
            if ready:
                self._shown = (
                    ready[0].platform, all(r.not_batched is None for r in ready), all(r.streams for r in ready)
                )  # fmt: skip
            platform, batching, streams = self._shown
            route = Route(
                project="default", name=options.name, model=options.name, version=self._model.version,
                platform=platform, signature=found.signature, labels=found.labels,
                replicas=tuple(ReplicaAddress(r.id, r.socket) for r in ready), recovering=not ready,
                batching=batching, max_batch=options.max_batch, max_delay_ms=options.max_delay_ms,
                timeout_s=options.timeout_s, streams=streams,
                features=features_of(found.details),
            )  # fmt: skip
            if ready or self.first_ready.done():
                await self._app.act(RoutingTable(self._number, (route,), keys_required=options.key is not None))
            if ready and not self.first_ready.done():
                self.first_ready.set_result(None)

    def _greet(self, port: int, grpc_address: str | None) -> None:
        options = self._options
        scheme = "https" if options.tls_certificate else "http"
        inputs = ", ".join(f"{s.name} {s.datatype}{list(s.shape)}" for s in self._found.signature.inputs)
        sys.stderr.write(
            f"{options.name} ({self._found.format}; {inputs}) is served on {scheme}://{options.host}:{port}"
            + (f", gRPC on {grpc_address}" if grpc_address else "")
            + f"\n  curl {scheme}://{options.host}:{port}/v2/models/{options.name}\nCtrl-C stops it.\n"
        )
        sys.stderr.flush()


def _inspected(options: ServeOptions) -> _Model:
    """By looking at the files."""
    path = options.path
    if not path.exists():
        raise CannotStart(f"{path} does not exist")
    found = inspect(path, Trust(options.trusted_sklearn_types, options.allow_python, options.allow_native_code))
    if not found.runtime:
        raise CannotStart(f"the model cannot be served: {found.details.get('not_served', 'no runtime serves it')}")
    if path.is_file():
        return _Model(path.parent.resolve(), (path.name,), found)
    files = tuple(sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()))
    return _Model(path.resolve(), files, found)


def _known(options: ServeOptions) -> _Model:
    """From a version's manifest."""
    assert options.manifest is not None
    manifest = read_manifest(options.manifest)
    if manifest["runtime"] == "predictor" and not options.allow_python:
        raise CannotStart("this version is a Python predictor: --allow-python runs its author's code")
    if manifest["runtime"] == "aotinductor" and not options.allow_native_code:
        raise CannotStart("this version is native code: --allow-native-code runs it")
    files = verify_files(options.path, manifest)
    found = Inspected(
        manifest["format"],
        manifest["runtime"],
        Signature.from_json(manifest["signature"]),
        manifest.get("labels") or {},
        manifest.get("details") or {},
        sample=manifest.get("sample"),
    )
    steps = manifest.get("preprocessing") or []
    own = manifest.get("model_signature")
    return _Model(options.path.resolve(), files, found, manifest["version"], steps, own)


def _check_address(options: ServeOptions) -> None:
    """Raise CannotStart for a server that others could reach without a key, or read on the way."""
    if is_loopback(options.host):
        return
    if options.key is None:
        raise CannotStart(f"listening on {options.host} needs a key: --key KEY, or MODELPORT_SERVE_KEY")
    if options.tls_certificate is None and not options.insecure:
        raise CannotStart(
            f"listening on {options.host} needs TLS: --tls-cert FILE --tls-key FILE"
            " (or --insecure-no-tls behind a proxy that ends TLS)"
        )


def main(options: ServeOptions) -> None:
    """Serve until Ctrl-C; exits with 1 and one line when that is impossible."""
    import uvloop  # noqa: PLC0415

    async def run(folder: Path) -> None:
        await Standalone(options, folder).run()

    options.path = options.path.absolute()
    options.manifest = options.manifest and options.manifest.absolute()
    options.tls_certificate = options.tls_certificate and options.tls_certificate.absolute()
    options.tls_key = options.tls_key and options.tls_key.absolute()
    folder = options.early.folder if options.early is not None else Path(tempfile.mkdtemp(prefix="modelport-"))
    try:
        os.chdir(folder)  # sockets have relative names
        try:
            _check_address(options)
            uvloop.run(run(folder))
        except (CannotStart, errors.ModelportError) as error:
            sys.stderr.write(f"modelport: {error}\n")
            raise SystemExit(1) from None
        finally:
            os.chdir("/")
    finally:
        if options.early is not None:
            options.early.process.kill()
        shutil.rmtree(folder, ignore_errors=True)
