"""V2 over HTTP, at the level of bytes: what goes in, what comes out, what is refused."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import numpy as np
import pytest

from modelport.api import inference_v2
from modelport.api.messages import Caller, HttpResponse
from modelport.errors import ModelportError
from tests import onnx_models
from tests.api.asgi import call, whole
from tests.api.plane import LocalPlane, zoo


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    return zoo()


async def post(
    plane: LocalPlane, model: str, body: Any, tail: bytes | None = None, headers: dict[str, str] | None = None
) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = dict(headers or {})
    if tail is not None:
        headers["inference-header-content-length"] = str(len(raw))
    return await call(inference_v2.routes(plane), "POST", f"/v2/models/{model}/infer", raw + (tail or b""), headers)


def tensor(name: str, datatype: str, shape: list[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        found["data"] = data
    if parameters:
        found["parameters"] = parameters
    return found


async def test_json_in_json_out(plane: LocalPlane) -> None:
    response = await post(
        plane,
        "add-sub",
        {
            "id": "42",
            "inputs": [
                tensor("a", "FP32", [1, 4], [1, 2, 3, 4.5]),
                tensor("b", "FP32", [1, 4], [[1, 1, 1, 1]]),
            ],
        },
    )
    assert response.status == 200
    assert json.loads(whole(response)) == {
        "model_name": "add-sub",
        "model_version": "1",
        "id": "42",
        "outputs": [
            tensor("sum", "FP32", [1, 4], [2.0, 3.0, 4.0, 5.5]),
            tensor("difference", "FP32", [1, 4], [0.0, 1.0, 2.0, 3.5]),
        ],
    }


async def test_binary_in_and_a_choice_of_outputs(plane: LocalPlane) -> None:
    a = np.arange(4, dtype=np.float32).reshape(1, 4)
    response = await post(
        plane,
        "add-sub",
        {
            "inputs": [
                tensor("a", "FP32", [1, 4], binary_data_size=16),
                tensor("b", "FP32", [1, 4], [1, 1, 1, 1]),
            ],
            "outputs": [
                {"name": "difference", "parameters": {"binary_data": True}},
                {"name": "sum", "parameters": {"binary_data": False}},
            ],
        },
        a.tobytes(),
    )
    assert response.content_type == "application/octet-stream"
    length = int(dict(response.headers)["Inference-Header-Content-Length"])
    head, tail = whole(response)[:length], whole(response)[length:]
    assert json.loads(head)["outputs"] == [
        {"name": "difference", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}},
        tensor("sum", "FP32", [1, 4], [1.0, 2.0, 3.0, 4.0]),
    ]
    assert np.frombuffer(tail, np.float32).tolist() == [-1.0, 0.0, 1.0, 2.0]


async def test_all_outputs_binary_with_strings(plane: LocalPlane) -> None:
    strings = [b"", b"a:b", "é".encode()]
    raw = b"".join(struct.pack("<I", len(s)) + s for s in strings)
    response = await post(
        plane,
        "identity-bytes",
        {
            "parameters": {"binary_data_output": True},
            "inputs": [tensor("input", "BYTES", [1, 3], binary_data_size=len(raw))],
        },
        raw,
    )
    length = int(dict(response.headers)["Inference-Header-Content-Length"])
    assert whole(response)[length:] == raw


async def test_strings_as_json(plane: LocalPlane) -> None:
    response = await post(
        plane, "identity-bytes", {"inputs": [tensor("input", "BYTES", [1, 3], ["http://a", "", "é\u0000"])]}
    )
    assert json.loads(whole(response))["outputs"][0]["data"] == ["http://a", "", "é\u0000"]


async def test_a_scalar_tensor(plane: LocalPlane) -> None:
    response = await post(plane, "scalar", {"inputs": [tensor("input", "FP32", [], [1.5])]})
    assert json.loads(whole(response))["outputs"] == [tensor("output", "FP32", [], [3.0])]


async def test_an_empty_batch(plane: LocalPlane) -> None:
    response = await post(plane, "identity-fp32", {"inputs": [tensor("input", "FP32", [0, 3], [])]})
    assert json.loads(whole(response))["outputs"] == [tensor("output", "FP32", [0, 3], [])]


async def test_what_json_cannot_write_becomes_null(plane: LocalPlane) -> None:
    raw = np.array([[np.nan, np.inf, 1]], np.float32).tobytes()
    response = await post(
        plane, "identity-fp32", {"inputs": [tensor("input", "FP32", [1, 3], binary_data_size=12)]}, raw
    )
    assert json.loads(whole(response))["outputs"][0]["data"] == [None, None, 1.0]


async def test_bf16_is_binary_only(plane: LocalPlane) -> None:
    as_json = await post(plane, "identity-bf16", {"inputs": [tensor("input", "BF16", [1, 3], [1, 2, 3])]})
    assert as_json.status == 400
    assert b"binary tensor extension" in whole(as_json)
    body = {"inputs": [tensor("input", "BF16", [1, 3], binary_data_size=6)]}
    raw = b"\x80\x3f\x00\x40\x40\x40"
    out = await post(plane, "identity-bf16", body, raw)
    assert out.status == 400
    assert b"binary_data" in whole(out)
    good = await post(plane, "identity-bf16", {**body, "parameters": {"binary_data_output": True}}, raw)
    assert whole(good).endswith(raw)


async def test_classification(plane: LocalPlane) -> None:
    inputs = [tensor("input", "FP32", [2, 4], [1, 0, 0, 0, 0, 0, 0, 1])]
    plain = json.loads(whole(await post(plane, "mlp", {"inputs": inputs})))
    scores = np.array(plain["outputs"][0]["data"]).reshape(2, 3)
    body = {"inputs": inputs, "outputs": [{"name": "output", "parameters": {"classification": 2}}]}
    found = json.loads(whole(await post(plane, "mlp", body)))["outputs"][0]
    assert (found["datatype"], found["shape"]) == ("BYTES", [2, 2])
    labels = ["red", "green", "blue"]
    best = np.argsort(-scores, axis=1)[:, :2]
    expected = [f"{scores[row, i]:f}:{i}:{labels[i]}" for row in range(2) for i in best[row]]
    assert found["data"] == expected


async def test_a_model_without_inputs(plane: LocalPlane) -> None:
    plane.deploy("constant", onnx_models.without_inputs())
    assert json.loads(whole(await post(plane, "constant", {"inputs": []})))["outputs"][0]["data"] == [1.0, 2.0]
    assert (await post(plane, "constant", {})).status == 400
    assert (await post(plane, "mlp", {"inputs": []})).status == 400


async def test_classification_of_no_rows(plane: LocalPlane) -> None:
    wish = {"name": "output", "parameters": {"classification": 2}}
    body = {"inputs": [tensor("input", "FP32", [0, 4], [])], "outputs": [wish]}
    found = json.loads(whole(await post(plane, "mlp", body)))["outputs"][0]
    assert (found["datatype"], found["shape"], found["data"]) == ("BYTES", [0, 2], [])


async def test_deadlines_reach_the_plane(plane: LocalPlane) -> None:
    body = {"inputs": [tensor("input", "FP32", [], [1.5])], "parameters": {"timeout": 5_000_000}}
    before = time.monotonic()
    assert (await post(plane, "scalar", body)).status == 200
    assert 4 < plane.seen[-1].deadline - before < 6
    assert (await post(plane, "scalar", body, headers={"x-request-timeout": "2.5"})).status == 200
    assert 1 < plane.seen[-1].deadline - before < 4
    for bad in ("0", "-1", "nan", "inf", "soon", ""):
        assert (await post(plane, "scalar", body, headers={"x-request-timeout": bad})).status == 400


async def test_the_request_id_reaches_the_plane(plane: LocalPlane) -> None:
    body = {"inputs": [tensor("input", "FP32", [], [1.5])]}
    await post(plane, "scalar", body, headers={"x-request-id": "abc"})
    assert (plane.seen[-1].request_id, plane.seen[-1].traced) == ("abc", True)


async def get(plane: LocalPlane, path: str) -> tuple[int, Any]:
    response = await call(inference_v2.routes(plane), "GET", path)
    return response.status, json.loads(whole(response))


async def test_facts(plane: LocalPlane) -> None:
    status, server = await get(plane, "/v2")
    assert status == 200
    assert server["name"] == "modelport"
    assert (await get(plane, "/v2/health/live"))[0] == 200
    assert (await get(plane, "/v2/health/ready"))[0] == 200
    assert await get(plane, "/v2/models") == (200, {"models": sorted(plane.by_name)})
    status, facts = await get(plane, "/v2/models/mlp/versions/1")
    assert facts == {
        "name": "mlp",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 3]}],
    }
    status, config = await get(plane, "/v2/models/mlp/config")
    assert config["max_batch_size"] == 32
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": [4]}]
    assert (await get(plane, "/v2/models/mlp/ready")) == (200, {"name": "mlp", "ready": True})
    for path in ("/v2/models/none", "/v2/models/none/ready", "/v2/models/mlp/versions/2", "/v2/models/none/stats"):
        assert (await get(plane, path))[0] == 404


async def test_not_ready() -> None:
    plane = zoo()
    plane.by_name["mlp"].is_ready = False
    assert (await get(plane, "/v2/health/live"))[0] == 200
    assert (await get(plane, "/v2/health/ready"))[0] == 503
    assert (await get(plane, "/v2/models/mlp/ready"))[0] == 400
    assert (await get(plane, "/v2/models/scalar/ready"))[0] == 200


async def test_statistics_count() -> None:
    plane = zoo()
    await post(plane, "scalar", {"inputs": [tensor("input", "FP32", [], [1.5])]})
    _, found = await get(plane, "/v2/models/scalar/stats")
    (model,) = found["model_stats"]
    assert model["execution_count"] == 1
    assert model["inference_stats"]["success"]["count"] == 1
    _, every = await get(plane, "/v2/models/stats")
    assert len(every["model_stats"]) == len(plane.by_name)


async def test_another_project_sees_nothing(plane: LocalPlane) -> None:
    response = await call(inference_v2.routes(plane), "GET", "/v2/models/mlp", caller=Caller(project="other"))
    assert response.status == 404


def test_errors_are_one_string(plane: LocalPlane) -> None:
    route = inference_v2.routes(plane)[0]
    assert whole(route.error(ModelportError("x"))) == b'{"error":"x"}'
