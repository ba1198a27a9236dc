"""``modelport serve PATH``: a model file to an API in the smallest tree — this process, and one per replica.

The same gateway, data plane and replicas as under ``modelport up``; no registry, no control, no database. Gone with
Ctrl-C.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from modelport import errors
from modelport.api.answers import error_answer
from modelport.api.gateway import Gateway, GatewayConfig, serve_http, start_grpc
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.model_facts import text_task
from modelport.engine.fleet import Limits
from modelport.engine.inspect import inspect
from modelport.engine.local import LocalModel, LocalReplicas, Running
from modelport.engine.manifests import read_manifest, verify_files
from modelport.engine.placement.early import Early
from modelport.engine.placement.ports import CannotStart, bind, is_loopback
from modelport.engine.routing import Route, RoutingTable
from modelport.engine.runtime import Inspected, Trust
from modelport.schemas.text_tasks import example
from modelport.tensors import Signature

if TYPE_CHECKING:
    from modelport.control.environments import Environment
    from modelport.schemas.deployments import EngineOptions


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
    runtime: str | None = None
    """Where it is not the one of the format."""
    engine: EngineOptions | None = None
    """What is asked of a language model's engine."""
    memory: int | None = None
    """Most bytes of one replica."""
    cache_bytes: int = 0
    """Of answers that are kept for equal inputs."""
    early: Early | None = None
    """A first replica that was started before this module was imported."""


class Standalone:
    """One model, served."""

    def __init__(self, options: ServeOptions, folder: Path) -> None:
        self._options = options
        self._replicas = LocalReplicas(folder, self._publish, options.early)
        self._folder = folder

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
        self._app.also("api", HttpRoute("GET", re.compile("/metrics"), self._show_figures, error_answer))
        try:
            await self._replicas.open()
            model = await asyncio.to_thread(_known if options.manifest else _inspected, options)
            self._found = model.found
            if options.runtime is not None or options.engine is not None:
                _check_choice(options, model.found)
            environment = await self._build_environment()
            self._replicas.run(model, _running(options, environment))
            await self._replicas.first_ready
            grpc_server = await start_grpc(self._app, config)
            self._greet(port, grpc_address)
            await serve_http(self._app, sockets, config, grpc_server)
        finally:
            self._replicas.close()

    async def _build_environment(self) -> Environment | None:
        """Where a Python predictor runs, or an engine whose libraries are not these; shared with the server of the same
        home."""
        requirements, runtime = self._found.details.get("requirements"), self._options.runtime
        if requirements is None and runtime is None:
            return None
        from modelport.control.engines import Engines  # noqa: PLC0415  (few models need them)
        from modelport.control.environments import BuildFailed, Environments  # noqa: PLC0415
        from modelport.settings import load_settings  # noqa: PLC0415

        settings = load_settings()
        if runtime is not None:
            engines = Engines(settings.vllm)
            self._options.env = {**engines.variables(runtime), **self._options.env}
            if (python := engines.python(runtime)) is not None:
                return Environments(settings.home / "environments").given(python)
            requirements = engines.requirements(runtime)
        if requirements is None:
            return None
        sys.stderr.write(f"the environment for {', '.join(requirements)} is built once, and kept …\n")
        log = self._folder / "environment.log"
        try:
            return await Environments(settings.home / "environments").ensure(requirements, log)
        except BuildFailed as error:
            sys.stderr.write(log.read_text(errors="replace"))
            raise CannotStart(error.message) from None

    async def _publish(self, number: int, route: Route) -> None:
        await self._app.act(RoutingTable(number, (route,), keys_required=self._options.key is not None))

    async def _show_figures(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        from modelport.api import metrics, text_metrics  # noqa: PLC0415  (not paid for where nobody asks)

        replicas = self._replicas.replicas
        route = self._app.plane.find("default", self._options.name).route
        seen = text_metrics.Watched(
            (route.project, route.name, route.model, str(route.version)), sum(r.ready for r in replicas),
            self._replicas.restarts, {r.id: r.memory or 0 for r in replicas},
            {r.id: r.load for r in replicas if r.ready and r.load},
        )  # fmt: skip
        text = metrics.exposition([self._app.report(0, with_figures=True)], [seen])
        return HttpResponse(200, text, content_type=metrics.MEDIA_TYPE)

    def _greet(self, port: int, grpc_address: str | None) -> None:
        options = self._options
        url = f"{'https' if options.tls_certificate else 'http'}://{options.host}:{port}"
        inputs = ", ".join(f"{s.name} {s.datatype}{list(s.shape)}" for s in self._found.signature.inputs)
        sys.stderr.write(
            f"{options.name} ({self._found.format}; {inputs}) is served on {url}"
            + (f", gRPC on {grpc_address}" if grpc_address else "")
            + "".join(f"\n  {call}" for call in self._calls(url))
            + "\nCtrl-C stops it.\n"
        )
        sys.stderr.flush()

    def _calls(self, url: str) -> list[str]:
        """What somebody may type next."""
        name = self._options.name
        task = text_task(self._app.plane.find("default", name).route)
        if task is None:
            return [f"curl {url}/v2/models/{name}"]
        call = f"curl {url}/v1/{task} -H 'Content-Type: application/json' -d '{json.dumps(example(task, name))}'"
        return [call, f"modelport chat --url {url}"] if task == "chat/completions" else [call]


def _running(options: ServeOptions, environment: Environment | None) -> Running:
    env = {**options.env, **environment.variables} if environment is not None else options.env
    return Running(
        options.name, options.replicas, options.threads, options.max_batch, options.max_delay_ms,
        Limits(options.timeout_s, options.start_timeout_s), options.trusted_sklearn_types, env,
        environment.python if environment is not None else None,
        options.runtime, options.engine.asked if options.engine else {}, options.memory, options.cache_bytes,
    )  # fmt: skip


def _inspected(options: ServeOptions) -> LocalModel:
    """By looking at the files."""
    path = options.path
    if not path.exists():
        raise CannotStart(f"{path} does not exist")
    found = inspect(path, Trust(options.trusted_sklearn_types, options.allow_python, options.allow_native_code))
    if not found.runtime and options.runtime is None:
        raise CannotStart(f"the model cannot be served: {found.details.get('not_served', 'no runtime serves it')}")
    if path.is_file():
        return LocalModel(path.parent.resolve(), (path.name,), found)
    files = tuple(sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()))
    return LocalModel(path.resolve(), files, found)


def _known(options: ServeOptions) -> LocalModel:
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
    return LocalModel(options.path.resolve(), files, found, manifest["version"], steps, own)


def _check_choice(options: ServeOptions, found: Inspected) -> None:
    """As `deploy` does: raise InvalidInput for a runtime that does not run this, or does not know these options."""
    from modelport.control.runnable import check_choice, check_engine  # noqa: PLC0415  (seldom asked for)

    runtime = options.runtime or found.runtime
    check_choice(options.name, found, runtime)
    if options.engine is not None:
        check_engine(runtime, options.engine)


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
