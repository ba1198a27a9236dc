"""Batch inference on real servers: exactly one row out for each row in, whatever is killed at whatever moment."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelport import Client
from modelport.errors import InvalidInput
from tests.data.digits import digits_onnx, digits_table
from tests.services.conftest import Server
from tests.services.test_predictors import write

_TIMES = 60 if os.environ.get("MODELPORT_PROVE") else 30
"""Digits over and over: long enough to be killed in the middle."""
_KILLS = 20 if os.environ.get("MODELPORT_PROVE") else 3
_VICTIMS = ("job", "replica", "tree")


@pytest.fixture
def make_server(own_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    def make(**env: str) -> Server:
        allowed = {"MODELPORT_DATA_RESULTS": json.dumps([(tmp_path / "out").as_uri()])}
        return own_server("--gateways", "1", **{**allowed, "MODELPORT_JOBS_BACKOFF_S": "0.1", **env})

    return make


def prepare(client: Client, times: int) -> Any:
    """The model and the data; gives the table."""
    table = pa.concat_tables([digits_table()] * times).combine_chunks()
    client.datasets.collect(table, "digits")
    return table


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("part-*.parquet"))}


def test_a_command_predicts_what_the_process_predicts(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    server.push("digits", digits_onnx())
    with server.client() as client:
        table = prepare(client, 1)
    out = tmp_path / "out" / "one"
    flags = ("--data", "digits", "--input", "X=p*", "--keep", "label", "--workers", "2")
    done = server.cli("predict-batch", "digits:1", *flags, "--to", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("digits:1 on digits:1: 1797 rows, in file://")
    images = np.stack([table.column(f"p{n}").to_numpy() for n in range(64)], axis=1).astype(np.float32)
    labels, _ = onnxruntime.InferenceSession(digits_onnx()).run(None, {"X": images})
    found = pq.read_table(out)
    assert found.column("predicted_label").to_pylist() == labels.tolist()
    assert found.column("row").to_pylist() == list(range(1797))
    again = server.cli("predict-batch", "digits:1", *flags, "--to", str(out))
    assert again.returncode == 1 and "--overwrite" in again.stderr
    other = server.cli("predict-batch", "digits:1", *flags, "--to", str(tmp_path / "elsewhere"))
    assert other.returncode == 1 and "MODELPORT_DATA_RESULTS" in other.stderr
    made = json.loads(server.cli("predict-batch", "digits", *flags, "--json").stdout)
    assert made["dataset"] == "digits-predictions:1" and made["rows"] == 1797
    with server.client() as client:
        assert client.datasets.lineage("digits-predictions").parents == ["digits:1", "model:digits:1"]
        with pytest.raises(InvalidInput, match=r"input 'X': a row of it is \[64\]"):
            client.datasets.predict("digits", "digits", inputs={"X": ["p0"]})
        assert [job.kind for job in client.jobs.list(kind="predict", state="failed")] == []


@pytest.mark.long
def test_a_stage_of_a_pipeline_predicts_with_a_python_predictor(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = make_server(MODELPORT_TRUST_PYTHON_PREDICTORS="true")
    source = (
        "class Upper:\n    def predict(self, inputs):\n        return [t.decode().upper() for t in inputs['text']]\n"
    )
    stages = [
        {"name": "parts", "kind": "split", "params": {"dataset": "notes", "name": "notes-parts", "seed": 1}},
        {
            "name": "scored", "kind": "predict", "require": "rows == 20",
            "params": {
                "model": "upper", "data": "${stages.parts.result.dataset}", "keep": ["text"], "to": "dataset:scored"
            },
        },
    ]  # fmt: skip
    with server.client() as client:
        client.models.push(write(tmp_path / "upper", source), "upper")
        client.datasets.collect(pa.table({"text": [f"note {n}" for n in range(20)]}), "notes")
        run = client.jobs.wait(client.pipelines.run({"name": "score", "stages": stages}).id)
        assert run.result is not None and run.result["stages"]["scored"]["dataset"] == "scored:1", run
        client.datasets.pull("scored", 1, tmp_path / "scored")
        assert client.datasets.lineage("scored").parents == ["notes-parts:1", "model:upper:1"]
    found = pq.read_table(tmp_path / "scored").to_pylist()
    assert sorted(row["text"] for row in found) == sorted(f"note {n}" for n in range(20))
    assert all(row["answer"] == row["text"].upper() for row in found)


def processes(server: Server, module: str) -> list[psutil.Process]:
    found = []
    for process in server.tree():
        try:
            if module in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def strike(server: Server, victim: str) -> bool:
    """kill -9; whether there was anything to kill."""
    if victim == "tree":
        server.kill()
        server.start()
        return True
    module = "modelport.control.jobs.worker" if victim == "job" else "modelport.engine.replica"
    found = processes(server, module)
    if not found:
        return False
    try:
        random.choice(found).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def state_of(server: Server, job_id: str) -> tuple[str, float]:
    try:
        with server.client() as client:
            job = client.jobs.get(job_id)
            return job.state, job.progress.done if job.progress is not None else 0.0
    except Exception:
        return "nobody answers", 0.0


@pytest.mark.timeout(900)
@pytest.mark.long
def test_kills_cost_no_row_and_no_bit(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server(MODELPORT_JOBS_RETRIES="100")
    server.push("digits", digits_onnx())
    with server.client() as client:
        rows = len(prepare(client, _TIMES))
        told: dict[str, Any] = {
            "inputs": {"X": ["p*"]}, "keep": ["label"], "shard_rows": 3000, "batch": 16, "workers": 2, "retries": 100,
        }  # fmt: skip
        place = (tmp_path / "out").as_uri()
        began = time.monotonic()
        client.datasets.predict("digits", "digits", f"{place}/whole", **told)
        took = time.monotonic() - began
        wanted = hashes(tmp_path / "out" / "whole")
        assert len(wanted) == -(-rows // 3000)
    chance, kills, runs = random.Random(5), dict.fromkeys(_VICTIMS, 0), 0
    table = []
    while sum(kills.values()) < _KILLS:
        runs += 1
        with server.client() as client:
            job = client.datasets.predict("digits", "digits", f"{place}/run{runs}", wait=False, **told)
        while state_of(server, job.id)[0] not in ("succeeded", "failed"):
            time.sleep(chance.uniform(0.2, max(0.5, took / 3)))
            state, done = state_of(server, job.id)
            victim = min(_VICTIMS, key=lambda name: kills[name])
            if state == "running" and sum(kills.values()) < _KILLS and strike(server, victim):
                kills[victim] += 1
                table.append(f"run {runs}: {victim} killed after {done:.0f} of {rows} rows were told")
        with server.client() as client:
            ended = client.jobs.wait(job.id, timeout=120)
        out = tmp_path / "out" / f"run{runs}"
        assert ended.result is not None and ended.result["rows"] == rows
        found = pq.read_table(out, columns=["row"]).column("row").to_numpy()
        assert np.array_equal(found, np.arange(rows)), "a row is missing, or is there twice"
        assert hashes(out) == wanted
        table.append(f"run {runs}: {ended.state}, attempt {ended.attempt}, {len(found)} rows out, hashes equal")
    print("\n".join(table), f"\nkills: {kills}, undisturbed: {took:.1f} s")
    assert min(kills.values()) > 0
