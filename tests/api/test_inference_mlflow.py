"""``/invocations``: data frames, TensorFlow's forms, CSV and JSON lines, to the only or the named model."""

from __future__ import annotations

import csv
import json
from typing import Any

import numpy as np
import pytest

import modelport
from modelport.api import inference_mlflow
from modelport.api.messages import HttpResponse
from tests import onnx_models
from tests.api.asgi import call, whole
from tests.api.plane import LocalPlane, zoo

COLUMNS = ["sepal length", "sepal width", "petal length"]
ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]]
ADD_SUB = [{"a": [1, 2, 3, 4], "b": [1, 1, 1, 1]}, {"a": [0, 0, 0, 0], "b": [1, 2, 3, 4]}]
SUMS = [
    {"sum": [2.0, 3.0, 4.0, 5.0], "difference": [0.0, 1.0, 2.0, 3.0]},
    {"sum": [1.0, 2.0, 3.0, 4.0], "difference": [-1.0, -2.0, -3.0, -4.0]},
]


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    plane = zoo()
    plane.deploy("pair", onnx_models.add_sub(width=1))
    plane.deploy("words", onnx_models.identity("BYTES", (-1, 2)))
    return plane


async def post(plane: LocalPlane, target: str, body: Any, media: str = "application/json", **more: str) -> HttpResponse:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": media, **{key.replace("_", "-"): value for key, value in more.items()}}
    return await call(inference_mlflow.routes(plane), "POST", target, raw, headers)


async def predictions(plane: LocalPlane, model: str, body: Any, media: str = "application/json") -> Any:
    response = await post(plane, f"/invocations?model={model}", body, media)
    assert response.status == 200, whole(response)
    return json.loads(whole(response))["predictions"]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": COLUMNS, "data": ROWS}},
        {"dataframe_split": {"columns": COLUMNS, "index": [0, 1], "data": ROWS}},
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_split": {"columns": ["input"], "data": [[row] for row in ROWS]}},
        {"dataframe_records": [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]},
        {"dataframe_records": [{"input": row} for row in ROWS]},
        {"instances": ROWS},
        {"instances": [{"input": row} for row in ROWS]},
        {"inputs": ROWS},
        {"inputs": {"input": ROWS}},
        {"inputs": ROWS, "params": None},
    ],
)
async def test_every_json_form(plane: LocalPlane, body: Any) -> None:
    assert await predictions(plane, "identity-fp32", body) == ROWS


async def test_columns_go_by_name_where_the_model_knows_its_features() -> None:
    plane = LocalPlane()
    plane.deploy("named", onnx_models.identity("FP32", (-1, 3)), features=("a", "b", "c"))
    turned = {"columns": ["c", "a", "b"], "data": [[3.0, 1.0, 2.0], [6.5, 4.0, 5.0]]}
    assert await predictions(plane, "named", {"dataframe_split": turned}) == ROWS
    records = [dict(zip(turned["columns"], row, strict=True)) for row in turned["data"]]
    assert await predictions(plane, "named", {"dataframe_records": records}) == ROWS
    assert await predictions(plane, "named", b"c,a,b\n3,1,2\n6.5,4,5\n", "text/csv") == ROWS
    assert await predictions(plane, "named", b"1,2,3\n4,5,6.5\n", "text/csv") == ROWS
    for columns in (COLUMNS, [0, 1, 2], ["a", "b", "c"]):
        assert await predictions(plane, "named", {"dataframe_split": {"columns": columns, "data": ROWS}}) == ROWS
    for columns, message in ((["a", "b", "x"], "lacks the column 'c'"), (["a", "b", "c", "d"], "has the column 'd'")):
        body = {"dataframe_split": {"columns": columns, "data": [[1.0] * len(columns)]}}
        response = await post(plane, "/invocations?model=named", body)
        assert response.status == 400 and message in json.loads(whole(response))["message"]


async def test_several_inputs_and_outputs(plane: LocalPlane) -> None:
    split = {"columns": ["b", "a"], "data": [[row["b"], row["a"]] for row in ADD_SUB]}
    assert await predictions(plane, "add-sub", {"dataframe_split": split}) == SUMS
    assert await predictions(plane, "add-sub", {"dataframe_records": ADD_SUB}) == SUMS
    assert await predictions(plane, "add-sub", {"instances": ADD_SUB}) == SUMS
    columns = {name: [row[name] for row in ADD_SUB] for name in ("a", "b")}
    assert await predictions(plane, "add-sub", {"inputs": columns}) == {
        name: [row[name] for row in SUMS] for name in ("sum", "difference")
    }


async def test_columns_of_single_numbers_become_their_inputs(plane: LocalPlane) -> None:
    expected = [{"sum": [3.0], "difference": [-1.0]}, {"sum": [9.0], "difference": [1.0]}]
    assert await predictions(plane, "pair", {"dataframe_records": [{"a": 1, "b": 2}, {"a": 5, "b": 4}]}) == expected
    assert await predictions(plane, "pair", b"b,a\n2,1\n4,5\n", "text/csv") == expected


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"1,2,3\n4,5,6.5\n", "text/csv"),
        (b"1,2,3\r\n4,5,6.5", "text/csv; charset=utf-8"),
        (b"a,b,c\n1,2,3\n\n4,5,6.5\n", "text/csv"),
        (b"1,2,3\n1,2,3\n4,5,6.5\n", "text/csv; header=present"),
        (b"1,2,3\n4,5,6.5\n", "Text/CSV; header=absent"),
        (b"[1,2,3]\n[4,5,6.5]\n", "application/jsonlines"),
        (b'{"features": [1,2,3]}\n\n{"features": [4,5,6.5]}', "application/x-ndjson"),
        (b'{"input": [1,2,3]}\r\n{"input": [4,5,6.5]}\r\n', "application/jsonlines"),
    ],
)
async def test_csv_and_json_lines_in(plane: LocalPlane, body: bytes, media: str) -> None:
    headers = {"accept": "application/json"}
    response = await post(plane, "/invocations?model=identity-fp32", body, media, **headers)
    assert json.loads(whole(response)) == {"predictions": ROWS}


async def test_csv_of_words(plane: LocalPlane) -> None:
    assert await predictions(plane, "words", b'a,"b ""quoted"", and more"\n\xc3\xa9,\n', "text/csv") == [
        ["a", 'b "quoted", and more'],
        ["é", ""],
    ]


async def test_csv_and_json_lines_out(plane: LocalPlane) -> None:
    body, target = {"instances": ROWS}, "/invocations?model=identity-fp32"
    found = await post(plane, target, body, accept="text/csv")
    assert (found.content_type, whole(found)) == ("text/csv; charset=utf-8", b"1.0,2.0,3.0\n4.0,5.0,6.5\n")
    found = await post(plane, target, body, accept="application/jsonlines")
    assert (found.content_type, whole(found)) == ("application/jsonlines", b"[1.0,2.0,3.0]\n[4.0,5.0,6.5]\n")
    found = await post(plane, target, b"[1,2,3]\n", "application/jsonlines", accept="*/*")
    assert whole(found) == b'{"predictions":[[1.0,2.0,3.0]]}'
    found = await post(plane, "/invocations?model=add-sub", {"instances": ADD_SUB}, accept="*/*, text/csv;q=0.5")
    assert whole(found) == b"2.0,3.0,4.0,5.0,0.0,1.0,2.0,3.0\n1.0,2.0,3.0,4.0,-1.0,-2.0,-3.0,-4.0\n"


async def test_classes_on_request(plane: LocalPlane) -> None:
    response = await post(plane, "/invocations?model=animals&top_k=1", {"instances": [[1, 0]]})
    assert json.loads(whole(response))["predictions"][0][0]["label"] == "ant"


async def test_classes_as_csv(plane: LocalPlane) -> None:
    response = await post(plane, "/invocations?model=animals&top_k=1", {"instances": [[1, 0]]}, accept="text/csv")
    ((cell,),) = csv.reader([whole(response).decode()])
    assert json.loads(cell).keys() == {"label", "score"}


async def test_a_scalar_has_no_rows_to_answer_by(plane: LocalPlane) -> None:
    assert await predictions(plane, "scalar", {"inputs": 3.0}) == 6.0
    for form in ("text/csv", "application/jsonlines"):
        response = await post(plane, "/invocations?model=scalar", {"inputs": 3.0}, accept=form)
        assert response.status == 400
        assert "the inputs are no rows" in json.loads(whole(response))["message"]


async def test_a_model_without_inputs_takes_no_rows(plane: LocalPlane) -> None:
    plane.deploy("constant", onnx_models.without_inputs())
    assert await predictions(plane, "constant", {"inputs": {}}) == [1.0, 2.0]
    frame = {"columns": ["a"], "data": [[1]]}
    for body, media in (
        ({"instances": [{}]}, "application/json"),
        ({"dataframe_split": frame}, "application/json"),
        ({"dataframe_records": [{"a": 1}]}, "application/json"),
        (b"1,2\n", "text/csv"),
        (b"{}\n", "application/jsonlines"),
    ):
        response = await post(plane, "/invocations?model=constant", body, media)
        assert response.status == 400
        assert "takes no inputs" in json.loads(whole(response))["message"]
    response = await post(plane, "/invocations?model=constant", {"inputs": {}}, accept="text/csv")
    assert response.status == 400


async def test_csv_with_a_byte_order_mark_loses_no_row(plane: LocalPlane) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        assert await predictions(plane, "identity-fp32", mark + b"1,2,3\n4,5,6.5\n", "text/csv") == ROWS
        assert await predictions(plane, "identity-fp32", mark + b"a,b,c\n1,2,3\n4,5,6.5\n", "text/csv") == ROWS


async def test_a_cell_may_be_as_large_as_a_body(plane: LocalPlane) -> None:
    large = "x" * 200_000
    assert await predictions(plane, "words", f"a,{large}\n".encode(), "text/csv; header=absent") == [["a", large]]


async def test_which_model(plane: LocalPlane) -> None:
    body = {"instances": ROWS}
    routes = "/invocations", "/endpoints/identity-fp32/invocations"
    assert (await post(plane, routes[0], body)).status == 400
    assert (await post(plane, routes[1], body)).status == 200
    named = {"x_amzn_sagemaker_target_model": "identity-fp32"}
    assert (await post(plane, routes[0], body, **named)).status == 200
    missing = await post(plane, "/endpoints/none/invocations", body)
    assert (missing.status, json.loads(whole(missing))["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    alone = LocalPlane()
    alone.deploy("only", onnx_models.identity())
    assert (await post(alone, "/invocations", body)).status == 200
    assert (await post(LocalPlane(), "/invocations", body)).status == 503


async def test_version(plane: LocalPlane) -> None:
    response = await call(inference_mlflow.routes(plane), "GET", "/version")
    assert whole(response).decode() == modelport.__version__


async def test_the_answer_is_the_models_own(plane: LocalPlane) -> None:
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = plane.by_name["mlp"].runtime.infer({"input": x})["output"]
    found = await predictions(plane, "mlp", {"instances": x.astype(float).tolist()})
    np.testing.assert_array_equal(np.array(found, np.float32), expected)


DEEP = b"[" * 990 + b"]" * 990
BAD: list[tuple[Any, str, str]] = [
    (b"", "application/json", "empty"),
    (b"{", "application/json", "not JSON"),
    ([1], "application/json", "must be a JSON object"),
    ({}, "application/json", "exactly one of dataframe_split, dataframe_records, instances, inputs; it has 0"),
    ({"instances": ROWS, "inputs": ROWS}, "application/json", "it has 2"),
    ({"instances": ROWS, "params": {"t": 1}}, "application/json", "'params' is not supported"),
    ({"dataframe_split": ROWS}, "application/json", "'dataframe_split' must be an object"),
    ({"dataframe_split": {"columns": COLUMNS}}, "application/json", "'data'"),
    ({"dataframe_split": {"columns": 3, "data": ROWS}}, "application/json", "'columns' must be a list"),
    ({"dataframe_split": {"columns": COLUMNS, "data": ROWS, "dat": 1}}, "application/json", "unknown key 'dat'"),
    ({"dataframe_split": {"columns": COLUMNS, "data": [[1, 2]]}}, "application/json", "data[0] must be a list of 3"),
    ({"dataframe_split": {"columns": COLUMNS, "data": [1]}}, "application/json", "not an integer"),
    ({"dataframe_split": {"columns": ["a", "a", "b"], "data": ROWS}}, "application/json", "the same name"),
    ({"dataframe_split": {"columns": [[]], "data": [[1]]}}, "application/json", "column 0 must be a name, not a list"),
    (
        b'{"dataframe_split": {"columns": [' + b"[" * 900 + b"]" * 900 + b'], "data": [[1]]}}',
        "application/json",
        "a list",
    ),
    ({"dataframe_split": {"columns": ["a"], "data": []}}, "application/json", "takes [-1, 3]"),
    ({"dataframe_records": {}}, "application/json", "at least one record"),
    ({"dataframe_records": []}, "application/json", "at least one record"),
    ({"dataframe_records": [1]}, "application/json", "record 0 must be an object"),
    ({"dataframe_records": [{"a": 1}, {"b": 1}]}, "application/json", "record 1 and record 0 differ in the column"),
    ({"dataframe_records": [{"a": None, "b": 1, "c": 2}]}, "application/json", "element 0 is null"),
    ({"instances": []}, "application/json", "'instances' is empty"),
    ({"instances": [["x", "y", "z"]]}, "application/json", "is a string; FP32 takes numbers"),
    (b"", "text/csv", "no rows"),
    (b"a,b,c\n", "text/csv", "no rows"),
    (b"1,2,3\n1,2\n", "text/csv", "row 1 of the CSV body has 2 values"),
    (b"1,2,x\n", "text/csv; header=absent", "'x' in the CSV body is no finite FP32"),
    (b"1,2,\n", "text/csv; header=absent", "'' in the CSV body is no finite FP32"),
    (b"1,2,nan\n", "text/csv", "'nan' in the CSV body is no finite FP32"),
    (b"1,2,1e999\n", "text/csv", "'1e999' in the CSV body is no finite FP32"),
    (b"5,,6\n1,2,3\n", "text/csv", "'' in the CSV body"),  # a value is missing: this is no header
    (b'1,"2\n', "text/csv", "not CSV"),
    (b"1,2,\xff\n", "text/csv", "invalid UTF-8"),
    (b"1,2,3\n", "text/csv; header=maybe", "present or absent"),
    (b"1,2\n", "text/csv", "takes [-1, 3]"),
    (b"", "application/jsonlines", "no lines"),
    (b"[1,2,3]\n[1,2", "application/jsonlines", "line 1: the body is not JSON"),
    (b"[1,2,3]\n[1,2]\n", "application/jsonlines", "differ in length"),
]


@pytest.mark.parametrize(("body", "media", "words"), BAD)
async def test_bad_bodies(plane: LocalPlane, body: Any, media: str, words: str) -> None:
    response = await post(plane, "/invocations?model=identity-fp32", body, media)
    found = json.loads(whole(response))
    assert response.status == 400, found
    assert words in found["message"]
    assert found["error_code"] == "INVALID_PARAMETER_VALUE"


async def test_bad_columns_of_several_inputs(plane: LocalPlane) -> None:
    for body in ({"dataframe_records": [{"a": 1, "c": 2}]}, {"dataframe_split": {"data": [[1, 2]]}}):
        response = await post(plane, "/invocations?model=add-sub", body)
        assert response.status == 400
        assert "needs the columns a, b" in json.loads(whole(response))["message"]


@pytest.mark.parametrize("media", ["application/vnd.apache.parquet", "application/x-npy", "text/plain"])
async def test_media_types_that_are_not_spoken(plane: LocalPlane, media: str) -> None:
    response = await post(plane, "/invocations?model=identity-fp32", b"x", media)
    assert response.status == 415
    assert "text/csv" in json.loads(whole(response))["message"]
