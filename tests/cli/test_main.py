"""The command line from outside: help, exit codes, error lines, and the flags that are promised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import modelport
from modelport.cli.main import app

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run ``modelport`` in a home of its own, where no server is."""
    names = ("MODELPORT_URL", "MODELPORT_KEY", "MODELPORT_DEBUG")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env |= {"MODELPORT_HOME": str(tmp_path / "home"), "COLUMNS": "100"}

    def call(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "modelport.cli.main", *arguments]
        return subprocess.run(argv, capture_output=True, text=True, env={**env, **more}, timeout=60)

    return call


def commands(command: Any, name: str = "modelport") -> Iterator[tuple[str, Any]]:
    """Every command below one, with its full name; a group's default has the group's own."""
    yield name, command
    for key, below in getattr(command, "commands", {}).items():
        yield from commands(below, name if key == getattr(command, "default", None) else f"{name} {key}")


ALL = dict(commands(typer.main.get_command(app)))
RUNNABLE = {name: command for name, command in ALL.items() if not hasattr(command, "commands")}


def test_the_flags_are_those_that_were_promised() -> None:
    """To change them on purpose: ``UPDATE_GOLDEN=1 pytest tests/cli``."""
    lines = []
    for name, command in sorted(RUNNABLE.items()):
        words = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            shown = "/".join(parameter.opts) if parameter.param_type_name == "option" else f"<{parameter.name}>"
            words.append(shown + ("!" if parameter.required else ""))
        lines.append(" ".join([name, *words]))
    compare("cli.txt", lines)


def test_the_exported_names_are_those_that_were_promised() -> None:
    def surface(found: object, prefix: str) -> list[str]:
        return [f"{prefix}.{name}" for name in dir(found) if not name.startswith("_")]

    with modelport.Client("http://127.0.0.1:1") as client:
        lines = [f"modelport.{name}" for name in modelport.__all__]
        lines += surface(client, "Client")
        for noun in (
            "chat",
            "models",
            "datasets",
            "deployments",
            "keys",
            "jobs",
            "schedules",
            "pipelines",
            "evaluations",
            "conversions",
        ):
            lines += surface(getattr(client, noun), f"Client.{noun}")
    compare("exports.txt", lines)


def compare(file: str, lines: list[str]) -> None:
    path = GOLDEN / file
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text("\n".join(lines) + "\n")
    assert lines == path.read_text().splitlines()


@pytest.mark.parametrize("name", sorted(RUNNABLE))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    text = RUNNABLE[name].help
    assert f"Example: {name}" in text
    first = text.splitlines()[0]
    assert first.endswith(".") and len(first) <= 80, first
    for parameter in RUNNABLE[name].params:
        assert parameter.help, (name, parameter.name)


def test_help_loads_nothing_heavy() -> None:
    heavy = ("numpy", "httpx", "pydantic", "rich", "onnx", "onnxruntime", "sklearn", "sqlalchemy", "fastapi", "grpc")
    code = (
        "import sys; from modelport.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("LOADED []\n"), done.stdout
    assert "deploy" in done.stdout


def test_usage(run: Any) -> None:
    assert run("--help").returncode == 0
    assert run("version").stdout == run("--version").stdout == f"modelport {modelport.__version__}\n"
    for wrong in (
        ("nope",),
        ("push",),
        ("deploy", "m", "--nope"),
        ("deploy", "m", "--replicas", "x"),
        ("keys", "create"),
    ):
        done = run(*wrong)
        assert done.returncode == 2, wrong
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "--url", "http://127.0.0.1:1"), "no server answers at http://127.0.0.1:1"),
        (("predict", "m", "nofile.npy", "--url", "http://127.0.0.1:1"), "'nofile.npy' is neither a file nor JSON"),
        (("push", "nofile", "--name", "m"), "neither a file nor a folder"),
        (("push", "x", "-n", "m", "--label", "a"), "--label 'a' is not like KEY=VALUE"),
        (("deploy", "a:b"), "is not like NAME"),
        (("push", "x", "-n", "m", "--classes", "lables.txt"), "--classes 'lables.txt' is no file; give one"),
        (("push", "x", "--on-server"), "--on-server needs --name NAME"),
        (("push", "x", "-n", "m", "--on-server", "--metric", "a=1"), "leave the others out"),
        (("deploy", "m", "--memory", "lots"), "memory: "),
        (("apply",), "give a file"),
        (("apply", "-f", "nofile.yaml"), "is no file; name a YAML file, or -"),
        (("up", "--port", "99999"), "setting http.port (MODELPORT_HTTP_PORT): "),
        (("up", "--host", "0.0.0.0"), "needs TLS"),
        (("up", "--host", "0.0.0.0", "--insecure-no-tls"), "needs a key: modelport keys create"),
        (("up", "--tls-cert", "x.pem"), "TLS needs both"),
        (("keys", "create", "--name", "a b"), "name: it takes up to 100 letters, digits, '.', '_' and '-'"),
        (("serve", "nofile.onnx"), "does not exist"),
        (("models", "delete", "m@champion"), "`modelport models show m@champion` tells it"),
        (("explain-error", "499x"), "no error is called '499x'; give an HTTP or gRPC status, or one of"),
        (("status", "--url", "nonsense"), "is not like http"),
        (("bench", "m", "--url", "http://127.0.0.1:1"), "no server answers at http://127.0.0.1:1"),
        (("bench", "m", "--rate", "100,fast"), "--rate '100,fast' is not numbers; give some like 100,200,400, or auto"),
        (("bench", "m", "--callers", "0"), "each number is above 0"),
        (("bench", "m", "--callers", "1", "--rate", "1"), "--rate, --callers and --replay exclude each other"),
        (("bench", "m", "--slo-p99", "soon"), "--slo-p99 'soon' is no time; give one like 50ms"),
        (("bench", "m", "--replay", "nolog.jsonl"), "--replay 'nolog.jsonl' is no file"),
    ],
)  # fmt: skip
def test_an_error_is_one_clear_line(run: Any, arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


def test_debug_shows_where(run: Any) -> None:
    done = run("status", "--url", "http://127.0.0.1:1", MODELPORT_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_the_next_step_is_named(run: Any) -> None:
    assert "modelport up --detach" in run("status", "--url", "http://127.0.0.1:1").stderr


def test_down_without_a_server_is_no_error(run: Any) -> None:
    done = run("down")
    assert (done.returncode, done.stdout) == (0, "no server runs here\n")


def test_the_first_key_needs_no_server(run: Any, tmp_path: Path) -> None:
    done = run("keys", "create", "--name", "app", "--role", "developer", "--days", "3", "--json")
    made = json.loads(done.stdout)
    assert "wants one of every caller" in done.stderr
    assert made["secret"].startswith(made["prefix"]) and made["role"] == "developer"
    assert made["secret"].encode() not in (tmp_path / "home" / "modelport.db").read_bytes()


def test_the_schema(run: Any) -> None:
    assert json.loads(run("apply", "--schema").stdout)["title"] == "DeploymentDocument"


def test_doctor_tells_what_is_wrong(run: Any, tmp_path: Path) -> None:
    found = {check["name"]: check for check in json.loads(run("doctor", "--json", MODELPORT_HTTP_PORT="0").stdout)}
    assert found["python"]["ok"] and found["packages"]["ok"] and found["onnxruntime"]["ok"] and found["home"]["ok"]
    (tmp_path / "file").write_text("")
    done = run("doctor", MODELPORT_HOME=str(tmp_path / "file"))
    assert done.returncode == 1
    assert "FAIL  home" in done.stdout and "MODELPORT_HOME" in done.stdout
    done = run("doctor", MODELPORT_HTTP_PORT="x")
    assert done.returncode == 1 and "FAIL  settings" in done.stdout


def test_doctor_says_when_the_port_is_taken(run: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("doctor", MODELPORT_HTTP_PORT=port, MODELPORT_GRPC_PORT="0")
    assert done.returncode == 1
    assert f"{port} is taken by another program" in done.stdout


def test_the_package_runs_as_a_module_too() -> None:
    argv = [sys.executable, "-m", "modelport", "version"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert modelport.__version__ in done.stdout, done.stderr


def test_a_first_key_is_made_without_a_server_whatever_the_environment_says(run: Any) -> None:
    done = run("keys", "create", "--name", "first", MODELPORT_KEY="mp_of_another_server")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("mp_")
