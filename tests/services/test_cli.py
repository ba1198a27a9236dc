"""The commands against a real server, as a person types them."""

from __future__ import annotations

import io
import json
import os
import pickle
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.sdk.endpoint import local_server
from tests import onnx_models
from tests.services.conftest import Server

Run = Callable[..., Any]


def command(home: Path, *arguments: str, text: bool = True, **options: Any) -> subprocess.CompletedProcess[Any]:
    hidden = ("MODELPORT_URL", "MODELPORT_KEY", "MODELPORT_DEBUG")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    env |= {"MODELPORT_HOME": str(home)} | options.pop("env", {})
    argv = [sys.executable, "-m", "modelport.cli.main", *arguments]
    return subprocess.run(argv, capture_output=True, text=text, env=env, timeout=120, **options)


@pytest.fixture
def run(server: Server) -> Run:
    """A command that must succeed; gives what it printed."""

    def call(*arguments: str, **options: Any) -> Any:
        done = command(server.home, *arguments, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


@pytest.fixture
def refuse(server: Server) -> Run:
    """A command that must fail; gives its error line."""

    def call(*arguments: str) -> str:
        done = command(server.home, *arguments)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    return call


@pytest.fixture
def mlp(tmp_path: Path) -> str:
    """A small classifier in a file."""
    (tmp_path / "mlp.onnx").write_bytes(onnx_models.mlp())
    return str(tmp_path / "mlp.onnx")


def test_from_a_file_to_a_prediction_and_away_again(run: Run, refuse: Run, mlp: str, tmp_path: Path) -> None:
    labels = ("--label", "team=vision", "--metric", "acc=0.9", "--classes", "ant,bee,cat", "--alias", "champion")
    pushed = run("push", mlp, "--name", "walk", *labels)
    assert pushed.splitlines()[0] == "walk:1"
    for part in ("onnx", "input FP32[-1, 4]", "output FP32[-1, 3]", "ant, bee, cat", "team=vision", "champion"):
        assert part in pushed
    deployed = run("deploy", "walk@champion", "--replicas", "2", "--max-batch", "16", "--env", "A=b")
    assert "walk is ready: walk:1, 2 replicas ready" in deployed
    curl = "curl " + deployed.partition("\ncurl ")[2]
    answer = subprocess.run(["bash", "-c", curl], capture_output=True, check=True)
    assert json.loads(answer.stdout)["outputs"][0]["shape"] == [1, 3]

    shown = json.loads(run("deployments", "show", "walk", "--json"))
    assert (shown["alias"], shown["spec"]["replicas"], shown["spec"]["env"]) == ("champion", 2, {"A": "b"})
    assert "walk:1 (@champion)" in run("status")
    assert "champion=1" in run("models", "list")
    assert run("logs", "walk", "--tail", "2")
    assert "still" not in refuse("models", "delete", "walk:1")
    run("undeploy", "walk")
    assert "no endpoint 'walk'" in refuse("predict", "walk", "[[1,2,3,4]]")
    run("models", "unalias", "walk", "champion")
    run("models", "delete", "walk", "--yes")
    assert "walk" in refuse("models", "show", "walk")


def test_predict_takes_every_form(run: Run, refuse: Run, mlp: str, tmp_path: Path) -> None:
    run("push", mlp, "--name", "forms", "--classes", "ant,bee,cat")
    run("deploy", "forms")
    rows = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", input=rows)
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b,c,d", comments="")
    (tmp_path / "rows.json").write_text(json.dumps({"data": rows.tolist()}))
    inline = json.dumps(rows.tolist())
    want = json.loads(run("predict", "forms", inline))
    assert np.array(want).shape == (2, 3)
    for file in ("rows.npy", "rows.npz", "rows.csv", "rows.json"):
        assert json.loads(run("predict", "forms", str(tmp_path / file))) == want, file
    assert json.loads(run("predict", "forms", "-", input=inline)) == want
    raw = run("predict", "forms", inline, "--output", "npy", text=False)
    np.testing.assert_allclose(np.load(io.BytesIO(raw)), want)
    best = json.loads(run("predict", "forms", str(tmp_path / "rows.npy"), "--top-k", "1"))
    assert [row[0]["label"] for row in best] == [["ant", "bee", "cat"][int(np.argmax(row))] for row in want]
    assert "LABEL" in run("predict", "forms", inline, "--top-k", "2", "--output", "table")
    assert "shape [1, 3] given" in refuse("predict", "forms", "[1, 2, 3]")
    assert "text given" in refuse("predict", "forms", '["a"]')


def test_push_refuses_what_is_no_model(refuse: Run, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"weights": [1.0] * 100}))
    assert "pickle" in refuse("push", str(tmp_path / "model.pkl"), "--name", "bad").lower()
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    assert refuse("push", str(tmp_path / "model.onnx"), "--name", "bad").startswith("error: ")
    assert "name" in refuse("push", str(tmp_path / "model.onnx"), "--name", "../bad")


def test_apply_is_idempotent(run: Run, refuse: Run, mlp: str, tmp_path: Path) -> None:
    run("push", mlp, "--name", "applied")
    file = tmp_path / "all.yaml"
    file.write_text("model: applied\nspec: {replicas: 1}\n---\nmodel: applied\nname: applied-two\nspec: {threads: 2}\n")
    first = run("apply", "-f", str(file))
    assert "applied is ready: applied:1 as revision 1" in first
    assert run("apply", "-f", str(file)) == first
    assert run("apply", "-f", "-", input=file.read_text()) == first
    file.write_text("model: nowhere\n")
    assert "nowhere" in refuse("apply", "-f", str(file))
    run("undeploy", "applied")
    run("undeploy", "applied-two")


def test_versions_aliases_labels_and_pull(run: Run, refuse: Run, mlp: str, tmp_path: Path) -> None:
    run("push", mlp, "--name", "kept")
    run("push", mlp, "--name", "kept", "--alias", "champion")
    run("models", "alias", "kept", "champion", "1")
    run("models", "tag", "kept:1", "stage=tested", "by=me")
    run("models", "untag", "kept:1", "by")
    versions = json.loads(run("models", "versions", "kept", "--json"))
    assert [(v["version"], v["aliases"], v["labels"]) for v in versions] == [
        (2, [], {}),
        (1, ["champion"], {"stage": "tested"}),
    ]
    run("models", "pull", "kept@champion", str(tmp_path / "out"))
    assert (tmp_path / "out" / "mlp.onnx").read_bytes() == Path(mlp).read_bytes()
    assert "kept:1" in run("models", "lineage", "kept@champion")
    run("models", "delete", "kept:2")
    assert "kept" in refuse("models", "show", "kept:2")
    assert "removed" in run("models", "gc")


def test_stop_start_rollback(run: Run, refuse: Run, mlp: str) -> None:
    run("push", mlp, "--name", "moved")
    run("deploy", "moved")
    run("push", mlp, "--name", "moved")
    assert "moved:2" in run("deploy", "moved")
    assert "moved:1 as revision 3" in run("deployments", "rollback", "moved")
    run("deployments", "stop", "moved")
    assert "stopped" in run("deployments", "list")
    assert refuse("predict", "moved", "[[1,2,3,4]]")
    assert "moved is ready" in run("deployments", "start", "moved")
    assert run("predict", "moved", "[[1,2,3,4]]")
    run("undeploy", "moved")


def test_logs_follow_what_is_written_later(server: Server, run: Run, mlp: str) -> None:
    run("push", mlp, "--name", "told")
    run("deploy", "told")
    argv = [sys.executable, "-m", "modelport.cli.main", "logs", "told", "-f", "--tail", "0"]
    env = {**os.environ, "MODELPORT_HOME": str(server.home)}
    heard: list[str] = []
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, env=env, **pipes) as follower, server.client() as client:
        assert follower.stdout is not None and follower.stderr is not None
        listener = threading.Thread(target=lambda stream=follower.stdout: heard.append(stream.readline()))
        listener.start()
        try:
            deadline = time.monotonic() + 60
            while not heard and time.monotonic() < deadline:
                client.infer("told", {"input": np.ones((1, 4), np.float32)}, request_id="seen")
                time.sleep(0.1)
            follower.send_signal(signal.SIGINT)  # how it is meant to end, so no error
            assert (follower.wait(timeout=30), follower.stderr.read()) == (0, "")
        finally:
            follower.kill()
            listener.join()
    assert "seen" in heard[0]
    run("undeploy", "told")


def test_a_watched_status_ends_with_ctrl_c(server: Server) -> None:
    argv = [sys.executable, "-m", "modelport.cli.main", "status", "--watch"]
    env = {**os.environ, "MODELPORT_HOME": str(server.home), "TERM": "xterm"}
    ours, terminal = pty.openpty()
    try:
        with subprocess.Popen(argv, env=env, stdout=terminal, stderr=subprocess.PIPE, text=True) as watching:
            shown = b""
            while b"process" not in shown:
                assert select.select([ours], [], [], 60)[0], shown
                shown += os.read(ours, 4096)
            watching.send_signal(signal.SIGINT)
            _, error = watching.communicate(timeout=30)
    finally:
        os.close(ours)
        os.close(terminal)
    assert (watching.returncode, error) == (0, "")


def test_a_watched_status_is_a_line_of_json_each_second(server: Server) -> None:
    argv = [sys.executable, "-m", "modelport.cli.main", "status", "--json", "--watch"]
    env = {**os.environ, "MODELPORT_HOME": str(server.home)}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        first, second = (json.loads(watching.stdout.readline()) for _ in range(2))
        watching.send_signal(signal.SIGINT)
        _, error = watching.communicate(timeout=30)
    assert (watching.returncode, error) == (0, "")
    assert first["pid"] == second["pid"]
    assert 0.5 < second["uptime_s"] - first["uptime_s"] < 10


def test_a_large_file_travels_both_ways(run: Run, tmp_path: Path) -> None:
    (tmp_path / "big.onnx").write_bytes(onnx_models.big(16))
    run("push", str(tmp_path / "big.onnx"), "--name", "big")
    run("models", "pull", "big:1", str(tmp_path / "out"))
    assert (tmp_path / "out" / "big.onnx").read_bytes() == (tmp_path / "big.onnx").read_bytes()


def test_up_in_the_background_keys_doctor_and_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    up = ("up", "--detach", "--port", "0", "--grpc-port", "0")
    try:
        done = command(home, *up)
        assert done.returncode == 0, done.stderr
        found = local_server(home)
        assert found is not None and found.url in done.stdout
        again = command(home, *up)
        assert again.returncode == 1 and "already runs on this home" in again.stderr
        assert command(home, "doctor").returncode in (0, 1)
        assert "ok    control" in command(home, "doctor").stdout

        made = json.loads(command(home, "keys", "create", "--name", "app", "--role", "viewer", "--json").stdout)
        elsewhere = tmp_path / "elsewhere"
        url = {"MODELPORT_URL": found.url}
        refused = command(elsewhere, "status", env=url)
        assert refused.returncode == 1 and "--key or MODELPORT_KEY" in refused.stderr
        allowed = command(elsewhere, "status", env={**url, "MODELPORT_KEY": made["secret"]})
        assert "keys required" in allowed.stdout, allowed.stderr
        denied = command(elsewhere, "keys", "list", env={**url, "MODELPORT_KEY": made["secret"]})
        assert denied.returncode == 1 and "admin" in denied.stderr
        assert "app" in command(home, "keys", "list").stdout
        assert command(home, "keys", "revoke", made["id"]).returncode == 0
        gone = command(elsewhere, "status", env={**url, "MODELPORT_KEY": made["secret"]})
        assert gone.returncode == 1 and "revoked" in gone.stderr
    finally:
        assert command(home, "down").stdout == "stopped\n"
    assert local_server(home) is None
    assert command(home, "down").stdout == "no server runs here\n"


def test_serve(tmp_path: Path, mlp: str) -> None:
    argv = [sys.executable, "-m", "modelport.cli.main", "serve", mlp, "--port", "0", "--name", "quick"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "served on" in line)
            assert "quick (onnx; input FP32[-1, 4]) is served on http://" in line
            url = line.split(" is served on ")[1].split(",")[0].strip()
            done = command(tmp_path, "predict", "quick", "[[1,2,3,4]]", "--url", url)
            assert len(json.loads(done.stdout)[0]) == 3, done.stderr
        finally:
            process.terminate()
            assert process.wait(timeout=30) is not None
