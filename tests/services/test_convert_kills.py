"""kill -9 in the middle of a conversion: of the converter, of the job's worker, of the whole server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import skops.io
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

from modelport.errors import NotFound
from modelport.sdk.client import Client
from tests.services.conftest import Server
from tests.services.job_calls import workers_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
TREES = '["sklearn.tree._tree.Tree"]'


def converter_of(server: Server, most_s: float = 60) -> psutil.Process:
    """The process that converts, as soon as there is one."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        for process in server.tree():
            try:
                if "modelport.conversion.process" in process.cmdline():
                    return process
            except psutil.Error:
                continue
        time.sleep(0.01)
    raise AssertionError("no converter was started")


def pushed(client: Client, folder: Path) -> None:
    pixels, digits = load_digits(return_X_y=True)
    model = RandomForestClassifier(200, random_state=0).fit(pixels, digits)  # some seconds to convert
    skops.io.dump(model, folder / "forest.skops")
    client.models.push(folder / "forest.skops", "forest")


def test_a_killed_conversion_registers_one_version_or_none(
    own_job_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = own_job_server(MODELPORT_TRUST_SKLEARN_TYPES=TREES)
    with server.client() as client:
        pushed(client, tmp_path)

        died = client.conversions.convert("forest:1", "onnx", name="died", wait=False)
        converter_of(server).kill()
        ended = client.jobs.wait(died.id, raises=False)
        assert ended.state == "failed"
        assert "the process that converted the model died (SIGKILL)" in str(ended.error)
        with pytest.raises(NotFound):
            client.models.version("died")

        alone = client.conversions.convert("forest:1", "onnx", name="alone", wait=False, retries=0)
        converter = converter_of(server)
        for worker in workers_of(server):
            worker.kill()
        assert client.jobs.wait(alone.id, raises=False).state == "failed"
        psutil.wait_procs([converter], timeout=10)
        assert not converter.is_running(), "a converter outlives its job"
        with pytest.raises(NotFound):
            client.models.version("alone")

        again = client.conversions.convert("forest:1", "onnx", name="again", wait=False, retries=3)
        for _ in range(2):
            converter = converter_of(server)
            time.sleep(0.5)
            for worker in workers_of(server):
                worker.kill()
            psutil.wait_procs([converter], timeout=10)
        made = client.jobs.wait(again.id, raises=False)
        assert made.state == "succeeded" and made.attempt == 3
        assert len(client.models.versions("again")) == 1

        last = client.conversions.convert("forest:1", "onnx", name="last", wait=False, retries=3)
        converter_of(server)
    server.kill()
    server.start()
    with server.client() as client:
        made = client.jobs.wait(last.id, raises=False)
        assert made.state == "succeeded", made.error
        assert len(client.models.versions("last")) == 1
        client.deploy("last", timeout=60)
        assert client.models.version("last").manifest.metrics["parity_label_agreement"] == 1.0
