"""Datasets on a real server: from Python, over REST and on the command line; and what a kill costs."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modelport import errors
from modelport.sdk.jobs import JobFailed
from tests.data.test_collect import digit_images, wine_csv
from tests.onnx_models import mlp
from tests.services.conftest import Server


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for path, content in digit_images(100).items():
        file = tmp_path / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path / "images"


def test_python_collects_cleans_splits_and_pulls(server: Server, images: Path, tmp_path: Path) -> None:
    with server.client() as client:
        seen: list[str] = []
        job = client.datasets.collect(images, "py-digits", watch=lambda job: seen.append(job.state))
        assert (job.result or {})["dataset"] == "py-digits:1"
        assert seen[-1] == "succeeded"
        balance = client.datasets.version("py-digits").manifest.class_balance
        assert balance == {folder.name: len(list(folder.iterdir())) for folder in sorted(images.iterdir())}
        recipe = {"rules": [{"rule": "duplicates", "columns": ["image"]}]}
        client.datasets.clean("py-digits:1", recipe, "py-clean")
        made = client.datasets.split("py-clean", seed=3, stratify="label")
        assert made.result is not None
        parts = made.result["parts"]
        assert sum(parts.values()) == 100
        found = client.datasets.pull("py-clean-split", "latest", tmp_path / "pulled")
        assert {p.name for p in (tmp_path / "pulled").iterdir()} == set(parts)
        assert pq.read_table(tmp_path / "pulled" / "train").num_rows == parts["train"]
        assert found.manifest.parents == ["py-clean:1"]
        (entry, *_) = found.manifest.files
        where = f"{server.url}/api/v1/datasets/py-clean-split/versions/{found.version}/files/{entry.path}"
        rest = httpx.get(where, headers={"x-api-key": server.token, "range": "bytes=100-"})
        whole = (tmp_path / "pulled" / entry.path).read_bytes()
        assert (rest.status_code, rest.content) == (206, whole[100:]), "an interrupted pull goes on"
        assert client.datasets.lineage("py-digits").children == ["py-clean:1"]
        assert client.datasets.head("py-digits", rows=1).rows[0]["image"].endswith(" bytes")
        same = client.datasets.collect(images, "py-again")
        assert (same.result or {})["digest"] == client.datasets.version("py-digits").digest


@pytest.mark.parametrize("kind", ["pandas", "arrow", "daft"])
def test_tables_in_memory_are_collected(server: Server, kind: str) -> None:
    table = {"x": [1.5, None, 3.0], "s": ["a", "b", None]}
    frame: Any = pa.table(table)
    if kind == "pandas":
        frame = pd.DataFrame(table)
    elif kind == "daft":
        import daft

        frame = daft.from_pydict(table)
    with server.client() as client:
        client.datasets.collect(frame, f"frame-{kind}")
        assert client.datasets.head(f"frame-{kind}").rows == [
            {"x": 1.5, "s": "a"}, {"x": None, "s": "b"}, {"x": 3.0, "s": None},
        ]  # fmt: skip
        with pytest.raises(errors.InvalidInput, match="a int is not collected"):
            client.datasets.collect(7, "t")


def test_what_fails_says_why_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a\n1\nx,y\n")
    with server.client() as client:
        with pytest.raises(JobFailed, match=r"bad\.csv, row 3: has 2 fields") as error:
            client.datasets.collect(tmp_path / "bad.csv", "nothing")
        assert error.value.status == 400
        with pytest.raises(errors.InvalidInput, match="seed"):
            client.datasets.split("nothing", seed="x")
        with pytest.raises(errors.NotFound, match="no dataset 'nothing'"):
            client.datasets.get("nothing")
        with pytest.raises(errors.NotAllowed, match="the operator allows https://, http://"):
            client.datasets.collect("file:///etc", "nothing")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/datasets/none", None, 404),
        ("GET", "/datasets/none/versions", None, 404),
        ("GET", "/datasets/none/versions/1", None, 404),
        ("GET", "/datasets/none/versions/latest/lineage", None, 404),
        ("GET", "/datasets/none/versions/1/head", None, 404),
        ("GET", "/datasets/none/versions/1/head?rows=0", None, 422),
        ("GET", "/datasets/none/versions/1/head?rows=9999999", None, 422),
        ("GET", "/datasets/none/versions/1/files/part-00000.parquet", None, 404),
        ("GET", "/datasets/..%2f..%2fetc/versions/1", None, 404),
        ("GET", "/datasets?limit=0", None, 422),
        ("GET", "/datasets?after=%00", None, 422),
        ("DELETE", "/datasets/none", None, 404),
        ("DELETE", "/datasets/none/versions/1", None, 404),
        ("POST", "/jobs", {"kind": "archive", "params": {"dataset": "none", "to": "s3://x"}}, 403),
        ("POST", "/jobs", {"kind": "archive", "params": {"dataset": "none"}}, 400),
        ("POST", "/jobs", {"kind": "archive", "params": {"dataset": "none/train", "to": "s3://x"}}, 400),
        ("POST", "/jobs", {"kind": "collect", "params": {}}, 400),
        ("POST", "/jobs", {"kind": "collect", "params": {"name": "x", "source": "file:///etc/passwd"}}, 403),
        ("POST", "/jobs", {"kind": "clean", "params": {"name": "x", "dataset": "none", "recipe": {}}}, 400),
        ("POST", "/jobs", {"kind": "split", "params": {"name": "x", "dataset": "none"}}, 404),
        ("POST", "/jobs", {"kind": "join", "params": {"name": "x", "left": "a", "right": "b", "on": ["k"]}}, 404),
        ("POST", "/jobs", {"kind": "concat", "params": {"name": "x", "datasets": ["a"]}}, 400),
        ("POST", "/jobs", {"kind": "features", "params": {"name": "x", "dataset": "a", "recipe": {}}}, 400),
    ],
)
def test_bad_requests_over_rest(server: Server, method: str, path: str, body: Any, status: int) -> None:
    answer = httpx.request(method, f"{server.url}/api/v1{path}", json=body, headers={"x-api-key": server.token})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.long
def test_the_command_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "wine.csv").write_text(wine_csv())
    (tmp_path / "clean.yaml").write_text("rules: [{rule: outliers, columns: [alcohol], method: iqr, action: drop}]\n")
    (tmp_path / "features.yaml").write_text("steps: []\nselect: {top: 3}\n")

    def run(*arguments: str) -> str:
        done = server.cli("data", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("collect", str(tmp_path / "wine.csv"), "--name", "c-wine").startswith("c-wine:1 (178 rows")
    assert run("collect", str(tmp_path / "*.csv"), "-n", "c-glob").startswith("c-glob:1 (178 rows")
    assert "outliers" in run("clean", "c-wine", "--recipe", str(tmp_path / "clean.yaml"))
    assert "train 142, validation 18, test 18" in run("split", "c-wine:1", "--stratify", "label", "--seed", "7")
    assert "IMPORTANCE" in run("features", "c-wine:1", "-r", str(tmp_path / "features.yaml"), "-n", "c-top")
    assert len(json.loads(run("head", "c-top", "--json"))["columns"]) == 4
    with server.client() as client:
        (tmp_path / "encoder.onnx").write_bytes(mlp((2, 4, 3)))
        client.models.push(tmp_path / "encoder.onnx", "c-encoder")
    step = {"step": "embed", "columns": ["alcohol", "proline"], "model": "c-encoder", "into": "vector"}
    (tmp_path / "embed.yaml").write_text(json.dumps({"steps": [step]}))
    made = run("features", "c-wine:1", "-r", str(tmp_path / "embed.yaml"), "-n", "c-vectors")
    assert "vector: 3 numbers from alcohol, proline by c-encoder:1, 178 rows in " in made
    assert len(json.loads(run("head", "c-vectors", "--json"))["rows"][0]["vector"]) == 3
    shown = run("show", "c-vectors")
    assert "model:c-encoder:1" in shown and "list<element: float>" in shown
    run("show", "c-vectors", "--html", str(tmp_path / "vectors.html"))
    run("export", "c-vectors", "--to", str(tmp_path / "vectors.csv"))
    run("join", "c-wine:1", "c-wine:2", "--on", "proline", "--on", "alcohol", "--expect", "many", "-n", "c-join")
    assert run("concat", "c-wine:1", "c-wine:2", "-n", "c-both").startswith("c-both:1 (356 rows")
    assert "class_1" in run("show", "c-wine")
    run("show", "c-wine", "--html", str(tmp_path / "wine.html"))
    assert "<svg" in (tmp_path / "wine.html").read_text()
    assert "c-wine" in run("list")
    assert "MADE FROM" in run("list", "c-wine")
    for name in ("test.csv", "test.jsonl", "test.parquet", "folder"):
        assert "(18 rows, verified)" in run("export", "c-wine-split/test", "--to", str(tmp_path / name))
    assert len((tmp_path / "test.csv").read_text().splitlines()) == 19
    assert len((tmp_path / "test.jsonl").read_text().splitlines()) == 18
    assert pq.read_table(tmp_path / "test.parquet").num_rows == 18
    assert run("delete", "c-both", "--yes") == "deleted c-both\n"
    job = json.loads(run("split", "c-wine", "-n", "c-late", "--detach", "--json"))
    assert job["kind"] == "split"
    refused = server.cli("data", "export", "c-wine", "--to", str(tmp_path / "x.xlsx"))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "give a name that ends in .parquet, .csv, .jsonl" in refused.stderr


@pytest.mark.long
def test_an_archive_is_a_job_that_goes_on_after_a_kill(own_server: Callable[..., Server], tmp_path: Path) -> None:
    cold = (tmp_path / "cold").as_uri()
    (tmp_path / "source").mkdir()
    random = np.random.default_rng(0)
    for index in range(3):
        pq.write_table(pa.table({"x": random.random(1_100_000)}), tmp_path / "source" / f"{index}.parquet")
    server = own_server("--gateways", "1", MODELPORT_DATA_ARCHIVES=json.dumps([cold]), MODELPORT_JOBS_BACKOFF_S="0")
    with server.client() as client:
        made = client.datasets.collect(tmp_path / "source", "old").result
        with pytest.raises(errors.NotFound):
            client.datasets.archive("none", cold)
        job = client.datasets.archive("old", cold, wait=False)
        while client.jobs.get(job.id).state == "queued":
            time.sleep(0.01)
        server.kill()
    server.start()
    with server.client() as client:
        ended = client.jobs.wait(job.id, timeout=60)
        assert (ended.result or {})["archived"] == client.datasets.version("old").archived == cold
        assert ended.progress is not None and ended.progress.done == ended.progress.total == made["bytes"]
        assert sum(file.stat().st_size for file in (tmp_path / "cold").rglob("*") if file.is_file()) == made["bytes"]
        done = server.cli("data", "archive", "old:1", "--to", cold)
        assert (done.returncode, done.stdout) == (0, f"old:1 is archived at {cold}\n"), done.stderr
        assert client.datasets.head("old").rows and client.datasets.version("old").archived is None


@pytest.mark.long
def test_a_killed_collection_ends_as_an_undisturbed_one(own_server: Callable[..., Server], tmp_path: Path) -> None:
    """The job's process dies three times, at moments spread over its work."""
    random = np.random.default_rng(0)
    folder = tmp_path / "source"
    folder.mkdir()
    for index in range(6):
        table = {"i": np.arange(300_000) + index * 300_000, "x": random.normal(size=300_000)}
        pd.DataFrame(table).to_csv(folder / f"{index}.csv", index=False)
    server = own_server(MODELPORT_DATA_ALLOW=json.dumps([folder.as_uri()]), MODELPORT_JOBS_BACKOFF_S="0")
    with server.client() as client:
        calm = client.datasets.collect(folder.as_uri(), "calm")
        began = time.monotonic()
        job = client.datasets.collect(folder.as_uri(), "hunted", wait=False, retries=10)
        killed = 0
        while killed < 3 and time.monotonic() < began + 60:
            time.sleep(1.5)
            for process in server.tree():
                try:
                    if "modelport.control.jobs.worker" in process.cmdline():
                        os.kill(process.pid, signal.SIGKILL)
                        killed += 1
                except (psutil.Error, ProcessLookupError):
                    continue
        ended = client.jobs.wait(job.id, timeout=120)
        assert ended.attempt > 1
        assert (ended.result or {})["digest"] == (calm.result or {})["digest"]
        assert len(client.datasets.versions("hunted")) == 1
        assert not list(server.home.glob("jobs/*/parts")), "what the job staged is gone"
