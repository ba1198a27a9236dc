"""Deploying, updating and removing while callers call."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from modelport import errors
from tests import onnx_models
from tests.services.conftest import Server
from tests.services.load import Load

ROW = json.dumps({"data": [[1.0, 2.0, 3.0]]}).encode()


def post(server: Server, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[bytes, Any]:
    request = urllib.request.Request(server.url + path, body, headers or {})
    with urllib.request.urlopen(request) as answer:
        return answer.read(), answer.headers


def test_update_loses_nothing_and_changes_the_answer(server: Server) -> None:
    server.deploy("rolling", onnx_models.mlp((3, 8, 2), seed=0), replicas=2)
    with server.client() as client, Load(server.url, "/predict/rolling", ROW, callers=4) as load:
        before = client.predict("rolling", [[1.0, 2.0, 3.0]])
        for seed in range(1, 4):
            found = server.push("rolling", onnx_models.mlp((3, 8, 2), seed=seed))
            deployed = client.deploy("rolling", replicas=2)
            assert deployed.serving_version == found.version
        after = client.predict("rolling", [[1.0, 2.0, 3.0]])
        for replicas in (3, 1, 2):
            assert client.deploy("rolling", replicas=replicas).replicas_ready == replicas
        assert client.deployments.rollback("rolling").state == "ready"
    assert not np.allclose(before, after)
    assert load.sent > 100
    assert load.failures == []


def test_a_version_that_fails_its_proof_does_not_replace_one_that_works(server: Server) -> None:
    server.deploy("careful", onnx_models.mlp((3, 8, 2), seed=0), replicas=1)
    server.push("careful", onnx_models.mlp((3, 8, 2), seed=1))
    with server.client() as client, Load(server.url, "/predict/careful", ROW, callers=2) as load:
        with pytest.raises(errors.ModelportError) as refused:
            # too little memory for any model: the replica cannot load
            client.deploy("careful", memory="30Mi")
        assert "careful" in str(refused.value) or "revision" in str(refused.value)
        seen = client.deployments.get("careful")
        assert seen.state == "failed"
        assert seen.serving_version == 1
        assert seen.replicas_ready == 1
        assert seen.reason and "revision 1 keeps serving" in seen.reason
        assert seen.log_tail
        time.sleep(0.3)
    assert load.failures == []


def test_removed_model_gives_its_memory_back(server: Server) -> None:
    server.deploy("passing", onnx_models.identity())
    with server.client() as client:
        pids = [replica.pid for replica in client.deployments.get("passing").replicas]
        client.undeploy("passing")
        deadline = time.monotonic() + 10
        while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(psutil.pid_exists(pid) for pid in pids)
        with pytest.raises(errors.NotFound):
            client.infer("passing", {"input": np.zeros((1, 3), np.float32)})


def test_a_model_that_looks_across_rows_is_not_batched(server: Server) -> None:
    server.deploy("across", onnx_models.not_batchable())
    with server.client() as client:
        assert "depends on the other rows" in (client.deployments.get("across").batching or "")


def test_request_id_travels_to_the_replicas_log(server: Server) -> None:
    server.deploy("traced", onnx_models.mlp((3, 8, 2)))
    _, headers = post(server, "/predict/traced", ROW, {"x-request-id": "find-me-17"})
    assert headers["x-request-id"] == "find-me-17"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        text = "".join(file.read_text() for file in (server.home / "logs").glob("replica-*.log"))
        if "find-me-17" in text:
            break
        time.sleep(0.05)
    assert "find-me-17" in text
    _, headers = post(server, "/predict/traced", ROW)
    assert len(headers["x-request-id"]) == 16


def test_follow_rolls_on_when_the_alias_moves(server: Server) -> None:
    server.push("followed", onnx_models.mlp((3, 4, 2), seed=0), alias="champion")
    with server.client() as client:
        client.deploy("followed", alias="champion", follow=True)
        server.push("followed", onnx_models.mlp((3, 4, 2), seed=1), alias="champion")
        deadline = time.monotonic() + 20
        while client.deployments.get("followed").serving_version != 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert client.deployments.get("followed").serving_version == 2
        with pytest.raises(errors.Conflict, match="followed"):
            client.models.delete("followed", version=2)


def test_a_stopped_one_answers_503_or_has_another_answer(server: Server) -> None:
    server.deploy("halted", onnx_models.mlp((3, 8, 2), seed=0))
    server.push("relieved", onnx_models.mlp((3, 8, 2), seed=1))
    with server.client() as client:
        client.deploy("relieved", fallback=["halted"])
        own, other = (client.predict(name, [[1.0, 2.0, 3.0]]) for name in ("relieved", "halted"))
        client.deployments.stop("relieved")
        deadline = time.monotonic() + 20
        while np.allclose(client.predict("relieved", [[1.0, 2.0, 3.0]]), own) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert np.allclose(client.predict("relieved", [[1.0, 2.0, 3.0]]), other)
        client.deployments.stop("halted")
        while True:
            try:
                client.predict("halted", [[1.0, 2.0, 3.0]])
            except errors.Unavailable as error:
                assert "'halted' is stopped" in str(error)
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with urllib.request.urlopen(f"{server.url}/v1/models") as answer:
            assert not {"halted", "relieved"} & set(json.load(answer)["models"])
        client.deployments.start("relieved")
        assert np.allclose(client.predict("relieved", [[1.0, 2.0, 3.0]]), own)
        client.deployments.delete("relieved")
        client.deployments.delete("halted")


def test_a_hung_run_is_killed_and_the_replica_replaced(own_server: Any) -> None:
    server = own_server()
    server.deploy("hanging", onnx_models.hangs_on_negative(), timeout_s=1)
    with server.client(timeout=30) as client:
        first = client.deployments.get("hanging").replicas[0].pid
        spec = client.metadata("hanging").inputs[0]
        shape = [1 if dim < 0 else dim for dim in spec.shape]
        good, bad = np.ones(shape, np.float32), -np.ones(shape, np.float32)
        with pytest.raises(errors.ModelportError) as refused:
            client.infer("hanging", {spec.name: bad})
        assert "died" in str(refused.value)
        client.infer("hanging", {spec.name: good})
        assert client.deployments.get("hanging").replicas[0].pid != first


def test_metrics_count_what_was_served(server: Server) -> None:
    server.deploy("counted", onnx_models.mlp((3, 8, 2)))
    for _ in range(5):
        post(server, "/predict/counted", ROW)
    request = urllib.request.Request(server.url + "/metrics", headers={"authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(request) as answer:
        text = answer.read().decode()
    labels = 'project="default",endpoint="counted",model="counted",version="1"'
    labels = ",".join(sorted(labels.split(",")))
    lines = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
    found = {name: value for name, value in lines.items() if 'endpoint="counted"' in name}
    assert sum(v for k, v in found.items() if k.startswith("modelport_inferences_total") and "success" in k) == 5
    assert any(k.startswith("modelport_inference_seconds_bucket") for k in found)
    assert any(k.startswith("modelport_replica_memory_bytes") and v > 1e6 for k, v in found.items())


def test_second_up_on_the_same_home_is_refused(server: Server) -> None:
    import subprocess
    import sys

    argv = [sys.executable, "-m", "modelport.cli.main", "up", "--port", "0"]
    second = subprocess.run(
        argv, env={**os.environ, "MODELPORT_HOME": str(server.home)}, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert "already runs on this home" in second.stderr
    assert "modelport down" in second.stderr


def test_a_port_in_use_is_refused(server: Server, tmp_path: Path) -> None:
    import subprocess
    import sys

    port = server.url.rpartition(":")[2]
    argv = [sys.executable, "-m", "modelport.cli.main", "up", "--port", port]
    second = subprocess.run(
        argv, env={**os.environ, "MODELPORT_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr


def test_a_cache_answers_equal_inputs_without_a_run_and_changes_no_replica(server: Server) -> None:
    server.deploy("cached", onnx_models.mlp((3, 8, 2), seed=0), replicas=1)
    with server.client() as client:
        before = client.deployments.get("cached").replicas[0].id
        client.deploy("cached", cache="1Mi", max_batch=16)
        answers = {post(server, "/predict/cached", ROW)[0] for _ in range(20)}
        assert len(answers) == 1
        assert client.deployments.get("cached").replicas[0].id == before
        deadline = time.monotonic() + 10
        while _metric(server, "modelport_cache_hits_total", "cached") < 20 - 4:  # each gateway has one of its own
            assert time.monotonic() < deadline
            time.sleep(0.2)
        client.deploy("cached")
        assert client.deployments.get("cached").spec.cache is None


def test_a_priority_that_does_not_exist_is_refused_by_name(server: Server) -> None:
    server.deploy("urgent", onnx_models.mlp((3, 8, 2), seed=0), replicas=1)
    assert post(server, "/predict/urgent", ROW, {"x-request-priority": "1"})[0]
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, "/predict/urgent", ROW, {"x-request-priority": "high"})
    assert refused.value.code == 400
    assert b"x-request-priority must be 1 (first) to 9" in refused.value.read()


def _metric(server: Server, name: str, model: str) -> float:
    with urllib.request.urlopen(server.url + "/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{") and f'"{model}"' in line)
