"""kill -9 at any moment: of a replica, of a gateway, of control, of the whole tree."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from modelport import errors
from tests import onnx_models
from tests.services.conftest import Server
from tests.services.load import Load

PROVE = bool(os.environ.get("MODELPORT_PROVE"))
REPLICA_KILLS = 50 if PROVE else 5
TREE_KILLS = 50 if PROVE else 3
ROW = json.dumps({"data": [[1.0, 2.0, 3.0]]}).encode()


def replicas_of(server: Server) -> list[psutil.Process]:
    found = []
    for process in server.tree():
        try:
            if "modelport.engine.replica" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.prove
def test_kill_of_replicas_under_load_fails_no_request(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.deploy("digits", onnx_models.mlp((3, 64, 2)), replicas=2)
    rng = random.Random(1)
    expected = None
    with Load(server.url, "/predict/digits", ROW, expected, callers=8) as load:
        for _ in range(REPLICA_KILLS):
            time.sleep(rng.uniform(0.2, 1.0))
            victims = replicas_of(server)
            if victims:
                rng.choice(victims).kill()
        time.sleep(1)
    print(f"{REPLICA_KILLS} kills, {load.sent} requests, {len(load.failures)} failed, longest {load.longest_s:.2f} s")
    assert load.sent > 100 * REPLICA_KILLS
    assert "ended by SIGKILL" in (server.home / "logs" / "control.log").read_text()
    assert load.failures == []


@pytest.mark.long
def test_a_stopped_replica_is_found_and_its_work_is_done_by_another(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.deploy("digits", onnx_models.mlp((3, 64, 2)), replicas=2)
    with Load(server.url, "/predict/digits", ROW, callers=4) as load:
        time.sleep(0.5)
        victim = replicas_of(server)[0]
        victim.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 20
        while victim.is_running() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not victim.is_running()
        time.sleep(0.5)
    assert load.failures == []


def test_predictions_go_on_without_control_and_it_comes_back(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.deploy("digits", onnx_models.mlp((3, 8, 2)), replicas=1)
    before = replicas_of(server)[0].pid
    with Load(server.url, "/predict/digits", ROW, callers=2) as load:
        next(p for p in server.tree() if "modelport.api.control" in p.cmdline()).kill()
        time.sleep(0.3)
        deadline = time.monotonic() + 30
        with server.client() as client:
            while time.monotonic() < deadline:
                try:
                    seen = client.deployments.get("digits")
                except errors.ModelportError:
                    time.sleep(0.1)
                    continue
                if seen.state == "ready":
                    break
                time.sleep(0.1)
        assert seen.state == "ready"
    assert load.failures == []
    assert [p.pid for p in replicas_of(server)] == [before], "the replica goes on, and no second one is started"


def test_a_dead_gateway_comes_back(own_server: Callable[..., Server]) -> None:
    server = own_server("--gateways", "1")
    server.deploy("digits", onnx_models.mlp((3, 8, 2)))
    next(p for p in server.tree() if "modelport.api.gateway" in p.cmdline()).kill()
    with Load(server.url, "/predict/digits", ROW, callers=1) as load:
        time.sleep(4)
    assert load.sent - len(load.failures) > 100
    assert all("Connection" in failure or "503" in failure for failure in load.failures)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


@dataclass
class Writer:
    """Pushes, moves an alias and deploys, as fast as it can; remembers what was acknowledged."""

    server: Server
    folder: Path
    pushed: set[int] = field(default_factory=set)
    alias: int | None = None
    alias_tried: int | None = None
    deployed: int | None = None
    deploy_tried: int | None = None
    seed: int = 0
    surprises: list[str] = field(default_factory=list)

    def run(self, until: threading.Event) -> None:
        client = self.server.client(timeout=5)
        path = self.folder / "model.onnx"
        while not until.is_set():
            self.seed += 1
            path.write_bytes(onnx_models.mlp((3, 8, 2), seed=self.seed))
            try:
                version = client.models.push(path, "crash").version
                self.pushed.add(version)
                self.alias_tried = version
                client.models.alias("crash", "champion", version)
                self.alias = version
                self.deploy_tried = version
                client.deploy("crash", version=version, wait=False)
                self.deployed = version
            except errors.ModelportError as error:
                if not until.is_set() and error.status not in (503, 500):
                    self.surprises.append(repr(error))
                return
            except Exception:
                return  # the server was killed under it


def check(server: Server, writer: Writer, folder: Path) -> None:
    """Nothing acknowledged is missing, and nothing half there."""
    with server.client() as client:
        found = {v.version: v for v in client.models.versions("crash")} if writer.pushed else {}
        assert writer.pushed <= set(found), f"lost versions {writer.pushed - set(found)}"
        for number in sorted(found)[-3:]:
            client.models.pull("crash", number, folder / f"pulled-{number}-{random.random()}")  # verifies the hashes
        if writer.alias is not None:
            assert client.models.get("crash").aliases["champion"] in (writer.alias, writer.alias_tried)
        if writer.deployed is not None:
            seen = client.deployments.get("crash")
            assert seen.version in (writer.deployed, writer.deploy_tried)
            deadline = time.monotonic() + 40
            while seen.state != "ready" and time.monotonic() < deadline:
                time.sleep(0.1)
                seen = client.deployments.get("crash")
            assert seen.state == "ready", seen
            assert client.predict("crash", [[1.0, 2.0, 3.0]]).shape == (1, 2)


@pytest.mark.prove
@pytest.mark.timeout(3600)
def test_kill_of_the_whole_tree_loses_nothing(own_server: Callable[..., Server], tmp_path: Path) -> None:
    rng = random.Random(7)
    server = own_server(home=tmp_path / "home")
    writer = Writer(server, tmp_path)
    began = time.monotonic()
    server.push("crash", onnx_models.mlp((3, 8, 2)))
    cycle = 2 * (time.monotonic() - began)  # of a push, an alias and a deployment, on this machine as busy as it is
    for number in range(TREE_KILLS):
        until = threading.Event()
        thread = threading.Thread(target=writer.run, args=(until,))
        thread.start()
        if number == 0:
            wait_for(lambda: bool(writer.pushed))  # at least one is acknowledged
        time.sleep(rng.uniform(0.05, 2.5 * cycle))
        server.kill()
        until.set()
        thread.join(timeout=30)
        assert not writer.surprises
        server.start()
        check(server, writer, tmp_path)
        print(f"kill {number + 1}: {len(writer.pushed)} versions acknowledged, all there")
    assert writer.pushed
