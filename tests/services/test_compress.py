"""Compression on a real server: a smaller version that is proven, or the answer that there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport import Client
from modelport.errors import InvalidInput, ModelportError, NotFound
from modelport.sdk.jobs import JobFailed
from tests.services.conftest import Server
from tests.services.job_calls import workers_of
from tests.training.images import digit_files

pytest.importorskip("daft")
pytest.importorskip("torch")
# together: the rows and the network that they work on are made once
pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("compress")]
PARTS = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def client(job_server: Server) -> Iterator[Client]:
    with job_server.client() as client:
        prepare(client)
        yield client


def prepare(client: Client) -> None:
    """600 scans of digits, and a network that has looked at them for a few epochs."""
    import pandas as pd

    files, digits = digit_files(slice(600))
    client.datasets.collect(
        pd.DataFrame({"image": files, "digit": [str(one) for one in digits]}), "shrunk", label="digit"
    )
    client.datasets.split("shrunk", "shrunk", ratios=PARTS, stratify="digit", seed=1)
    client.training.train("image", "shrunk", {"epochs": 5, "learning_rate": 0.005, "augment": "none"}, name="shrunk")


def test_a_budget_is_met_proven_and_served(client: Client, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    job = client.compression.compress(
        "shrunk:1", budget={"max_drop": 0.05, "size_ratio": 2}, trials=3, finalists=1, only=["quantize"], alias="small"
    )
    made = job.result or {}
    assert made["met"] is True and made["steps"][0]["method"] == "quantize"
    before, after = client.models.version("shrunk", 1).manifest, client.models.version("shrunk", "small").manifest
    assert after.served_bytes * 2 <= before.served_bytes and made["size_ratio"] >= 2
    assert "shrunk:1" in after.parents and f"job:{job.id}" in after.parents
    assert after.signature == before.signature and after.labels == before.labels, "callers notice nothing"
    client.deploy("shrunk@small")
    client.datasets.pull("shrunk", "latest", tmp_path / "rows", part="test")
    rows = pq.read_table(tmp_path / "rows" / "test").to_pydict()
    answer = client.predict("shrunk", {"image": np.array(rows["image"], object)})
    said = [one.decode() if isinstance(one, bytes) else str(one) for one in np.ravel(answer["label"])]
    accuracy = float(np.mean([one == truth for one, truth in zip(said, rows["digit"], strict=True)]))
    assert accuracy == pytest.approx(made["figures"]["accuracy"]) == pytest.approx(after.metrics["test_accuracy"])
    assert made["figures"]["original_accuracy"] - accuracy <= 0.05 * made["figures"]["original_accuracy"]
    opened = client.evaluations.list(data="shrunk:2/test")
    assert any(one.purpose == "compress" for one in opened), "the proof is on record"
    client.undeploy("shrunk")


def test_what_cannot_be_met_is_said_and_nothing_is_registered(client: Client) -> None:
    versions = len(client.models.versions("shrunk"))
    made = client.compression.compress(
        "shrunk:1", budget={"max_drop": 0.0, "size_ratio": 100}, trials=1, finalists=1, only=["quantize"]
    ).result or {}  # fmt: skip
    assert made["met"] is False and made["model"] is None and len(made["nearest"]) >= 1
    nearest = next(one for one in made["candidates"] if one["number"] == made["nearest"][0])
    assert any("100 x wanted" in text for text in nearest["misses"])
    assert len(client.models.versions("shrunk")) == versions


@pytest.mark.long
def test_methods_follow_one_another(client: Client) -> None:
    steps: list[Any] = [
        {"method": "prune-structured", "options": {"ratio": 0.3, "epochs": 1}},
        {"method": "quantize", "options": {"mode": "static", "rows": 64}},
    ]
    made = client.compression.compress("shrunk:1", methods=steps, name="chained").result or {}
    assert made["model"] == "chained:1" and made["met"] is None and made["size_ratio"] > 3
    assert set(made["figures"]) >= {"accuracy", "original_accuracy"}
    client.deploy("chained")
    assert client.predict("chained", {"image": np.array(digit_files(slice(2))[0], object)})["probabilities"].shape == (
        2,
        10,
    )
    client.undeploy("chained")


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({}, InvalidInput, "say what is wanted"),
        ({"budget": {"max_drop": 0.1, "max_drop_points": 1}}, InvalidInput, "say the same"),
        ({"budget": {"size_ratio": 0.5}}, InvalidInput, "size_ratio"),
        ({"budget": {"max_drops": 0.5}}, InvalidInput, "max_drops"),
        ({"methods": ["quantise"]}, InvalidInput, "did you mean 'quantize'"),
        ({"methods": ["distil-language"]}, InvalidInput, "to which apply: .*quantize"),
        ({"methods": [{"method": "quantize", "options": {"mood": 1}}]}, InvalidInput, "did you mean 'mode'"),
        ({"methods": ["quantize"], "only": ["prune"]}, InvalidInput, "only"),
        ({"budget": {"size_ratio": 2}, "data": "nosuch"}, NotFound, "nosuch"),
        ({"budget": {"size_ratio": 2}, "target": "nosuch"}, NotFound, "nosuch"),
        ({"budget": {"size_ratio": 2}, "test": "nosuch"}, NotFound, "nosuch"),
        ({"model": "nosuch", "budget": {"size_ratio": 2}}, NotFound, "nosuch"),
    ],
)
def test_wrong_wishes_are_refused_before_work_begins(
    client: Client, asked: dict[str, Any], error: type[ModelportError], said: str
) -> None:
    jobs = len(client.jobs.list(limit=1000))
    with pytest.raises(error, match=said):
        client.compression.compress(**{"model": "shrunk:1", **asked})
    assert len(client.jobs.list(limit=1000)) == jobs


@pytest.mark.long
def test_a_model_without_training_data_needs_some(client: Client, tmp_path: Path) -> None:
    client.models.pull("shrunk", 1, tmp_path / "files")
    client.models.push(tmp_path / "files" / "model.onnx", name="stranger")
    with pytest.raises(InvalidInput, match="nobody wrote down what stranger:1 was trained on"):
        client.compression.compress("stranger", budget={"size_ratio": 2})
    made = client.compression.compress("stranger", methods=[{"method": "quantize", "options": {"mode": "weights"}}])
    assert (made.result or {})["model"] == "stranger:2" and (made.result or {})["size_ratio"] > 1.5


@pytest.mark.long
@pytest.mark.parametrize(("ratio", "deployed"), [(2, True), (100, False)])
def test_a_pipeline_deploys_only_what_keeps_to_the_budget(client: Client, ratio: float, deployed: bool) -> None:
    budget = {"max_drop": 0.05, "size_ratio": ratio}
    shrink = {
        "model": "shrunk:1",
        "budget": budget,
        "only": ["quantize"],
        "trials": 3,
        "finalists": 1,
        "name": f"p{ratio}",
    }
    shrink["name"] = f"p{ratio}"
    stages: list[dict[str, Any]] = [
        {"name": "shrink", "kind": "compress", "params": shrink},
        {"name": "deploy", "kind": "deploy", "needs": ["shrink"], "when": "stages.shrink.result.met",
         "params": {"model": "${stages.shrink.result.model}"}},
    ]  # fmt: skip
    run = client.jobs.wait(client.pipelines.run({"name": "shrinks", "stages": stages}).id)
    assert run.state == "succeeded"
    assert (f"p{ratio}" in {one.name for one in client.deployments.list()}) is deployed
    if deployed:
        client.undeploy(f"p{ratio}")


@pytest.mark.long
def test_a_killed_search_ends_as_if_nothing_had_happened(
    own_job_server: Callable[..., Server],
) -> None:
    server = own_job_server(MODELPORT_JOBS_CORES="2")
    kills = 10 if os.environ.get("MODELPORT_PROVE") else 2
    with server.client() as client:
        prepare(client)
        wish: dict[str, Any] = {
            "budget": {"max_drop": 0.05, "size_ratio": 2},
            "trials": 4,
            "finalists": 2,
            "wait": False,
        }
        wish["only"] = ["quantize", "prune-structured"]
        calm = client.jobs.wait(client.compression.compress("shrunk:1", name="calm", **wish).id)
        job = client.compression.compress("shrunk:1", name="hurt", retries=kills + 1, **wish)
        for kill in range(kills):
            seen = time.monotonic()
            while time.monotonic() - seen < 2 + kill:
                time.sleep(0.1)
            for worker in workers_of(server):
                worker.kill()
        hurt = client.jobs.wait(job.id)
        assert hurt.attempt > 1
        one, other = calm.result or {}, hurt.result or {}
        assert one["label"] == other["label"]
        assert [c["steps"] for c in one["candidates"]] == [c["steps"] for c in other["candidates"]]
        assert [c["quality"] for c in one["candidates"]] == [c["quality"] for c in other["candidates"]]
        assert len(client.models.versions("hurt")) == 1


@pytest.mark.long
def test_a_failing_method_says_why_and_registers_nothing(client: Client) -> None:
    with pytest.raises((JobFailed, InvalidInput), match="nosuch"):
        client.compression.compress(
            "shrunk:1",
            methods=[{"method": "quantize", "options": {"mode": "dynamic", "exclude": ["nosuch"]}}],
            name="none",
        )
    with pytest.raises(NotFound):
        client.models.version("none")
    with pytest.raises(JobFailed, match="has anything to do"):  # what has no trees is found out by looking
        client.compression.compress("shrunk:1", budget={"size_ratio": 2}, only=["trees"], name="none")
