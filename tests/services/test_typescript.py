"""The TypeScript client, generated from the OpenAPI document, compiled and called from Node against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import onnx_models, streaming
from tests.services.conftest import Server
from tests.services.served import serve

CLIENT = Path(__file__).parents[2] / "clients" / "typescript"
pytestmark = [pytest.mark.xdist_group("typescript"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client, generated and compiled anew beside its packages."""
    if shutil.which("node") is None or not (CLIENT / "node_modules").exists():
        pytest.skip("Node or the client's packages are not there: make typescript")
    folder = tmp_path_factory.mktemp("typescript")
    shutil.copytree(CLIENT / "src", folder / "src", ignore=shutil.ignore_patterns("schema.d.ts"))
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(CLIENT / name, folder)
    (folder / "node_modules").symlink_to(CLIENT / "node_modules")
    document = CLIENT.parents[1] / "docs" / "openapi.json"
    for argv in (["openapi-typescript", str(document), "--output", "src/schema.d.ts"], ["tsc"]):
        done = subprocess.run(
            ["node", f"node_modules/.bin/{argv[0]}", *argv[1:]], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.long
def test_it_compiles_and_is_called_from_node(compiled: Path, server: Server, tmp_path: Path) -> None:
    server.deploy("typed", onnx_models.identity(shape=(-1, 4)))
    path = streaming.installed(tmp_path / "site")
    with serve(streaming.write_model(tmp_path), tmp_path, "--name", "words", PYTHONPATH=path) as words:
        done = subprocess.run(
            ["node", "dist/example.js", server.url, "typed", words.url],
            cwd=compiled, capture_output=True, text=True, timeout=60, env={**os.environ, "MODELPORT_KEY": server.token},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        text = words.wait_for_log('"of": 403')  # leaving the loop has ended the generator in the model
        (ended,) = [line for line in text.splitlines() if '"of": 403' in line]
    found = json.loads(done.stdout)
    assert found["versions"]["items"][0]["version"] == 1
    assert found["deployed"]["name"] == "typed"
    assert found["result"] == [[1, 2, 3, 4]]
    status, code, message, request_id = found["refusal"]
    assert (status, code) == (404, "not_found")
    assert "nothing" in message
    assert request_id
    assert "the model takes [-1, 4]" in found["badInput"]
    assert found["words"] == ["one", "two", "three"]
    assert found["typed"] == ["function", "function", 1]
    assert json.loads(ended)["given"] < 300
