"""Methods that train a network on, as jobs of a real server: their versions are deployed and called over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from modelport import Client
from tests.services.conftest import Server
from tests.training.images import digit_files

pytest.importorskip("daft")
pytest.importorskip("torch_pruning")
pytestmark = [pytest.mark.timeout(600), pytest.mark.long]


@pytest.fixture(scope="module")
def client(job_server: Server) -> Iterator[Client]:
    import pandas as pd

    files, labels = digit_files(slice(1200))
    with job_server.client() as client:
        rows = pd.DataFrame({"image": files, "digit": [str(one) for one in labels]})
        client.datasets.collect(rows, "lessened", label="digit")
        client.training.train(
            "image", "lessened", {"epochs": 6, "learning_rate": 0.005, "augment": "none"}, name="lessened"
        )
        yield client


def test_a_way_out_is_deployed_and_taken(client: Client) -> None:
    step = {"method": "early-exit", "options": {"at": "features.0", "epochs": 5, "max_drop": 0.02}}
    made = client.compression.compress("lessened", methods=[step], name="leaving").result or {}
    client.deploy("leaving")
    files, labels = digit_files(slice(1200, 1400))
    answer = client.predict("leaving", {"image": np.array(files, object)})
    left = np.asarray(answer["left_early"])
    said = np.asarray(answer["probabilities"]).argmax(1)
    assert left.dtype == bool and 0 < left.mean() <= 1
    assert float((said == np.array(labels)).mean()) > 0.85
    alone = client.predict("leaving", {"image": np.array(files[:1], object)})
    assert np.allclose(alone["probabilities"], answer["probabilities"][:1], atol=1e-5)
    assert made["figures"]["accuracy"] >= made["figures"]["original_accuracy"] - 0.05
    client.undeploy("leaving")


def test_pruned_versions_follow_one_another(client: Client) -> None:
    first = client.compression.compress(
        "lessened", methods=[{"method": "prune-structured", "options": {"macs": 2, "epochs": 2}}], name="narrow"
    ).result or {}  # fmt: skip
    step = {"method": "prune", "options": {"ratio": 0.5, "when": "gradual", "epochs": 2}}
    then = client.compression.compress("narrow", methods=[step], name="sparse").result or {}
    assert (first["model"], then["model"]) == ("narrow:1", "sparse:1")
    assert first["size_ratio"] > 1.5
    client.deploy("sparse")
    files, labels = digit_files(slice(1200, 1300))
    said = np.asarray(client.predict("sparse", {"image": np.array(files, object)})["probabilities"]).argmax(1)
    assert float((said == np.array(labels)).mean()) > 0.8
    client.undeploy("sparse")
