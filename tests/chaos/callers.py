"""What the scenarios share: callers around a block, replicas to harm, figures to read, and the line of the table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from modelport import errors
from tests.chaos.client import Plan
from tests.services.conftest import Server

LONG = bool(os.environ.get("MODELPORT_CHAOS"))
WORDS = 60
PAUSE_MS = 25


def rows(count: int = 97) -> tuple[list[str], list[str]]:
    """Bodies of V2 requests with a row each, and what the answer to each holds."""
    bodies = [
        json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [float(i)]}]})
        for i in range(count)
    ]
    return bodies, [f'"data":[{float(i)}]' for i in range(count)]


def http(server: Server, model: str, rate: float, name: str = "HTTP", **more: Any) -> Plan:
    bodies, expected = rows()
    path = f"/v2/models/{model}/infer"
    return Plan(name, "http", server.url, path, bodies, expected, rate=rate, model=model, **more)


def grpc(server: Server, model: str, rate: float, name: str = "gRPC", **more: Any) -> Plan:
    return Plan(name, "grpc", server.grpc, model=model, rate=rate, **more)


def streams(server: Server, model: str, count: int, name: str = "streams") -> Plan:
    body = json.dumps({"text_input": "word " * WORDS, "pause_ms": [PAUSE_MS]})
    path = f"/v2/models/{model}/generate_stream"
    return Plan(name, "stream", server.url, path, [body], rate=count, parts=WORDS)


@dataclass
class Callers:
    """Calls while the block runs; afterwards ``found`` has what became of every request."""

    server: Server
    plans: list[Plan]
    found: dict[str, Any] = field(default_factory=dict)
    retried: float = 0.0
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Callers:
        self.retried = -metric(self.server, "modelport_retries_total")
        argv = [sys.executable, "-m", "tests.chaos.client", json.dumps([asdict(plan) for plan in self.plans])]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.process.stdout.readline()  # it calls
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert self.process is not None
        if kind is not None:
            self.process.kill()
            self.process.communicate()
            return
        self.found = json.loads(self.process.communicate(timeout=120)[0])
        self.retried += metric(self.server, "modelport_retries_total")

    def total(self, what: str) -> int:
        return sum(found[what] for found in self.found.values())

    def __getitem__(self, name: str) -> dict[str, Any]:
        """What became of the requests of one group."""
        found: dict[str, Any] = self.found[name]
        return found

    @property
    def failed(self) -> int:
        """Requests; a 429 counts, too."""
        return sum(count for f in self.failures.values() for reason, count in f.items() if reason != "examples")

    @property
    def failures(self) -> dict[str, Any]:
        """By group: reasons and examples; empty when nothing failed. A 429 is a failure, too."""
        failed = {}
        for name, found in self.found.items():
            reasons = dict(found["failures"])
            if refused := found["statuses"].get("429"):
                reasons["status 429"] = refused
            if reasons:
                failed[name] = {**reasons, "examples": found["examples"]}
        return failed

    @property
    def longest_gap_s(self) -> float:
        """Between two answers to short requests."""
        return max(found["longest_gap_s"] for name, found in self.found.items() if "stream" not in name)


def replicas(server: Server, model: str | None = None) -> list[psutil.Process]:
    """The processes of a deployment's replicas, or of all."""
    if model is not None:
        with server.client() as client:
            pids = [replica.pid for replica in client.deployments.get(model).replicas if replica.pid]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return of(server, "modelport.engine.replica")


def of(server: Server, module: str) -> list[psutil.Process]:
    """The processes of the tree that run a module."""
    found = []
    for process in server.tree():
        try:
            if module in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(process: psutil.Process) -> None:
    """kill -9, also of what has just ended."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric over all series with these labels."""
    request = urllib.request.Request(server.url + "/metrics", headers={"authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.split("{")[0].split(" ")[0] == name and all(pair in line for pair in wanted)
    )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> float:
    """Seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


def all_ready(server: Server, model: str, count: int) -> bool:
    try:
        with server.client() as client:
            return client.deployments.get(model).replicas_ready == count
    except errors.ModelportError:  # control is away
        return False


@contextmanager
def deployed(server: Server, name: str, content: bytes, **spec: Any) -> Iterator[None]:
    """A deployment for the block."""
    server.deploy(name, content, **spec)
    try:
        yield
    finally:
        with server.client() as client:
            client.undeploy(name)
