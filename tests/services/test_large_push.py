"""A push far larger than the memory of anybody on its way: constant memory, sent once, and no trace of half a push."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper

from tests import onnx_models
from tests.services.conftest import Server

SIZE_MB = 5000 if os.environ.get("MODELPORT_PROVE") else 300
GROWTH_MB = 150
PIECE_MB = 50

pytestmark = [pytest.mark.prove, pytest.mark.timeout(1800), pytest.mark.xdist_group("large")]

#: A client that pushes sys.argv[2] and is killed at 40 % of the upload.
_DOOMED = """
import os, signal, sys
from modelport import Client
def die(stage, done, total):
    if stage == "upload" and done > 0.4 * total > 0:
        os.kill(os.getpid(), signal.SIGKILL)
Client(sys.argv[1]).models.push(sys.argv[2], "cut", progress=die)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an ONNX model and one file of external data of SIZE_MB."""
    folder = tmp_path_factory.mktemp("large")
    random, count = np.random.default_rng(0), SIZE_MB // PIECE_MB
    weights, nodes, last = [], [], "input"
    with (folder / "weights.bin").open("wb") as file:
        for index in range(count):
            piece = random.random(PIECE_MB * 250_000, dtype=np.float32)
            piece[0] = 0
            tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=piece.shape)
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": "weights.bin", "offset": str(file.tell()), "length": str(piece.nbytes)}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=value)
            file.write(piece.data)
            weights.append(tensor)
            nodes += [
                helper.make_node("Gather", [f"w{index}", "first"], [f"n{index}"]),
                helper.make_node("Add", [last, f"n{index}"], [last := f"s{index}"]),
            ]
    nodes.append(helper.make_node("Identity", [last], ["output"]))
    weights.append(onnx_models.constant("first", np.array([0])))
    ends = [onnx_models.value(name, "FP32", (-1, 1)) for name in ("input", "output")]
    (folder / "model.onnx").write_bytes(onnx_models.model(nodes, ends[:1], ends[1:], weights).SerializeToString())
    yield folder
    for file_ in folder.iterdir():
        file_.unlink()


class Watch:
    """The largest resident memory of processes, MB by name, while the block runs."""

    def __init__(self, server: Server) -> None:
        self.peaks: dict[str, float] = {}
        self._named = {_role(process): process for process in server.tree()}
        self._over = threading.Event()

    def add(self, name: str, pid: int) -> None:
        self._named[name] = psutil.Process(pid)

    @contextmanager
    def running(self) -> Iterator[Watch]:
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            for name, process in list(self._named.items()):
                try:
                    mb = process.memory_info().rss / 1e6
                except psutil.Error:  # it has ended
                    continue
                self.peaks[name] = max(mb, self.peaks.get(name, 0))


def _role(process: psutil.Process) -> str:
    argv = process.cmdline()
    module = next((one for one in argv[1:] if one.startswith("modelport.") and one != "modelport.starting"), argv[0])
    return f"{module.rpartition('.')[2]} {process.pid}"


def _push(server: Server, path: Path, name: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Push by the command line: what it says, and the peaks of the client and of the server's processes, MB."""
    argv = [sys.executable, "-m", "modelport.cli.main", "push", path, "--name", name, "--json", "--url", server.url]
    watch = Watch(server)
    with watch.running():
        client = subprocess.Popen([str(arg) for arg in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        watch.add("client", client.pid)
        out, err = client.communicate()
    assert client.returncode == 0, err.decode()
    return json.loads(out), watch.peaks


def _files(folder: Path) -> dict[str, int]:
    """Sizes by path of what lies in the store, its staging place included."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_large_push_takes_constant_memory_and_is_sent_once(
    own_server: Callable[..., Server], large: Path, tmp_path: Path
) -> None:
    server = own_server()
    small = tmp_path / "small"
    small.mkdir()
    onnx_models.with_external_data(small)
    _, before = _push(server, small, "small")
    made, peaks = _push(server, large, "large")
    growth = {name: round(peak - before[name]) for name, peak in peaks.items()}
    print(f"{made['size'] / 1e9:.2f} GB pushed; growth over a small push, MB: {growth}")
    assert made["size"] > SIZE_MB * 1e6
    assert {name.partition(" ")[0] for name in growth} == {"client", "control", "gateway"}
    assert max(growth.values()) < GROWTH_MB

    stored = _files(server.home / "artifacts")
    uploads: list[int] = []
    with server.client(timeout=600) as client:
        again = client.models.push(
            large, "large", progress=lambda stage, done, total: uploads.append(total) if stage == "upload" else None
        )
        assert again.version == 2
        assert again.digest == made["digest"]
    assert set(uploads) == {0}, "the second push has nothing to send"
    assert _files(server.home / "artifacts") == stored


@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.long
def test_a_push_that_is_cut_off_leaves_nothing(own_server: Callable[..., Server], large: Path, victim: str) -> None:
    server = own_server(MODELPORT_ARTIFACTS_GC_GRACE_S="0")
    if victim == "client":
        done = subprocess.run([sys.executable, "-c", _DOOMED, server.url, large], capture_output=True)
        assert done.returncode == -9, done.stderr
    else:
        _kill_the_server_during_a_push(server, large)
        server.start()
    with server.client(timeout=600) as client:
        assert [model.name for model in client.models.list()] == []
        _wait_until(lambda: client.gc() is not None and not _files(server.home / "artifacts"))
        assert client.gc().blobs == 0
        made = client.models.push(large, "cut")
        assert made.version == 1
        assert client.gc().blobs == 0, "what a version needs stays"


def _kill_the_server_during_a_push(server: Server, large: Path) -> None:
    killed = []

    def kill(stage: str, done: int, total: int) -> None:
        if stage == "upload" and done > 0.4 * total > 0 and not killed:
            killed.append(done)
            server.kill()

    with server.client() as client, pytest.raises(Exception, match="connect|closed|answer|reach|disconnect"):
        client.models.push(large, "cut", progress=kill)
    assert killed
    assert sum(_files(server.home / "artifacts").values()) > 0, "half an upload lies there"


def _wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
