"""What serving adds to a model: a real server with default settings and one key, a small MLP, four doors.

    python benchmarks/overhead.py [--seconds 5] [--callers 1 16 64]

Prints requests/s, latency, processor time per request of each process, memory, and the time from a command to its
first answer; beside them the same model in ONNX Runtime without any server.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import psutil
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import load  # noqa: E402
from tests import onnx_models  # noqa: E402

from modelport.api.proto import message  # noqa: E402

SIZES = (64, 128, 10)
ROW = np.random.default_rng(0).random((1, SIZES[0]), dtype=np.float32).round(4)
COMMAND = str(Path(sys.executable).parent / "modelport")


@dataclass(frozen=True)
class Server:
    """A running server and the key to it."""

    home: Path
    host: str
    port: int
    grpc: str
    key: str
    pid: int

    def processes(self) -> dict[str, psutil.Process]:
        """The tree by role: ``gateway 1``, ``replica 1``, …"""
        root = psutil.Process(self.pid)
        found = {"supervisor": root}
        for process in sorted(root.children(recursive=True), key=lambda p: p.pid):
            argv = process.cmdline()
            named = (one for one in argv[1:] if one.startswith("modelport.") and one != "modelport.starting")
            role = next(named, argv[0]).rpartition(".")[2]
            number = sum(name.startswith(role) for name in found) + 1
            found[role if role == "control" else f"{role} {number}"] = process
        return found

    def shot(self, path: str, body: bytes, **headers: str) -> load.Shot:
        every = {"authorization": f"Bearer {self.key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return load.Shot(self.host, self.port, path, every, body)


def _modelport(home: Path, *argv: str) -> str:
    env = {**os.environ, "MODELPORT_HOME": str(home)}
    return subprocess.run([COMMAND, *argv], env=env, check=True, capture_output=True, text=True).stdout


@contextmanager
def serving(home: Path) -> Iterator[Server]:
    """Default settings but for free ports; one key; M1 deployed."""
    _modelport(home, "up", "--detach", "--port", "0", "--grpc-port", "0")
    try:
        model = home / "m1.onnx"
        model.write_bytes(onnx_models.mlp(SIZES))
        key = json.loads(_modelport(home, "keys", "create", "--name", "bench", "--json"))["secret"]
        _modelport(home, "push", str(model), "--name", "m1")
        _modelport(home, "deploy", "m1")
        found = json.loads((home / "run" / "endpoint.json").read_text())
        address = urlsplit(found["url"])
        yield Server(home, address.hostname or "", address.port or 0, found["grpc"], key, found["pid"])
    finally:
        _modelport(home, "down")


def doors(server: Server) -> dict[str, Any]:
    """What is measured: by name, a function of callers and seconds."""
    shape = {"name": "input", "shape": [1, SIZES[0]], "datatype": "FP32"}
    as_json = json.dumps({"inputs": [{**shape, "data": ROW[0].tolist()}]}).encode()
    raw = ROW.tobytes()
    head = json.dumps(
        {
            "inputs": [{**shape, "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    binary = server.shot(
        "/v2/models/m1/infer",
        head + raw,
        content_type="application/octet-stream",
        inference_header_content_length=str(len(head)),
    )
    text = server.shot("/v2/models/m1/infer", as_json, content_type="application/json")
    rows = json.dumps({"data": ROW.tolist()}).encode()
    predict = server.shot("/predict/m1", rows, content_type="application/json")
    infer = message("ModelInferRequest")(model_name="m1", raw_input_contents=[raw])
    infer.inputs.add(**shape)
    call, metadata = infer.SerializeToString(), {"authorization": f"Bearer {server.key}"}
    method = "/inference.GRPCInferenceService/ModelInfer"
    return {
        "V2 JSON": lambda callers, seconds: load.http(text, callers, seconds),
        "V2 binary": lambda callers, seconds: load.http(binary, callers, seconds),
        "/predict": lambda callers, seconds: load.http(predict, callers, seconds),
        "gRPC": lambda callers, seconds: load.grpc(server.grpc, method, call, metadata, callers, seconds),
    }


def cpu_by_role(server: Server) -> dict[str, float]:
    """Processor seconds used up to now, by role without its number."""
    used: dict[str, float] = {}
    for name, process in server.processes().items():
        times = process.cpu_times()
        role = name.partition(" ")[0]
        used[role] = used.get(role, 0) + times.user + times.system
    return used


def throughput(server: Server, callers: list[int], seconds: float, console: Console) -> None:
    columns = ("door", "callers", "req/s", "p50 ms", "p99 ms", "failed", "gateways µs/req", "replica µs/req")
    table = Table(*columns, title=f"MLP {SIZES}, one row a request; HTTP by {load.tool()}, gRPC by grpc.aio")
    for name, send in doors(server).items():
        send(4, 1.0)
        for count in callers:
            before = cpu_by_role(server)
            found = send(count, seconds)
            after = cpu_by_role(server)
            cost = {role: 1e6 * (after[role] - before.get(role, 0)) / found.requests for role in after}
            table.add_row(
                name, str(count), f"{found.rate:,.0f}", f"{found.p50:.2f}", f"{found.p99:.2f}", str(found.failed),
                f"{cost['gateway']:.0f}", f"{cost['replica']:.0f}",
            )  # fmt: skip
    console.print(table)
    console.print(f"raw ONNX Runtime, one thread, in a loop: {raw_runtime():,.0f} runs/s\n")


def raw_runtime(seconds: float = 2.0) -> float:
    """Runs per second of the model without a server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_models.mlp(SIZES), options, providers=["CPUExecutionProvider"])
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        session.run(None, {"input": ROW})
        count += 1
    return count / spent


def memory(server: Server, console: Console) -> None:
    table = Table("process", "PSS MB", "RSS MB", title="Memory after the load (PSS counts shared pages once)")
    total = 0.0
    for name, process in server.processes().items():
        found = process.memory_full_info()
        total += found.pss
        table.add_row(name, f"{found.pss / 1e6:.0f}", f"{found.rss / 1e6:.0f}")
    table.add_row("all", f"{total / 1e6:.0f}", "")
    console.print(table)


def cold_starts(home: Path, console: Console, runs: int = 5) -> None:
    """From a command to the first 200: ``up`` on a home where m1 is deployed, ``serve`` on the file."""
    table = Table("command", "first 200 of", "median s", "fastest", "slowest", title=f"Cold start, {runs} runs each")
    key = json.loads(_modelport(home, "keys", "create", "--name", "cold", "--json"))["secret"]
    serve = [COMMAND, "serve", str(home / "m1.onnx")]
    up = [COMMAND, "up", "--grpc-port", "0"]
    for name, argv, path in (
        ("modelport up", up, "/v2/health/live"),
        ("modelport up", up, "/predict/m1"),
        ("modelport serve FILE", serve, "/predict/m1"),
    ):
        times = sorted(_first_answer(argv, home, path, key) for _ in range(runs))
        table.add_row(name, path, f"{times[runs // 2]:.2f}", f"{times[0]:.2f}", f"{times[-1]:.2f}")
    console.print(table)


def _first_answer(argv: list[str], home: Path, path: str, key: str) -> float:
    port = _free_port()
    url, body = f"http://127.0.0.1:{port}{path}", json.dumps({"data": ROW.tolist()}).encode()
    asked = urllib.request.Request(url, body if "predict" in path else None)
    if "up" in argv:
        asked.add_header("authorization", f"Bearer {key}")
    env = {**os.environ, "MODELPORT_HOME": str(home)}
    start = time.perf_counter()
    process = subprocess.Popen(
        [*argv, "--port", str(port)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - start < 60:
            if process.poll() is not None:
                raise RuntimeError(f"{argv} ended with code {process.returncode}")
            try:
                with urllib.request.urlopen(asked, timeout=5):
                    return time.perf_counter() - start
            except (urllib.error.URLError, OSError):
                time.sleep(0.002)
        raise TimeoutError(f"{argv} did not answer")
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    import socket  # noqa: PLC0415

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16, 64])
    options = parser.parse_args()
    console = Console(width=110)
    load_now = os.getloadavg()[0]
    console.print(f"{datetime.date.today()}, {os.cpu_count()} cores, load average {load_now:.1f} at the start\n")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        with serving(home) as server:
            throughput(server, options.callers, options.seconds, console)
            memory(server, console)
        cold_starts(home, console)


if __name__ == "__main__":
    main()
