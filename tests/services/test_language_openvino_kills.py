"""A language model's export that is killed, or whose disk is full: it says so, nothing half-made is registered."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from modelport.errors import NotFound
from modelport.sdk.jobs import JobFailed
from tests.services.conftest import Server
from tests.services.test_convert_kills import converter_of
from tests.training import tiny_models

pytest.importorskip("openvino_genai")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
TEXTS = ["the cat sat on the mat, and the dog barked at it", "a quick brown fox"] * 4


def test_an_export_that_is_killed_registers_one_version_or_none(
    own_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = own_server("--gateways", "1")
    with server.client() as client:
        client.models.push(tiny_models.llama(tmp_path / "tiny", TEXTS), "tiny")
        died = client.conversions.convert("tiny", "openvino", name="died", wait=False)
        converter_of(server, 500).kill()  # the environment is built first
        ended = client.jobs.wait(died.id, raises=False)
        assert ended.state == "failed"
        assert "the process that converted the model died (SIGKILL)" in str(ended.error)
        with pytest.raises(NotFound):
            client.models.version("died")
        last = client.conversions.convert("tiny", "openvino", name="last", wait=False, retries=3)
        converter = converter_of(server)
        time.sleep(3)
    server.kill()
    psutil.wait_procs([converter], timeout=10)
    assert not converter.is_running(), "a converter outlives its server"
    server.start()
    with server.client() as client:
        made = client.jobs.wait(last.id, raises=False)
        assert made.state == "succeeded", made.error
        assert len(client.models.versions("last")) == 1
        client.deploy("last", timeout=120)


def test_an_export_onto_a_full_disk(
    small_disk: Callable[[int], Path], own_server: Callable[..., Server], tmp_path: Path
) -> None:
    """The environment is elsewhere; the model fits onto the disk, and what is made of it does not."""
    home = small_disk(64) / "home"
    home.mkdir()
    (tmp_path / "environments").mkdir()
    (home / "environments").symlink_to(tmp_path / "environments")
    server = own_server("--gateways", "1", home=home)
    folder = tiny_models.llama(tmp_path / "wide", TEXTS, width=1024, layers=1)
    size = sum(path.stat().st_size for path in folder.iterdir()) >> 20
    assert 30 < size < 45, size
    with server.client() as client:
        client.models.push(folder, "wide")
        with pytest.raises(JobFailed, match="the server's disk is full: nothing was registered"):
            client.conversions.convert("wide", "openvino", name="no", precision="fp32")
        with pytest.raises(NotFound):
            client.models.version("no")
        assert client.status() is not None
