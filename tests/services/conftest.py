"""Real servers, started as a user starts them, tested from outside over real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelport import Client
from tests import job_kinds
from tests.services.served import Served, serve, talking_weights

_START_S = 60
_SHARED = pytest.StashKey["Server"]()


@dataclass
class Server:
    """A running tree with a home of its own."""

    home: Path
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> dict[str, Any]:
        return json.loads((self.home / "run" / "endpoint.json").read_text())

    @property
    def url(self) -> str:
        return self.endpoint["url"]

    @property
    def grpc(self) -> str:
        return self.endpoint["grpc"]

    @property
    def token(self) -> str:
        return self.endpoint["token"]

    def client(self, **options: Any) -> Client:
        return Client(self.url, self.token, **options)

    def cli(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A command of somebody who has this server's address and key."""
        argv = [sys.executable, "-m", "modelport.cli.main", *arguments]
        full = {**os.environ, **env, "MODELPORT_URL": self.url, "MODELPORT_KEY": self.token}
        return subprocess.run(argv, capture_output=True, text=True, env=full, timeout=60)

    def start(self) -> Server:
        log = self.home / "up.log"
        self.home.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "modelport.cli.main", "up", "--port", "0", "--grpc-port", "0", *self.flags]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                argv, stdout=out, stderr=out, env={**os.environ, **self.env, "MODELPORT_HOME": str(self.home)}
            )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, log.read_text()
            try:
                if self.endpoint["pid"] == self.process.pid:
                    self.client().status()
                    return self
            except Exception:
                time.sleep(0.05)
        raise AssertionError(f"the server did not come up: {log.read_text()}")

    def tree(self) -> list[psutil.Process]:
        """All processes under the supervisor."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def kill(self) -> None:
        """kill -9 of the root; the kernel ends the rest."""
        assert self.process is not None
        children = self.tree()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, alive

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        children = self.tree()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        finally:
            self.process.kill()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, f"left behind: {alive}"

    def push(self, name: str, content: bytes, **options: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(content)
            with self.client() as client:
                return client.models.push(path, name, **options)

    def deploy(self, name: str, content: bytes, **spec: Any) -> Any:
        """Push a model and serve it; returns when it is ready."""
        self.push(name, content)
        with self.client() as client:
            return client.deploy(name, **spec)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Server]:
    """One server shared by the tests of a worker: each uses names of its own, and none makes a key."""
    found = pytestconfig.stash[_SHARED] = Server(tmp_path_factory.mktemp("home")).start()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def shared_server_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """The first key closes a server to callers without one: who makes it on the shared one fails, not the next test."""
    yield
    shared = request.config.stash.get(_SHARED, None)
    if shared is not None and request.node.funcargs.get("server") is shared:
        with shared.client() as client:
            assert not client.keys.list(), "a test that makes keys needs a server of its own"


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Servers of one test alone, which it may kill; called with flags and environment."""
    started: list[Server] = []

    def start(*flags: str, home: Path | None = None, **env: str) -> Server:
        started.append(Server(home or tmp_path / f"home{len(started)}", flags, env).start())
        return started[-1]

    yield start
    for found in started:
        found.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a folder with room for so many MB, where this user may."""
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]
        if subprocess.run(argv, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="session")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """SmolLM2-135M as the endpoint ``smollm2``, shared: a start costs seconds. Of the xdist group "language"."""
    pytest.importorskip("openvino_genai")
    with serve(talking_weights(), tmp_path_factory.mktemp("language"), "--name", "smollm2") as found:
        yield found


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the kinds of the tests, shared."""
    folder = tmp_path_factory.mktemp("jobs")
    env = {**job_kinds.install(folder / "kinds"), "MODELPORT_JOBS_CORES": "2", "MODELPORT_JOBS_BACKOFF_S": "0.1"}
    found = Server(folder / "home", ("--gateways", "1"), {**env, "MODELPORT_JOBS_GRACE_S": "1"}).start()
    yield found
    found.stop()


@pytest.fixture
def call(job_server: Server) -> Any:
    """Plain HTTP to it."""
    from tests.services.job_calls import Caller

    return Caller(job_server)


@pytest.fixture
def own_job_server(own_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Servers with the kinds of the tests that one test may kill."""

    def start(**env: str) -> Server:
        known = {**job_kinds.install(tmp_path / "kinds"), "MODELPORT_JOBS_BACKOFF_S": "0.1"}
        return own_server("--gateways", "1", **{**known, **env})

    return start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of differences, when its tests ran in this process."""
    measured = sys.modules.get("tests.services.differences")
    if measured is not None and (table := measured.TABLE.markdown()):
        terminalreporter.section("greatest difference from the library's own answer")
        terminalreporter.write_line(table)
