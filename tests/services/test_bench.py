"""``modelport bench`` against a real server, as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import onnx_models
from tests.services.conftest import Server
from tests.services.served import serve
from tests.services.test_cli import command

SHORT = ("--duration", "1", "--warmup", "0.2")

pytestmark = pytest.mark.xdist_group("bench")


@pytest.fixture(scope="module")
def model(server: Server) -> Iterator[str]:
    """A small deployed classifier."""
    server.deploy("loaded", onnx_models.mlp())
    yield "loaded"
    with server.client() as client:
        client.undeploy("loaded")


def bench(server: Server, *arguments: str) -> dict[str, Any]:
    done = command(server.home, "bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("protocol", ["predict", "v2", "v2-binary", "v1", "grpc"])
def test_every_protocol(server: Server, model: str, protocol: str) -> None:
    found = bench(server, model, "--rate", "60,30", "--protocol", protocol, *SHORT)
    assert (found["protocol"], found["mode"]) == (protocol, "open loop, Poisson arrivals")
    assert [step["load"] for step in found["steps"]] == ["30/s", "60/s"]
    for step in found["steps"]:
        assert step["ok"] == step["requests"] > 10 and not step["errors"], step
        assert 0 < step["latency_ms"]["p50"] <= step["latency_ms"]["max"]
        assert step["batch_rows"] >= 1 and step["queue_ms"] >= 0


def test_callers_a_file_and_a_page(server: Server, model: str, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 1, 1]]")
    page = tmp_path / "page.html"
    options = ("--input", str(tmp_path / "rows.json"), "--html", str(page), "--slo-p99", "5s")
    found = bench(server, model, "--callers", "1,4", *options, *SHORT)
    assert [step["callers"] for step in found["steps"]] == [1, 4]
    assert found["steps"][0]["batch_rows"] == pytest.approx(3)  # each request has three rows
    assert found["greatest_load_within_slo"] == "4 callers"
    assert "</svg>" in page.read_text()


def test_a_log_is_replayed(server: Server, model: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"time": n / 50, "path": "/predict/loaded", "body": {"data": [[1, 2, 3, n]]}} for n in range(40)]
    log.write_text("\n".join(map(json.dumps, [*lines, {"time": 0.9}, {"time": 1, "path": "/predict/nosuch"}])))
    (step,) = bench(server, model, "--replay", str(log), "--speed", "2")["steps"]
    assert step["load"] == "log x 2" and 0.4 < step["seconds"] < 0.6
    assert (step["ok"], step["requests"]) == (41, 42)
    assert [text[:4] for text in step["errors"]] == ["404 "]


def test_the_text_has_a_table_and_bars(server: Server, model: str) -> None:
    done = command(server.home, "bench", model, "--rate", "150", "--slo-p99", "10s", *SHORT)
    assert done.returncode == 0, done.stderr
    for part in ("OFFERED", "P99.9", "QUEUE", "150/s", "█", "kept up to 150/s", "open loop, Poisson arrivals"):
        assert part in done.stdout


@pytest.mark.long
def test_auto_goes_beyond_the_capacity(server: Server) -> None:
    server.deploy("slowish", onnx_models.slow(10), max_batch=1)
    found = bench(server, "slowish", "--duration", "1", "--warmup", "0.2")
    assert 20 < found["capacity"] < 110
    assert len(found["steps"]) == 11
    assert found["steps"][0]["ok"] > 0 and not found["steps"][0]["errors"]
    with server.client() as client:
        client.undeploy("slowish")


def test_what_is_wrong_is_said_once(server: Server, model: str, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"time": 0, "path": "/predict/nosuch", "body": [[1]]}\n' * 50)
    for arguments, message in (
        (("nosuch",), "the model 'nosuch' does not exist"),
        ((model, "--input", "[[1, 2]]"), "the model takes [-1, 4]"),
        ((model, "--input", '["a"]'), "text given"),
        ((model, "--replay", str(tmp_path / "log.jsonl")), "nosuch"),
        ((f"{model}:1", "--protocol", "predict"), "an endpoint's name alone"),
        ((model, "--protocol", "grpc", "--grpc", "127.0.0.1:1", "--timeout", "2"), "no gRPC server answers"),
    ):
        began = time.monotonic()
        done = command(server.home, "bench", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), arguments
        assert message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        assert time.monotonic() - began < 20


def test_a_callers_key_measures_without_the_servers_figures(own_server: Callable[..., Server]) -> None:
    server = own_server()
    server.deploy("closed", onnx_models.mlp())
    with server.client() as client:
        key = client.keys.create("bench", role="caller")
    (step,) = bench(server, "closed", "--rate", "30", "--key", key.secret, *SHORT)["steps"]
    assert step["ok"] == step["requests"] and step["batch_rows"] is None
    done = command(server.home, "bench", "closed", "--protocol", "grpc", "--key", key.secret)
    assert done.returncode == 1 and "--grpc HOST:PORT" in done.stderr
    done = command(server.home, "bench", "closed", "--key", "nonsense")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_ctrl_c_prints_what_was_measured(server: Server, model: str) -> None:
    argv = [sys.executable, "-m", "modelport.cli.main", "bench", model, "--rate", "50,100", "--duration", "60"]
    env = {**os.environ, "MODELPORT_HOME": str(server.home)}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        time.sleep(6)
        running.send_signal(signal.SIGINT)
        printed, complaints = running.communicate(timeout=20)
    assert running.returncode == 130 and not complaints, complaints
    assert "50/s" in printed and "stopped by Ctrl-C" in printed and "100/s" not in printed
    offered, achieved = (float(text) for text in printed.split("50/s", 1)[1].split()[:2])
    assert offered == pytest.approx(50, rel=0.5) and achieved == pytest.approx(offered, rel=0.1)


def test_a_served_file(tmp_path: Path) -> None:
    (tmp_path / "mlp.onnx").write_bytes(onnx_models.mlp())
    with serve(tmp_path / "mlp.onnx", tmp_path) as served:
        for more in ((), ("--protocol", "grpc", "--grpc", served.grpc)):
            done = command(tmp_path, "bench", "mlp", "--url", served.url, "--rate", "50", *SHORT, *more, "--json")
            assert done.returncode == 0, done.stderr
            (step,) = json.loads(done.stdout)["steps"]
            assert step["ok"] == step["requests"] > 20 and step["batch_rows"] >= 1
        done = command(tmp_path, "bench", "mlp", "--url", served.url, "--protocol", "grpc")
        assert done.returncode == 1 and "--grpc HOST:PORT" in done.stderr
