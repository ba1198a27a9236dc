"""S3 for real: as the place of all artifacts, and as a source that the command line or the server reads."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from modelport.errors import InvalidInput, NotAllowed, NotFound, Unavailable
from tests import onnx_models
from tests.services.conftest import Server

pytest.importorskip("s3fs")
pytest.importorskip("moto")
from tests.services.s3 import S3, s3  # noqa: F401  (a fixture)

ROWS = np.array([[1, 2, 3]], np.float32)


def test_all_artifacts_in_s3(own_server: Callable[..., Server], s3: S3, tmp_path: Path) -> None:  # noqa: F811
    bucket = s3.bucket("artifacts")
    env = {**s3.env, "MODELPORT_ARTIFACTS_URL": f"s3://{bucket}/team", "MODELPORT_ARTIFACTS_GC_GRACE_S": "0"}
    server = own_server(**env)
    model = onnx_models.identity("FP32", (-1, 3))
    server.deploy("echo", model, replicas=1)
    server.push("other", onnx_models.add_sub())
    assert len(s3.keys(bucket)) == 2 and all(key.startswith("team/") for key in s3.keys(bucket))
    with server.client() as client:
        assert np.array_equal(client.predict("echo", ROWS), ROWS)
        client.models.pull("echo", 1, tmp_path / "pulled")
        assert (tmp_path / "pulled" / "model.onnx").read_bytes() == model
        where = f"{server.url}/api/v1/models/echo/versions/1/files/model.onnx"
        headers = {"range": "bytes=20-", "authorization": f"Bearer {server.token}"}
        rest = httpx.get(where, headers=headers)
        assert (rest.status_code, rest.content) == (206, model[20:])
        client.models.delete("other")
        assert client.gc().blobs == 1
        assert len(s3.keys(bucket)) == 1
    # a machine that has lost its cache serves from the bucket
    server.kill()
    subprocess.run(["chmod", "-R", "u+w", server.home / "cache"], check=True)
    subprocess.run(["rm", "-rf", server.home / "cache"], check=True)
    again = own_server(home=server.home, **env)
    with again.client() as client:
        client.deploy("echo", replicas=1)
        assert np.array_equal(client.predict("echo", ROWS), ROWS)


def test_a_store_that_does_not_answer_is_told_as_such(own_server: Callable[..., Server], s3: S3) -> None:  # noqa: F811
    server = own_server(**s3.env, MODELPORT_ARTIFACTS_URL="s3://no-such-bucket/x")
    with pytest.raises(Unavailable, match="artifact store"):
        server.push("m", onnx_models.identity())


def test_push_from_s3(server: Server, s3: S3) -> None:  # noqa: F811
    bucket = s3.bucket("sources")
    s3.put(bucket, "models/echo/model.onnx", onnx_models.identity())
    s3.put(bucket, "models/echo/.hidden", b"x")
    done = server.cli("push", f"s3://{bucket}/models/echo/model.onnx", "-n", "s3-file", "--json", **s3.env)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    assert made["format"] == "onnx" and [file["path"] for file in made["manifest"]["files"]] == ["model.onnx"]
    done = server.cli("push", f"s3://{bucket}/models/echo", "--json", **s3.env)
    assert json.loads(done.stdout)["model"] == "echo", done.stderr
    done = server.cli("push", f"s3://{bucket}/nothing", "-n", "x", **s3.env)
    assert done.returncode == 1 and "there is nothing" in done.stderr
    done = server.cli("push", "s3://no-such-bucket/nothing", "-n", "x", **s3.env)
    assert done.returncode == 1 and "there is nothing" in done.stderr


def test_the_server_reads_only_what_is_allowed(own_server: Callable[..., Server], s3: S3) -> None:  # noqa: F811
    for bucket in ("open", "open-not", "closed"):
        s3.put(s3.bucket(bucket), "m/model.onnx", onnx_models.identity())
    server = own_server(**s3.env, MODELPORT_IMPORTS_ALLOW='["s3://open"]')
    with server.client() as client:
        (made,) = client.models.import_from("s3://open/m", "m", alias="champion", labels={"team": "a"})
        assert (made.aliases, made.labels, made.manifest.parents) == (["champion"], {"team": "a"}, ["s3://open/m"])
        for source in ("s3://open-not/m", "s3://closed/m", "https://example.com/m", f"file://{server.home}", "/etc"):
            with pytest.raises(NotAllowed):
                client.models.import_from(source, "m")
        for source in ("http://example.com/m", "ftp://h/m", "simplecache::s3://open/m", "s3://open/m::file:///etc"):
            with pytest.raises((InvalidInput, NotAllowed)):
                client.models.import_from(source, "m")
        with pytest.raises(NotFound):
            client.models.import_from("s3://open/missing", "m")
    assert not list((server.home / "cache" / "imports").iterdir())
    done = server.cli("push", "s3://open/m", "--name", "m", "--on-server")
    assert done.returncode == 0 and "m:2" in done.stdout, done.stderr
