"""``/predict``: a batch or one row in, the same out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelport.api import inference_predict
from tests import onnx_models
from tests.api.asgi import call, whole
from tests.api.plane import LocalPlane, zoo


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    return zoo()


async def predict(plane: LocalPlane, target: str, body: Any) -> tuple[int, Any]:
    response = await call(inference_predict.routes(plane), "POST", target, json.dumps(body).encode())
    return response.status, json.loads(whole(response))


async def test_a_batch_and_one_row(plane: LocalPlane) -> None:
    batch, row = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [1.0, 2.0, 3.0]
    for target in ("/predict?model=identity-fp32", "/predict/identity-fp32"):
        assert await predict(plane, target, {"data": batch}) == (200, {"result": batch})
        assert await predict(plane, target, {"data": row}) == (200, {"result": row})
        assert await predict(plane, target, batch) == (200, batch)
        assert await predict(plane, target, row) == (200, row)


async def test_several_inputs_and_outputs(plane: LocalPlane) -> None:
    body = {"data": {"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}}
    expected = {"sum": [2.0, 3.0, 4.0, 5.0], "difference": [0.0, 1.0, 2.0, 3.0]}
    assert await predict(plane, "/predict/add-sub", body) == (200, {"result": expected})
    mixed = {"data": {"a": [1, 2, 3, 4], "b": [[1, 1, 1, 1]]}}
    assert (await predict(plane, "/predict/add-sub", mixed))[0] == 400


async def test_rows_are_objects_by_input_name(plane: LocalPlane) -> None:
    """As a data frame's records: an input of one feature takes its bare cell."""
    alone = LocalPlane()
    alone.deploy("table", onnx_models.add_sub(width=1))
    one, two = {"a": 3, "b": 1}, {"b": 2, "a": 2}
    assert await predict(alone, "/predict/table", [one, two]) == (
        200,
        {"sum": [[4.0], [4.0]], "difference": [[2.0], [0.0]]},
    )
    assert await predict(alone, "/predict", {"data": one}) == (200, {"result": {"sum": [4.0], "difference": [2.0]}})
    whole_rows = [{"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}]
    status, found = await predict(plane, "/predict/add-sub", {"data": whole_rows})
    assert (status, found["result"]["difference"]) == (200, [[0.0, 1.0, 2.0, 3.0]])
    for wrong, message in (
        ([one, {"a": 1}], "data[1]: input 'b' is missing"),
        ([one, 5], "data[1] must be an object"),
        ({"a": 1, "c": 2}, "input 'b' is missing"),
        ([{**one, "c": 1}], "input 'c' is unknown"),
    ):
        status, found = await predict(alone, "/predict/table", {"data": wrong})
        assert status == 400 and message in found["error"], found


async def test_a_scalar(plane: LocalPlane) -> None:
    assert await predict(plane, "/predict/scalar", {"data": 1.5}) == (200, {"result": 3.0})


async def test_row_of_two_outputs_of_different_rank(plane: LocalPlane) -> None:
    expected = {"result": {"total": 6.0, "doubled": [2.0, 4.0, 6.0]}}
    assert await predict(plane, "/predict/dynamic", {"data": [1, 2, 3]}) == (200, expected)


async def test_top_k(plane: LocalPlane) -> None:
    status, found = await predict(plane, "/predict/animals?top_k=1", {"data": [1, 0]})
    assert status == 200
    ((label, score),) = [(entry["label"], entry["score"]) for entry in found["result"]]
    assert label == "ant"
    assert 0.3 < score < 1
    status, found = await predict(plane, "/predict/animals?top_k=9", {"data": [[1, 0], [0, 1]]})
    assert [len(row) for row in found["result"]] == [3, 3]


async def test_which_model(plane: LocalPlane) -> None:
    status, found = await predict(plane, "/predict", {"data": [1]})
    assert status == 400
    assert "?model=" in found["error"]
    assert (await predict(plane, "/predict/none", {"data": [1]}))[0] == 404
    assert (await predict(LocalPlane(), "/predict", {"data": [1]}))[0] == 503
    alone = LocalPlane()
    alone.deploy("only", onnx_models.identity())
    assert await predict(alone, "/predict", {"data": [1, 2, 3]}) == (200, {"result": [1.0, 2.0, 3.0]})


@pytest.mark.parametrize("body", [None, 1, "x", {}, {"data": [1], "more": 1}, {"dat": [1]}])
async def test_bodies_that_are_neither(plane: LocalPlane, body: Any) -> None:
    status, found = await predict(plane, "/predict/identity-fp32", body)
    assert status == 400
    assert "'data'" in found["error"]
