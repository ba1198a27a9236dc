"""Jobs on datasets with too little disk or memory: each says so, leaves nothing half-made, and the server goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modelport import errors
from modelport.control.work.made import LEAST_MEMORY_MB
from modelport.errors import Unavailable
from modelport.sdk.jobs import JobFailed
from tests.services.conftest import Server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 MB of images, and 26 MB of numbers that no compression makes small."""
    folder = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for index in range(10):
        pixels = Image.fromarray(random.integers(0, 256, (2000, 2500), np.uint8))
        pixels.save(folder / "images" / f"{index}.png", compress_level=0)
    pq.write_table(pa.table({name: random.random(1_080_000) for name in "abc"}), folder / "numbers.parquet")
    return folder


@pytest.mark.long
def test_a_disk_that_is_too_small(
    small_disk: Callable[[int], Path], own_server: Callable[..., Server], sources: Path, tmp_path: Path
) -> None:
    env = {"MODELPORT_DATA_ALLOW": f'["{sources.as_uri()}"]', "MODELPORT_JOBS_BACKOFF_S": "0.1"}
    server = own_server("--gateways", "1", home=small_disk(50) / "home", **env)
    (tmp_path / "few.csv").write_text("a\n1\n2\n")
    with server.client() as client:
        with pytest.raises(
            JobFailed, match=r"its images would take about \d+ MB, the server's disk has \d+ MB left"
        ) as told:
            client.datasets.collect((sources / "images").as_uri(), "images")
        assert told.value.status == 413
        assert client.jobs.list(kind="collect")[0].attempt == 1, "what can be known is known before the work"
        client.datasets.collect((sources / "numbers.parquet").as_uri(), "first")
        with pytest.raises(JobFailed, match="the server's disk is full: nothing was registered"):
            client.datasets.collect((sources / "numbers.parquet").as_uri(), "second")
        with pytest.raises(JobFailed, match=r"split: the rows would take about \d+ MB") as told:
            client.datasets.split("first", "parts")
        assert client.datasets.collect(tmp_path / "few.csv", "few").result["rows"] == 2
        with pytest.raises(Unavailable, match="the server's disk is full"):
            client.datasets.collect(sources / "images", "images")
        assert [found.name for found in client.datasets.list()] == ["few", "first"]
    assert not list((server.home / "jobs").rglob("part-*")), "nothing half-made is left"


def test_memory_that_is_too_little(server: Server, sources: Path) -> None:
    with server.client() as client:
        with pytest.raises(errors.InvalidInput, match=f"needs {LEAST_MEMORY_MB} to begin"):
            client.datasets.collect(sources / "numbers.parquet", "small-memory", memory_mb=LEAST_MEMORY_MB - 1)
        job = client.datasets.collect(sources / "numbers.parquet", "small-memory")
        recipe = {"rules": [{"rule": "duplicates"}]}
        for work in (
            lambda: client.datasets.clean("small-memory", recipe, "less", memory_mb=LEAST_MEMORY_MB),
            lambda: client.datasets.join(
                "small-memory", "small-memory", ["a", "b", "c"], "less", memory_mb=LEAST_MEMORY_MB
            ),
        ):
            with pytest.raises(JobFailed, match=f"more than its {LEAST_MEMORY_MB} MB of memory.*--memory-mb"):
                work()
        assert job.result["rows"] == 1_080_000
        assert "less" not in [found.name for found in client.datasets.list()]
