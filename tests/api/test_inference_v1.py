"""V1: rows and columns in, rows and columns out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from onnx import TensorProto, helper

from modelport.api import inference_v1
from tests import onnx_models
from tests.api.asgi import call, whole
from tests.api.plane import LocalPlane, zoo


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    return zoo()


async def predict(plane: LocalPlane, target: str, body: Any) -> tuple[int, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await call(inference_v1.routes(plane), "POST", f"/v1/models/{target}", raw)
    return response.status, json.loads(whole(response))


async def get(plane: LocalPlane, path: str) -> tuple[int, Any]:
    response = await call(inference_v1.routes(plane), "GET", path)
    return response.status, json.loads(whole(response))


async def test_rows_of_one_input_and_one_output(plane: LocalPlane) -> None:
    body = {"signature_name": "serving_default", "instances": [[1, 2, 3], [4, 5, 6.5]]}
    for target in ("identity-fp32:predict", "identity-fp32/versions/1:predict"):
        assert await predict(plane, target, body) == (200, {"predictions": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]})


async def test_rows_as_objects_and_several_outputs(plane: LocalPlane) -> None:
    row = {"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}
    expected = {"sum": [2.0, 3.0, 4.0, 5.0], "difference": [0.0, 1.0, 2.0, 3.0]}
    assert await predict(plane, "add-sub:predict", {"instances": [row, row]}) == (
        200,
        {"predictions": [expected, expected]},
    )


async def test_columns(plane: LocalPlane) -> None:
    body = {"inputs": {"a": [[1, 2, 3, 4]], "b": [[1, 1, 1, 1]]}}
    expected = {"outputs": {"sum": [[2.0, 3.0, 4.0, 5.0]], "difference": [[0.0, 1.0, 2.0, 3.0]]}}
    assert await predict(plane, "add-sub:predict", body) == (200, expected)
    assert await predict(plane, "scalar:predict", {"inputs": 2}) == (200, {"outputs": 4.0})
    assert await predict(plane, "scalar:predict", {"inputs": {"input": 2}}) == (200, {"outputs": 4.0})


async def test_strings_and_base64(plane: LocalPlane) -> None:
    body = {"instances": [["a", {"b64": "Yg=="}, "é"]]}
    assert await predict(plane, "identity-bytes:predict", body) == (200, {"predictions": [["a", "b", "é"]]})


async def test_labelled_scores_may_be_bf16_and_labelled_strings_are_no_scores(plane: LocalPlane) -> None:
    value, names = onnx_models.value, ["ant", "bee", "cat"]
    nodes = [helper.make_node("Cast", ["input"], ["output"], to=TensorProto.BFLOAT16)]
    ends = [value("input", "FP32", ("n", 3))], [value("output", "BF16", ("n", 3))]
    cast = onnx_models.model(nodes, *ends).SerializeToString()
    plane.deploy("cast", cast, labels={"output": names})
    status, found = await predict(plane, "cast:predict?top_k=1", {"instances": [[0.5, 2, 1]]})
    assert (status, found) == (200, {"predictions": [[{"label": "bee", "score": 2.0}]]})
    plane.deploy("strings", onnx_models.identity("BYTES"), labels={"output": names})
    status, found = await predict(plane, "strings:predict?top_k=1", {"instances": [["a", "b", "c"]]})
    assert status == 400
    assert "no output of class scores" in found["error"]


async def test_the_alias_that_was_deployed_is_a_label(plane: LocalPlane) -> None:
    body = {"instances": [[1, 2, 3, 4]]}
    assert (await predict(plane, "mlp/labels/champion:predict", body))[0] == 200
    assert (await predict(plane, "mlp/labels/other:predict", body))[0] == 404


async def test_top_k(plane: LocalPlane) -> None:
    body = {"instances": [[1, 0], [0, 1]]}
    status, found = await predict(plane, "animals:predict?top_k=2", body)
    assert status == 200
    assert found["predictions"][0][0]["label"] == "ant"
    assert all(row[0]["score"] >= row[1]["score"] and len(row) == 2 for row in found["predictions"])
    status, found = await predict(plane, "animals:predict?labels=true", body)
    assert sorted(entry["label"] for entry in found["predictions"][1]) == ["ant", "bee", "cat"]
    assert (await predict(plane, "identity-int64:predict?top_k=2", {"instances": [[1, 2, 3]]}))[0] == 400
    assert (await predict(plane, "animals:predict?top_k=0", body))[0] == 400


async def test_an_output_without_rows_wants_columns(plane: LocalPlane) -> None:
    status, found = await predict(plane, "scalar:predict", {"instances": [1]})
    assert status == 400
    assert "shape" in found["error"]


async def test_other_verbs(plane: LocalPlane) -> None:
    assert (await predict(plane, "mlp:classify", {}))[0] == 400
    assert (await predict(plane, "mlp:explain", {}))[0] == 400
    assert (await predict(plane, "mlp:dance", {}))[0] == 404


async def test_facts(plane: LocalPlane) -> None:
    _, models = await get(plane, "/v1/models")
    assert models["models"] == [card["id"] for card in models["data"]] == sorted(plane.by_name)
    assert models["object"] == "list"
    assert (models["first_id"], models["last_id"]) == (models["models"][0], models["models"][-1])
    _, status = await get(plane, "/v1/models/mlp")
    assert status["ready"] is True
    assert status.items() > next(card for card in models["data"] if card["id"] == "mlp").items()
    assert status["model_version_status"][0]["state"] == "AVAILABLE"
    _, metadata = await get(plane, "/v1/models/mlp/versions/1/metadata")
    definition = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["inputs"]["input"]["dtype"] == "DT_FLOAT"
    assert definition["outputs"]["output"]["tensor_shape"]["dim"] == [
        {"size": "-1", "name": ""},
        {"size": "3", "name": ""},
    ]
    found, error = await get(plane, "/v1/models/none")
    assert (found, error["error"]["code"]) == (404, "model_not_found")
    found, error = await get(plane, "/v1/models/none/versions/1")
    assert (found, error) == (404, {"error": "no endpoint 'none'"})
