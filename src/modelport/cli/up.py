"""``modelport up`` and ``modelport down``: the server of this machine.

``up`` resolves the settings and then becomes the supervisor, so that nothing of what it loaded stays in memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.options import InsecureNoTls, TlsCert, TlsKey

if TYPE_CHECKING:
    from modelport.sdk.endpoint import LocalServer
    from modelport.settings import Settings

_START_TIMEOUT_S = 60.0
_POLL_S = 0.05


def up(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on. [127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="HTTP port; 0 takes a free one. [8000]")] = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", help="gRPC port. [8001]")] = None,
    no_grpc: Annotated[bool, typer.Option("--no-grpc", help="No gRPC.")] = False,
    gateways: Annotated[
        int | None, typer.Option("--gateways", help="Gateway processes; one per core, up to 4.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Run in the background; come back when it answers.")
    ] = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure_no_tls: InsecureNoTls = False,
) -> None:
    """Start the server.

    Example: modelport up --detach
    """
    from modelport.settings import load_settings

    grpc: dict[str, Any] = {"port": grpc_port, "enabled": False if no_grpc else None}
    sections = {
        "http": {"host": host, "port": port, "gateways": gateways},
        "grpc": grpc,
        "tls": {"certificate": tls_cert, "key": tls_key, "insecure": insecure_no_tls or None},
    }
    flags: dict[str, Any] = {name: _given(section) for name, section in sections.items() if _given(section)}
    settings = load_settings(**flags)
    _refuse_exposure(settings)
    argv, env = supervisor_command(settings)
    if detach:
        _detach(argv, env, settings.home)
    else:
        os.execve(argv[0], argv, env)  # noqa: S606


def _given(section: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}


def _refuse_exposure(settings: Settings) -> None:
    """Raise InvalidInput for a server that others could reach without a key, or read on the way."""
    from modelport.engine.placement.ports import is_loopback
    from modelport.errors import InvalidInput

    host, tls = settings.http.host, settings.tls
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidInput("TLS needs both: --tls-cert FILE and --tls-key FILE")
    for file in (tls.certificate, tls.key):
        if file is not None and not file.is_file():
            raise InvalidInput(f"{str(file)!r} is no file; TLS needs a PEM file there")
    if is_loopback(host):
        return
    if tls.certificate is None and not tls.insecure:
        raise InvalidInput(
            f"listening on {host} needs TLS: --tls-cert FILE --tls-key FILE"
            " (or --insecure-no-tls behind a proxy that ends TLS)"
        )
    from modelport.cli.offline import has_keys

    if not has_keys(settings):
        raise InvalidInput(f"listening on {host} needs a key: modelport keys create --name NAME --role admin")


def supervisor_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The command that runs the supervisor, and its environment.

    The settings travel there: a command line, with the database's password in it, is everybody's to read.
    """
    import json
    from dataclasses import asdict

    from modelport.supervisor import Config

    config = Config(
        home=str(settings.home),
        host=settings.http.host,
        port=settings.http.port,
        grpc_port=settings.grpc.port if settings.grpc.enabled else None,
        gateways=settings.http.gateways or min(_cores(), 4),
        settings=settings.model_dump(mode="json"),
        tls_certificate=str(settings.tls.certificate.absolute()) if settings.tls.certificate else None,
        tls_key=str(settings.tls.key.absolute()) if settings.tls.key else None,
        log_max_bytes=int(settings.log.max_mb * 1_000_000),
    )
    argv = [sys.executable, "-m", "modelport.supervisor"]
    return argv, {**os.environ, "MODELPORT_CONFIG": json.dumps(asdict(config))}


def _detach(argv: list[str], env: dict[str, str], home: Path) -> None:
    """Start the supervisor in a session of its own and wait until the server answers."""
    from modelport.cli.render import say
    from modelport.errors import Unavailable
    from modelport.sdk.endpoint import local_server

    log = home / "logs" / "supervisor.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603
            argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said = log.read_bytes()[begin:].decode(errors="replace").strip()
            if said.startswith("modelport: ") and "\n" not in said:
                raise Unavailable(said.removeprefix("modelport: "))
            raise Unavailable(
                f"the server ended at once, with code {process.returncode}; `modelport doctor` looks for the cause"
                f"\n{_last_lines(said)}"
            )
        server = local_server(home)
        if server is not None and server.pid == process.pid and _answers(server):
            say(f"modelport runs at {server.url}" + (f", gRPC {server.grpc}" if server.grpc else ""))
            say("stop it with `modelport down`")
            return
        time.sleep(_POLL_S)
    raise Unavailable(
        f"the server does not answer after {_START_TIMEOUT_S:g} s; its log is logs/supervisor.log in its home; "
        "`modelport doctor` looks for the cause, `modelport down` gives up"
    )


def _last_lines(text: str, count: int = 15) -> str:
    return "\n".join(f"  | {line}" for line in text.splitlines()[-count:])


def _answers(server: LocalServer) -> bool:
    """Whether it takes commands, not only predictions: the next one that is typed should work."""
    from modelport.errors import ModelportError
    from modelport.sdk.blocking import BlockingDriver
    from modelport.sdk.endpoint import Target
    from modelport.sdk.flows import Request, send

    driver = BlockingDriver(Target(server.url, server.token, server.certificate), timeout=2)
    try:
        return driver.run(send(Request("GET", "/api/v1/status"), attempts=1)).status == 200
    except ModelportError:
        return False
    finally:
        driver.close()


def down(
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")] = 60,
) -> None:
    """Stop this machine's server.

    The requests that it holds are answered first. Nothing to do when none runs.

    Example: modelport down
    """
    from modelport.cli.render import say
    from modelport.errors import DeadlineExceeded
    from modelport.sdk.endpoint import is_alive, local_server

    server = local_server()
    if server is None:
        say("no server runs here")
        return
    os.kill(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while is_alive(server.pid):
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"process {server.pid} still runs after {timeout:g} s, perhaps for the requests that it holds; "
                f"`modelport down --timeout 600` waits longer, `kill -9 {server.pid}` loses those and nothing else"
            )
        time.sleep(_POLL_S)
    say("stopped")


def _cores() -> int:
    """Those that this process may use: fewer than the machine has when it was given some of them only."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
