"""``modelport doctor``: is this machine fit to serve, is the server well; each line says what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from modelport.cli.options import AsJson

if TYPE_CHECKING:
    from modelport.settings import Settings

_LEAST_FREE_GB = 1.0
_LEAST_FILES = 4096


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``todo`` is the next step when it is not well."""

    name: str
    ok: bool
    found: str
    todo: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Check this machine and its server.

    Exit code 1 when something is wrong; each line then says what to do.

    Example: modelport doctor
    """
    from modelport.cli import render
    from modelport.errors import ModelportError
    from modelport.settings import load_settings

    checks = [_python(), _packages(), _runtime(), _open_files()]
    try:
        settings = load_settings()
    except ModelportError as error:
        checks.append(Check("settings", False, error.message, "correct the variable or settings.yaml"))
    else:
        for look in (_home, _disk, _server):
            checks += look(settings)
    if as_json:
        render.as_json([asdict(check) for check in checks])
    else:
        for check in checks:
            mark = "ok  " if check.ok else "FAIL"
            advice = f"\n      {' ' * 14}-> {check.todo}" if not check.ok and check.todo else ""
            render.say(f"{mark}  {check.name:<14}{render.plain(check.found)}{advice}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _packages() -> Check:
    """Every package that the plain install names, without its extras."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    wrong, count = [], 0
    for line in requires("modelport") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            if not wanted.specifier.contains(version(wanted.name), prereleases=True):
                wrong.append(f"{wanted.name} {version(wanted.name)} is not {wanted.specifier}")
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
    found = "; ".join(wrong) or f"{count} packages as wanted"
    return Check("packages", not wrong, found, "pip install --upgrade modelport")


def _runtime() -> Check:
    try:
        import onnxruntime
    except ImportError as error:
        return Check("onnxruntime", False, f"cannot be imported: {error}", "pip install --force-reinstall onnxruntime")
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return Check("onnxruntime", bool(providers), f"{onnxruntime.__version__}, runs on {', '.join(providers)}")


def _open_files() -> Check:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    ok = soft == unlimited or soft >= _LEAST_FILES
    return Check("open files", ok, f"limit {soft} (at most {hard})", f"raise it: ulimit -n {_LEAST_FILES * 4}")


def _home(settings: Settings) -> Iterator[Check]:
    import tempfile

    home = settings.home
    todo = "make it yours (chown), or set MODELPORT_HOME to a folder that is"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        yield Check("home", False, f"{home}: {error.strerror}", todo)
        return
    private = home.stat().st_mode & 0o022 == 0
    found = f"{home} is writable" + ("" if private else " by others too")
    yield Check("home", private, found, f"chmod go-w {home}")


def _disk(settings: Settings) -> Iterator[Check]:
    import shutil

    folder = next((folder for folder in (settings.home, *settings.home.parents) if folder.is_dir()), None)
    if folder is not None:
        free = shutil.disk_usage(folder).free / 1e9
        yield Check("disk", free >= _LEAST_FREE_GB, f"{free:.1f} GB free", "free some, or move MODELPORT_HOME")


def _server(settings: Settings) -> Iterator[Check]:
    from modelport.sdk.endpoint import local_server

    local = local_server(settings.home)
    if local is None:
        yield from _free_ports(settings)
        return
    from modelport.errors import ModelportError
    from modelport.sdk.client import Client

    yield Check("server", True, f"process {local.pid} at {local.url}")
    todo = "modelport down; modelport up; what it wrote is in the logs folder of the home"
    with Client(local.url, local.token, timeout=5) as client:
        try:
            status = client.status()
        except ModelportError as error:
            yield Check("control", False, error.message.partition("\n")[0], todo)
            return
    yield Check("control", True, f"answers, version {status.version}")
    away = [gateway.name for gateway in status.gateways if not gateway.connected]
    found = f"not connected: {', '.join(away)}" if away else f"{len(status.gateways)} connected"
    yield Check("gateways", bool(status.gateways) and not away, found, todo)
    for deployment in status.deployments:
        ok = deployment.state not in {"failed", "degraded"}
        found = f"{deployment.state}, {deployment.replicas_ready}/{deployment.spec.replicas} replicas ready"
        reason = f": {deployment.reason}" if deployment.reason else ""
        yield Check(deployment.name[:13], ok, found + reason, f"modelport logs {deployment.name}")


def _free_ports(settings: Settings) -> Iterator[Check]:
    """Without a server its ports should be free."""
    ports = {"http port": settings.http.port} | ({"grpc port": settings.grpc.port} if settings.grpc.enabled else {})
    for name, port in ports.items():
        flag = name.replace(" ", "-").replace("http-", "")
        if port == 0 or _can_listen(settings.http.host, port):
            yield Check(name, True, f"{port} is free")
        else:
            todo = f"stop what listens there, or modelport up --{flag} {port + 10}"
            yield Check(name, False, f"{port} is taken by {_who_answers(settings.http.host, port)}", todo)


def _can_listen(host: str, port: int) -> bool:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _who_answers(host: str, port: int) -> str:
    from modelport.errors import ModelportError
    from modelport.sdk.blocking import BlockingDriver
    from modelport.sdk.endpoint import Target
    from modelport.sdk.flows import Request, send

    shown = f"[{host}]" if ":" in host else host
    driver = BlockingDriver(Target(f"http://{shown}:{port}"), timeout=2)
    try:
        answer = driver.run(send(Request("GET", "/v2"), attempts=1))
        return "another Modelport, of another home" if b"modelport" in answer.body else "another inference server"
    except ModelportError:
        return "another program"
    finally:
        driver.close()
