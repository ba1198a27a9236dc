"""Google's and Azure's stores for real: as the place of all artifacts, and as a source that the server or the
command line reads."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from modelport.errors import InvalidInput, ModelportError, NotAllowed, NotFound, Unavailable
from modelport.storage.artifacts import Artifacts
from tests import onnx_models
from tests.services.clouds import Cloud, cloud  # noqa: F401  (a fixture)
from tests.services.conftest import Server

pytestmark = pytest.mark.xdist_group("clouds")

ROWS = np.array([[1, 2, 3]], np.float32)


def test_all_artifacts_in_the_cloud(own_server: Callable[..., Server], cloud: Cloud, tmp_path: Path) -> None:  # noqa: F811
    url = cloud.bucket("artifacts")
    env = {**cloud.env, "MODELPORT_ARTIFACTS_URL": f"{url}/team", "MODELPORT_ARTIFACTS_GC_GRACE_S": "0"}
    server = own_server(**env)
    model = onnx_models.identity("FP32", (-1, 3))
    server.deploy("echo", model, replicas=1)
    server.push("echo", model)  # a second time: stored once
    server.push("other", onnx_models.add_sub())
    assert len(cloud.paths("artifacts")) == 2
    with server.client() as client:
        assert np.array_equal(client.predict("echo", ROWS), ROWS)
        client.models.pull("echo", 1, tmp_path / "pulled")
        assert (tmp_path / "pulled" / "model.onnx").read_bytes() == model
        client.models.delete("other")
        assert client.gc().blobs == 1
        assert len(cloud.paths("artifacts")) == 1
    # a machine that has lost its cache serves from the bucket
    server.kill()
    subprocess.run(["chmod", "-R", "u+w", server.home / "cache"], check=True)
    shutil.rmtree(server.home / "cache")
    again = own_server(home=server.home, **env)
    with again.client() as client:
        client.deploy("echo", replicas=1)
        assert np.array_equal(client.predict("echo", ROWS), ROWS)
        # what was damaged or removed behind our back is told, and not served
        (path,) = cloud.paths("artifacts")
        cloud.files.rm_file(path)
        with pytest.raises(Unavailable, match="is lost from the store; push it again"):
            client.models.pull("echo", 1, tmp_path / "lost")


def test_a_bucket_that_is_not_there(own_server: Callable[..., Server], cloud: Cloud) -> None:  # noqa: F811
    server = own_server(**cloud.env, MODELPORT_ARTIFACTS_URL=f"{cloud.scheme}://no-such-bucket/x")
    with pytest.raises(Unavailable, match="artifact store"):
        server.push("m", onnx_models.identity())


def test_push_from_the_cloud(server: Server, cloud: Cloud) -> None:  # noqa: F811
    url, name = cloud.bucket("sources"), f"{cloud.scheme}-model"
    cloud.put("sources/models/echo/model.onnx", onnx_models.identity())
    cloud.put("sources/models/echo/.hidden", b"x")
    cloud.put("sources/models/echo2/model.onnx", onnx_models.add_sub())
    for source in (f"{url}/models/echo/model.onnx", f"{url}/models/echo", f"{url}/models/echo/"):
        done = server.cli("push", source, "-n", name, "--json", **cloud.env)
        assert done.returncode == 0, done.stderr
        made = json.loads(done.stdout)
        assert made["format"] == "onnx", made
        assert [file["path"] for file in made["manifest"]["files"]] == ["model.onnx"]
    for source in (f"{url}/nothing", f"{cloud.scheme}://no-such-bucket/nothing"):
        done = server.cli("push", source, "-n", "x", **cloud.env)
        assert done.returncode == 1 and "there is nothing" in done.stderr, done.stderr


def test_the_server_reads_only_what_is_allowed(own_server: Callable[..., Server], cloud: Cloud) -> None:  # noqa: F811
    for bucket in ("open", "open-not"):
        cloud.bucket(bucket)
        cloud.put(f"{bucket}/m/model.onnx", onnx_models.identity())
    server = own_server(**cloud.env, MODELPORT_IMPORTS_ALLOW=f'["{cloud.scheme}://open"]')
    with server.client() as client:
        (made,) = client.models.import_from(f"{cloud.scheme}://open/m", "m")
        assert made.manifest.parents == [f"{cloud.scheme}://open/m"]
        with pytest.raises(NotAllowed):
            client.models.import_from(f"{cloud.scheme}://open-not/m", "m")
        with pytest.raises(NotFound):
            client.models.import_from(f"{cloud.scheme}://open/missing", "m")


def test_without_credentials_the_next_step_is_told(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("adlfs")
    done = server.cli("push", "abfs://bucket/m", "-n", "x", AZURE_STORAGE_CONNECTION_STRING="")
    assert done.returncode == 1
    assert "has no credentials" in done.stderr and "set AZURE_STORAGE_CONNECTION_STRING" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(InvalidInput, match="artifacts.url: .*; set AZURE_STORAGE_CONNECTION_STRING"):
        Artifacts("abfs://bucket/team", tmp_path)


@pytest.mark.parametrize(("scheme", "library", "extra"), [("gs", "gcsfs", "gcs"), ("abfs", "adlfs", "azure")])
def test_a_missing_extra_is_named(server: Server, scheme: str, library: str, extra: str, tmp_path: Path) -> None:
    if find_spec(library) is not None:
        pytest.skip(f"{library} is installed")
    command = rf"pip install 'modelport\[{extra}\]'"
    with pytest.raises(ModelportError, match=command):
        Artifacts(f"{scheme}://bucket/x", tmp_path)
    done = server.cli("push", f"{scheme}://bucket/m", "-n", "x")
    assert done.returncode == 1 and f"pip install 'modelport[{extra}]'" in done.stderr, done.stderr
