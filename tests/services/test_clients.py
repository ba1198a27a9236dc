"""Other products' own clients, unchanged, against a real server: `make test-clients` sets up their venv."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from tests import onnx_models
from tests.services.conftest import Server

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
ROWS = np.random.default_rng(7).normal(size=(5, 4)).astype(np.float32)

pytestmark = [pytest.mark.xdist_group("clients"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("clients")).start()
    try:
        server.deploy("mlp", onnx_models.mlp())
        for datatype in ("fp32", "fp64", "int64", "uint8", "bool", "bytes"):
            server.deploy(f"identity-{datatype}", onnx_models.identity(datatype.upper()))
        server.deploy("half_plus_two", half_plus_two())
        yield server
    finally:
        server.stop()


def half_plus_two() -> bytes:
    """TensorFlow Serving's own example model: x / 2 + 2, [-1] to [-1]."""
    weights = [onnx_models.constant("half", np.float32(0.5)), onnx_models.constant("two", np.float32(2))]
    nodes = [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Add", ["h", "two"], ["y"])]
    model = onnx_models.model(
        nodes, [onnx_models.value("x", "FP32", (-1,))], [onnx_models.value("y", "FP32", (-1,))], weights
    )
    return model.SerializeToString()


@pytest.fixture(scope="module")
def expected() -> Any:
    """The library's own answer."""
    session = ort.InferenceSession(onnx_models.mlp(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": ROWS})[0]


def client(script: str, *arguments: str) -> dict[str, Any]:
    if not PYTHON.exists():
        pytest.skip("the clients' venv is not there: make test-clients")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "clients" / script, *arguments],
        input=json.dumps(ROWS.tolist()), env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def difference(found: Any, expected: Any) -> float:
    return float(np.abs(np.array(found, np.float32) - expected).max())


def test_kserve_sdk(doors: Server, expected: Any) -> None:
    found = client("kserve_sdk.py", doors.url, doors.grpc)
    for protocol in ("v1", "v2", "v2 binary", "grpc"):
        assert difference(found[protocol], expected) == 0, protocol
    facts = {key: value for key, value in found.items() if isinstance(value, bool)}
    assert len(facts) == 7 + 18
    assert all(facts.values()), facts
    assert "the model takes [-1, 4]" in found["v1 error"]


def test_mlflow_scoring_client(doors: Server, expected: Any) -> None:
    """It names no model, so it gets the only one of its server."""
    with httpx.Client(base_url=doors.url) as http:
        assert http.post("/invocations", json={"inputs": [[1]]}).status_code == 400
    alone = Server(doors.home / "alone").start()
    try:
        alone.deploy("mlp", onnx_models.mlp())
        found = client("mlflow_client.py", alone.url)
    finally:
        alone.stop()
    for form in ("frame", "as frame", "array", "list", "records"):
        assert difference(found[form], expected) == 0, form
    assert "400" in found["error"]
    assert "the model takes [-1, 4]" in found["error"]


def test_sagemaker_runtime_client(doors: Server, expected: Any) -> None:
    found = client("sagemaker_runtime.py", doors.url, "mlp")
    for form in ("json", "csv", "lines"):
        assert difference(found[form], expected) == 0, form
    assert found["csv type"].startswith("text/csv")
    assert found["status"] == 400
    assert "not JSON" in found["error"]


def test_tensorflow_servings_documented_requests(doors: Server) -> None:
    """The requests of its REST guide, as they stand there, and the answers that stand beside them."""
    with httpx.Client(base_url=doors.url) as http:

        def post(path: str, body: str) -> Any:
            answer = http.post(f"/v1/models/half_plus_two{path}:predict", content=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        assert post("", '{"instances": [1.0, 2.0, 5.0]}') == {"predictions": [2.5, 3.0, 4.5]}
        assert post("/versions/1", '{"instances": [1.0, 2.0, 5.0]}') == {"predictions": [2.5, 3.0, 4.5]}
        named = '{"signature_name": "serving_default", "instances": [1.0, 2.0, 5.0]}'
        assert post("", named) == {"predictions": [2.5, 3.0, 4.5]}
        assert post("", '{"inputs": [1.0, 2.0, 5.0]}') == {"outputs": [2.5, 3.0, 4.5]}
        assert post("", '{"inputs": {"x": [1.0, 2.0, 5.0]}}') == {"outputs": [2.5, 3.0, 4.5]}
        status = http.get("/v1/models/half_plus_two").json()
        version = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        assert status["model_version_status"] == [version]
        metadata = http.get("/v1/models/half_plus_two/metadata").json()
        signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"]["x"]["dtype"] == "DT_FLOAT"
        assert signature["method_name"] == "tensorflow/serving/predict"
        missing = http.post("/v1/models/none:predict", content='{"instances": [1]}')
        assert (missing.status_code, list(missing.json())) == (404, ["error"])
