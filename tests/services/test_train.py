"""Training on a real server: raw rows in, a registered version out, judged as callers see it; and what is refused."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport import Client
from modelport.errors import InvalidInput, ModelportError, NotAllowed, NotFound
from modelport.sdk.jobs import JobFailed
from tests.services.conftest import Server
from tests.services.job_calls import Caller, workers_of

pytest.importorskip("daft")
pytest.importorskip("skl2onnx")
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("train")]
KILLS = 20 if os.environ.get("MODELPORT_PROVE") else 2


def wine() -> Any:
    """178 Italian wines: 13 measurements, and the grower as text."""
    from sklearn.datasets import load_wine

    found = load_wine(as_frame=True)
    frame = found.frame.rename(columns=lambda name: name.replace("/", "_"))
    frame["grower"] = [str(found.target_names[code]) for code in frame.pop("target")]
    frame["sweet"] = np.where(frame["proline"] > 700, "yes", None)
    frame.loc[::17, "ash"] = np.nan
    return frame


@pytest.fixture(scope="module")
def client(job_server: Server) -> Iterator[Client]:
    with job_server.client() as client:
        client.datasets.collect(wine(), "wines", label="grower")
        client.datasets.split("wines", "wines-split", ratios={"train": 0.6, "validation": 0.2, "test": 0.2},
                              stratify="grower", seed=5)  # fmt: skip
        yield client


def columns_of(client: Client, name: str, part: str, folder: Path) -> dict[str, list[Any]]:
    import pyarrow.parquet as pq

    client.datasets.pull(name, "latest", folder, part=part)
    return dict(pq.read_table(folder / part).to_pydict())


def test_what_is_registered_is_what_callers_get(client: Client, tmp_path: Path) -> None:
    """Figures of the manifest are those of raw rows sent over HTTP."""
    job = client.training.train(
        "tabular", "wines-split", {"model": "forest"}, seed=3, name="growers", alias="candidate"
    )
    made = job.result or {}
    version = client.models.version("growers", "candidate")
    manifest = version.manifest
    assert made["model"] == f"growers:{version.version}" and made["digest"] == version.digest
    assert "dataset:wines-split:1" in manifest.parents and f"job:{job.id}" in manifest.parents
    assert made["accuracy"] == manifest.metrics["validation_accuracy"]
    client.deploy("growers@candidate")
    rows = columns_of(client, "wines-split", "test", tmp_path / "rows")
    truth = rows.pop("grower")
    inputs = {spec.name: spec for spec in manifest.signature.inputs}
    assert set(inputs) == set(rows), "raw columns in"
    feed = {
        name: np.array([[value if value is not None else ("" if inputs[name].datatype == "BYTES" else np.nan)]
                        for value in values], object if inputs[name].datatype == "BYTES" else float)
        for name, values in rows.items()
    }  # fmt: skip
    answer = client.predict("growers", feed)
    labels = [label.decode() if isinstance(label, bytes) else str(label) for label in answer["label"]]
    accuracy = float(np.mean([one == other for one, other in zip(labels, truth, strict=True)]))
    assert accuracy == pytest.approx(manifest.metrics["test_accuracy"]) and accuracy > 0.9
    client.undeploy("growers")


@pytest.mark.long
def test_the_same_again_is_the_same(client: Client) -> None:
    first, again, other = (
        client.training.train(
            "tabular", "wines", {"model": "extra-trees", "importance": False}, seed=seed, name="same"
        ).result
        or {}
        for seed in (1, 1, 2)
    )
    assert first["digest"] == again["digest"] != other["digest"]
    assert first["figures"] == again["figures"]


@pytest.mark.long
def test_folds_tell_mean_and_spread(client: Client) -> None:
    made = client.training.train("tabular", "wines", {"model": "logistic"}, folds=3, name="folded").result or {}
    figures = made["figures"]
    assert 0.9 < figures["cv"]["accuracy"] <= 1 and 0 < figures["cv_std"]["log_loss"] < 0.5
    metrics = client.models.version("folded").manifest.metrics
    assert metrics["cv_accuracy"] == figures["cv"]["accuracy"]


def test_a_pipeline_trains_gates_and_deploys(client: Client, job_server: Server) -> None:
    def stages(least: float) -> dict[str, Any]:
        return {
            "name": "wines",
            "stages": [
                {"name": "parts", "kind": "split", "params": {"dataset": "wines", "name": "gated", "seed": 1}},
                {
                    "name": "learn", "kind": "train", "require": f"accuracy >= {least}",
                    "params": {"recipe": "tabular", "data": "${stages.parts.result.dataset}", "name": "gated",
                               "options": {"model": "logistic"}},
                },
                {"name": "serve", "kind": "deploy", "params": {"model": "${stages.learn.result.model}"}},
            ],
        }  # fmt: skip

    done = client.jobs.wait(client.pipelines.run(stages(0.9)).id)
    learnt = (done.result or {})["stages"]["learn"]
    assert client.deployments.get("gated").version == learnt["version"]
    again = client.jobs.wait(client.pipelines.run(stages(0.9)).id)
    assert (again.result or {})["stages"]["learn"]["model"] == learnt["model"], "unchanged stages are not done again"
    with pytest.raises(JobFailed, match="requires accuracy >= 1.5"):
        client.jobs.wait(client.pipelines.run(stages(1.5)).id)
    client.undeploy("gated")


NOT_SENT = {"path": "x.py", "size": 1, "sha256": "0" * 64}
BAD: list[tuple[str, dict[str, Any], type[ModelportError], str]] = [
    ("no such recipe", {"recipe": "tabluar"}, InvalidInput, "did you mean 'tabular'"),
    ("no such option", {"options": {"modle": "tree"}}, InvalidInput, "no option 'modle'; did you mean 'model'"),
    ("a value that no option has", {"options": {"model": "guess"}}, InvalidInput, "options.model"),
    ("no such dataset", {"data": "beers"}, NotFound, "beers"),
    ("no such part", {"data": "wines-split", "test": "exam"}, NotFound, "no part 'exam'; it has train"),
    ("parts of a dataset without parts", {"validation": "validation"}, NotFound, "modelport data split"),
    ("the same part twice", {"data": "wines-split", "validation": "test", "test": "test"}, InvalidInput, "different"),
    ("a share that is none", {"validation": 1.5}, InvalidInput, "validation"),
    ("no such target", {"target": "vintage"}, NotFound, "no column 'vintage'"),
    ("no such feature", {"features": ["alcohol", "colour"]}, NotFound, "no column 'colour'"),
    ("the target as a feature", {"features": ["grower", "ash"]}, InvalidInput, "is the target"),
    ("nothing to learn from", {"features": ["ash"], "exclude": ["ash"]}, InvalidInput, "nothing is left"),
    ("a target with gaps", {"target": "ash"}, InvalidInput, "lacks"),
    ("a target with one value", {"target": "sweet"}, InvalidInput, "sweet"),
    ("classes for a regression", {"options": {"task": "regression"}}, InvalidInput, "regression predicts numbers"),
    ("no such version to go on from", {"start": "nobody:3"}, NotFound, "nobody"),
    ("a replay without a start", {"replay": "wines"}, InvalidInput, "start"),
    ("one fold", {"folds": 1}, InvalidInput, "folds"),
    ("a negative seed", {"seed": -1}, InvalidInput, "seed"),
    ("an unknown field", {"epochs": 3}, InvalidInput, "epochs"),
    ("a name that is none", {"name": "a/b"}, InvalidInput, "name"),
    ("a file that was not uploaded", {"files": [NOT_SENT]}, InvalidInput, "x.py"),
    ("a file that leads out", {"files": [{**NOT_SENT, "path": "../x"}]}, InvalidInput, r"\.\./x"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "changed", "error", "told"), BAD, ids=[row[0] for row in BAD])
def test_bad_input_is_told_before_work_begins(
    client: Client, what: str, changed: dict[str, Any], error: type[ModelportError], told: str
) -> None:
    asked = {"recipe": "tabular", "data": "wines", "name": "bad", **changed}
    with pytest.raises(error, match=told):
        client.jobs.submit("train", asked)
    with pytest.raises(NotFound):
        client.models.get("bad")


def test_code_of_callers_needs_the_operators_word(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server(MODELPORT_TRUST_PYTHON_PREDICTORS="false")
    with server.client() as client:
        client.datasets.collect(wine(), "wines", label="grower")
        with pytest.raises(NotAllowed, match="MODELPORT_TRUST_PYTHON_PREDICTORS"):
            client.training.train("command", "wines", {"command": "python x.py"})


@pytest.mark.long
def test_a_killed_job_makes_the_same_version(own_job_server: Callable[..., Server]) -> None:
    """kill -9 of the job's process and of the whole tree, at random moments."""
    server = own_job_server(MODELPORT_JOBS_BACKOFF_S="0.05")
    call = Caller(server)
    with server.client() as client:
        client.datasets.collect(wine(), "wines", label="grower")
    asked = {"recipe": "tabular", "data": "wines", "folds": 2, "options": {"model": "boosting"}}
    calm = call.wait(call.submit("train", {**asked, "name": "calm"}), s=120)
    assert calm["state"] == "succeeded", calm
    rng, killed = random.Random(5), 0
    job = call.submit("train", {**asked, "name": "disturbed"}, retries=100)
    while killed < KILLS:
        time.sleep(rng.uniform(0.5, 4))
        seen = call.wait(job, lambda job: job["state"] != "nobody answers")
        assert seen["state"] in ("queued", "running"), f"it ended after {killed} kills: {seen}"
        if killed % 3 == 1:
            server.kill()
            server.start()
            killed += 1
        elif workers := workers_of(server):
            workers[0].kill()
            killed += 1
    disturbed = call.wait(job, s=200)
    assert disturbed["state"] == "succeeded", disturbed
    same = ("digest", "figures", "main", "task", "bytes")
    assert {name: disturbed["result"][name] for name in same} == {name: calm["result"][name] for name in same}
    assert len(call("GET", "/models/disturbed/versions")["items"]) == 1
    print(json.dumps({"kills": killed, "digest": disturbed["result"]["digest"]}))
