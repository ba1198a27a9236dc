"""Starts one contender, finds out when it answers and that it answers right, weighs it, and ends all that it started.

Knows processes and HTTP; knows no statistics.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import wire
from contenders import Contender
from load import Shot
from models import Model

HERE = Path(__file__).resolve().parent
PEERS_FOLDER, VENVS = HERE / "peers", HERE / ".venvs"
SHARED = PEERS_FOLDER / "shared"
START_TIMEOUT_S = 120.0
_MARK = "BENCH_MARK"
#: Without the caller's own settings: everything is measured with defaults.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}


class Failed(Exception):
    """A contender that cannot be measured; the text says why, in one line."""


# Venvs


def install(venv: str) -> None:
    """Make the venv of a peer if it is missing or its requirements changed; raises Failed."""
    if venv == "modelport":
        return
    wanted = (PEERS_FOLDER / venv / "requirements.txt").read_bytes()
    stamp = VENVS / venv / ".installed"
    digest = hashlib.sha256(wanted).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    try:
        subprocess.run([sys.executable, "-m", "venv", str(VENVS / venv)], check=True, capture_output=True, text=True)
        pip = [str(VENVS / venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        subprocess.run(
            [*pip, "-r", str(PEERS_FOLDER / venv / "requirements.txt")], check=True, capture_output=True, text=True
        )
    except subprocess.CalledProcessError as error:
        errors = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise Failed(f"cannot be installed: {errors[-1].removeprefix('ERROR: ')}") from error
    stamp.write_text(digest)


def _bin(contender: Contender) -> Path:
    venv = contender.venv or contender.peer
    return Path(sys.executable).parent if venv == "modelport" else VENVS / venv / "bin"


# Processes


class Tree:
    """All processes of a program, found as descendants and by a mark in their environment (for those that left)."""

    def __init__(self, argv: list[str], env: dict[str, str], folder: Path, cores: str, log: Path) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        name, _, value = self._mark.partition("=")
        with log.open("wb") as output:
            self.root = subprocess.Popen(
                ["taskset", "-c", cores, *argv], env={**env, name: value}, cwd=folder,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def processes(self) -> list[psutil.Process]:
        found: dict[int, psutil.Process] = {}
        with suppress(psutil.Error):
            root = psutil.Process(self.root.pid)
            found = {process.pid: process for process in [root, *root.children(recursive=True)]}
        mark = self._mark.encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) not in found:
                with suppress(OSError, psutil.Error):
                    if mark in (folder / "environ").read_bytes():
                        found[int(folder.name)] = psutil.Process(int(folder.name))
        return list(found.values())

    def pss_mb(self) -> float:
        """Memory of all, with what they share counted once."""
        total = 0
        for process in self.processes():
            with suppress(OSError, StopIteration):
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                total += int(next(line for line in lines if line.startswith("Pss:")).split()[1])
        return total / 1000

    def stop(self) -> None:
        """A word to the root, then the end of whatever is left."""
        known = {process.pid: process for process in self.processes()}
        with suppress(OSError):
            self.root.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.root.wait(5)
        for _ in range(50):
            known |= {process.pid: process for process in self.processes()}
            alive = [process for process in known.values() if _alive(process)]
            for process in alive:
                with suppress(psutil.Error):
                    process.kill()
            if not alive:
                break
            time.sleep(0.05)
        with suppress(subprocess.TimeoutExpired):
            self.root.wait(5)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# A contender that runs


@dataclass(frozen=True)
class Running:
    """A server that has answered right."""

    shot: Shot
    cold_s: float
    tree: Tree


class Stage:
    """Starts contenders one after the other; keeps what they need meanwhile in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._prepared: dict[tuple[str, str], dict[str, str]] = {}

    @contextmanager
    def started(self, contender: Contender, model: Model, truth: wire.Array, cores: str) -> Iterator[Running]:
        """Run it on these cores until the block ends; raises Failed if it does not answer, or not right."""
        extra = self._prepare(contender, model, truth)
        port, port2, port3 = _free_ports(3)
        values = {"port": port, "port2": port2, "port3": port3, "workers": _workers(contender, model, cores)}
        argv, env, folder = self._command(contender, contender.command, model, extra, values)
        shot = _shot(contender, model, port, extra)
        log = self._folder / f"{contender.name}-{model.name}.log"
        begun = time.perf_counter()
        tree = Tree(argv, env, folder, cores, log)
        try:
            headers, body = _first_200(shot, tree, log)
            cold = time.perf_counter() - begun
            _check(contender.wire[model.name], headers, body, truth)
            _warm(shot)
            yield Running(shot, cold, tree)
        finally:
            tree.stop()

    def _command(
        self, contender: Contender, command: str, model: Model, extra: dict[str, str], values: dict[str, int]
    ) -> tuple[list[str], dict[str, str], Path]:
        own = PEERS_FOLDER / contender.peer
        folder = own if own.is_dir() else self._folder
        known = {
            "bin": str(_bin(contender)), "python": str(_bin(contender) / "python"), "file": str(model.file),
            "file_stem": str(model.file.with_suffix("")), "folder": str(folder), "shared": str(SHARED),
            "peers": str(PEERS_FOLDER), **{name: str(value) for name, value in values.items()},
        }  # fmt: skip
        env = {
            **_ENVIRONMENT,
            "PYTHONPATH": str(SHARED),
            "PYTHONUNBUFFERED": "1",
            "BENCH_MODEL": model.name,
            "BENCH_FILE": str(model.file),
            "BENCH_PORT": known.get("port", "0"),
            "BENCH_BATCH": str(int(contender.batch)),
            "BENCH_WORKERS": known.get("workers", "1"),
            **extra,
        }
        if (contender.venv or contender.peer) == "modelport":
            del env["PYTHONPATH"]
        env |= {name: value.format(**known) for name, value in contender.env.items()}
        return [part.format(**known) for part in shlex.split(command)], env, folder

    def _prepare(self, contender: Contender, model: Model, truth: wire.Array) -> dict[str, str]:
        """What a contender needs before its first start, once per model; its environment from then on."""
        at = (contender.name, model.name)
        if at not in self._prepared:
            extra: dict[str, str] = {}
            if contender.peer == "modelport":
                extra = self._deploy(contender, model)
            elif contender.peer == "echo":
                answer = self._folder / f"{model.name}.answer"
                answer.write_bytes(truth.tobytes())
                extra = {"BENCH_ANSWER": str(answer)}
            elif contender.prepare:
                argv, env, folder = self._command(contender, contender.prepare, model, {}, {})
                done = subprocess.run(argv, env=env, cwd=folder, capture_output=True, text=True)
                if done.returncode:
                    raise Failed(f"cannot be prepared: {_last_line(done.stderr)}")
            self._prepared[at] = extra
        return self._prepared[at]

    def _deploy(self, contender: Contender, model: Model) -> dict[str, str]:
        """A home where the model is deployed with default settings and one key; the server is down again."""
        home = self._folder / f"{contender.name}-{model.name}"
        env = {**_ENVIRONMENT, "MODELPORT_HOME": str(home)}

        def call(*argv: str) -> str:
            command = [str(_bin(contender) / "modelport"), *argv]
            done = subprocess.run(command, env=env, capture_output=True, text=True)
            if done.returncode:
                raise Failed(f"modelport {argv[0]}: {_last_line(done.stderr)}")
            return done.stdout

        call("up", "--detach", "--port", "0", "--grpc-port", "0")
        try:
            key = json.loads(call("keys", "create", "--name", "bench", "--json"))["secret"]
            call("push", str(model.file), "--name", model.name)
            call("deploy", model.name, *(("--replicas", str(contender.replicas)) if contender.replicas > 1 else ()))
        finally:
            call("down")
        return {"MODELPORT_HOME": str(home), "BENCH_KEY": key}


def _workers(contender: Contender, model: Model, cores: str) -> int:
    return 1 if "," not in cores else contender.workers.get(model.name, contender.cores)


def _shot(contender: Contender, model: Model, port: int, extra: dict[str, str]) -> Shot:
    used = contender.wire[model.name]
    paths = dict(part.split(":", 1) for part in contender.path.split()) if ":" in contender.path else {}
    headers, body = wire.request(used, model.row)
    if "BENCH_KEY" in extra:
        headers["authorization"] = f"Bearer {extra['BENCH_KEY']}"
    return Shot("127.0.0.1", port, paths.get(used, contender.path).format(model=model.name), headers, body)


def _first_200(shot: Shot, tree: Tree, log: Path) -> tuple[dict[str, str], bytes]:
    start, seen = time.perf_counter(), "nothing listens"
    while time.perf_counter() - start < START_TIMEOUT_S:
        if tree.root.poll() is not None:
            raise Failed(f"ended with code {tree.root.returncode}: {_last_line(log.read_text(errors='replace'))}")
        try:
            status, headers, body = send(shot)
            if status == 200:
                return headers, body
            seen = f"{status} {body[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        time.sleep(0.01)
    raise Failed(f"no 200 within {START_TIMEOUT_S:g} s: {seen}; {_last_line(log.read_text(errors='replace'))}")


def send(shot: Shot) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with closing(http.client.HTTPConnection(shot.host, shot.port, timeout=60)) as connection:
        connection.request("POST", shot.path, shot.body, shot.headers)
        found = connection.getresponse()
        return found.status, dict(found.getheaders()), found.read()


def _check(used: str, headers: dict[str, str], body: bytes, truth: wire.Array) -> None:
    try:
        found = wire.answer(used, headers, body)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Failed(f"its answer cannot be read: {error!r}; {body[:100]!r}") from error
    if found.shape != truth.reshape(-1).shape or not np.allclose(found, truth.reshape(-1), rtol=1e-3, atol=1e-4):
        raise Failed(f"answers wrongly: {found[:3]} in place of {truth.reshape(-1)[:3]}")


def _warm(shot: Shot, seconds: float = 0.5) -> None:
    """First calls are slower everywhere: threads start, memory is taken."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        send(shot)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[Any] = [found.getsockname()[1] for found in held]
    for found in held:
        found.close()
    return ports


def _last_line(text: str) -> str:
    """What a program said last, or rather: the last that names an error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (errors or lines or ["it said nothing"])[-1][:200]


def missing_tools() -> list[str]:
    """Programs that the benchmark needs and this machine lacks."""
    return [tool for tool in ("wrk", "taskset") if shutil.which(tool) is None]


def raw_rows_per_second(model: Model, batch: int, cores: str, seconds: float) -> float:
    """The model in ONNX Runtime on one thread, without any server."""
    argv = ["taskset", "-c", cores.split(",", maxsplit=1)[0], sys.executable, "onnx_model.py", str(batch), str(seconds)]
    env = {**os.environ, "BENCH_FILE": str(model.file)}
    return float(subprocess.run(argv, cwd=SHARED, env=env, check=True, capture_output=True, text=True).stdout)
