"""Properties of the codecs: any tensor comes back as it went, and no body whatever raises anything but our errors."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelport.api import inference_grpc, inference_v1, inference_v2
from modelport.api.answers import to_json
from modelport.api.inference_predict import read_data
from modelport.api.messages import HttpResponse
from modelport.api.proto import message
from modelport.api.tensor_json import from_array, parse, to_array
from modelport.engine.dataplane import Endpoint
from modelport.engine.requests import InferResult
from modelport.engine.routing import Route
from modelport.errors import ModelportError
from modelport.tensors import DATATYPES, Array, Signature, TensorSpec, datatype_of, dtype_of, to_buffer

_SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def tensors(draw: st.DrawFn, *, finite: bool = False, text: bool = False) -> Array:
    """A tensor of any data type; ``finite`` and ``text`` leave out what JSON cannot carry."""
    shape = draw(_SHAPES)
    datatype = draw(st.sampled_from([name for name in DATATYPES if not (finite and name == "BF16")]))
    count = int(np.prod(shape))
    if datatype == "BYTES":
        element = st.text(max_size=6).map(str.encode) if text else st.binary(max_size=6)
        flat = np.empty(count, dtype=object)
        flat[:] = draw(st.lists(element, min_size=count, max_size=count))
        return flat.reshape(shape)
    if datatype == "BF16":
        raw = draw(st.binary(min_size=2 * count, max_size=2 * count))
        return np.frombuffer(raw, ml_dtypes.bfloat16).reshape(shape)
    dtype = dtype_of(datatype)
    elements = None
    if finite and dtype.kind == "f":
        elements = hnp.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return draw(hnp.arrays(dtype, shape, elements=elements))


def same(one: Array, other: Array) -> bool:
    """Equal to the last bit, NaN included."""
    return one.dtype == other.dtype and one.shape == other.shape and bytes(to_buffer(one)) == bytes(to_buffer(other))


def described(tensor: Array) -> dict[str, Any]:
    return {"name": "x", "datatype": datatype_of(tensor.dtype), "shape": list(tensor.shape)}


def endpoint_of(tensor: Array) -> Endpoint:
    """An endpoint whose one output is of this tensor's kind."""
    endpoint = Endpoint.__new__(Endpoint)
    spec = TensorSpec("x", datatype_of(tensor.dtype), tensor.shape)
    endpoint.route = Route("default", "m", "m", 1, "onnx_onnxv1", Signature((spec,), (spec,)))
    return endpoint


def written(tensor: Array, binary: bool) -> HttpResponse:
    wanted = inference_v2.Wanted("1", None, inference_v2.WantedOutput(binary=binary))
    return inference_v2.write_infer(endpoint_of(tensor), wanted, InferResult({"x": tensor}))


@given(tensors(finite=True, text=True), st.booleans())
def test_v2_json_there_and_back(tensor: Array, nested: bool) -> None:
    data = from_array(tensor if nested and tensor.ndim else tensor.reshape(-1), "x")
    body = to_json({"inputs": [{**described(tensor), "data": data}]})
    if nested and 0 in tensor.shape[:-1]:
        return  # nested lists cannot show what comes after an empty dimension
    inputs, _ = inference_v2.read_infer(body, None)
    assert same(inputs["x"], tensor)
    answer = json.loads(written(tensor, binary=False).body)  # type: ignore[arg-type]
    back, _ = inference_v2.read_infer(to_json({"inputs": answer["outputs"]}), None)
    assert same(back["x"], tensor)


@given(st.lists(tensors(), min_size=1, max_size=3))
def test_v2_binary_there_and_back(found: list[Array]) -> None:
    raws = [bytes(to_buffer(tensor)) for tensor in found]
    head = to_json(
        {
            "inputs": [
                {**described(tensor), "name": f"x{index}", "parameters": {"binary_data_size": len(raw)}}
                for index, (tensor, raw) in enumerate(zip(found, raws, strict=True))
            ]
        }
    )
    inputs, _ = inference_v2.read_infer(head, memoryview(b"".join(raws)))
    assert all(same(inputs[f"x{index}"], tensor) for index, tensor in enumerate(found))
    response = written(found[0], binary=True)
    json_part, raw = response.body
    assert bytes(raw) == raws[0]
    assert json.loads(json_part)["outputs"][0]["parameters"] == {"binary_data_size": len(raws[0])}


@given(tensors())
def test_grpc_raw_there_and_back(tensor: Array) -> None:
    request = message("ModelInferRequest")()
    request.inputs.add(name="x", datatype=datatype_of(tensor.dtype), shape=tensor.shape)
    request.raw_input_contents.append(bytes(to_buffer(tensor)))
    parsed = message("ModelInferRequest").FromString(request.SerializeToString())
    assert same(inference_grpc.read_inputs(parsed)["x"], tensor)


@given(tensors(finite=True))
def test_nested_json_gives_the_shape(tensor: Array) -> None:
    if tensor.dtype.kind == "O" or 0 in tensor.shape[:-1]:
        return
    document = parse(to_json(from_array(tensor, "x")))
    assert same(to_array(document, datatype_of(tensor.dtype), "x"), tensor)


_GOOD = json.dumps(
    {
        "id": "1",
        "parameters": {"timeout": 5, "binary_data_output": False},
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1.5, 2], [3, -4e2]]},
            {"name": "s", "datatype": "BYTES", "shape": [2], "data": ["a:b", "é"]},
            {"name": "b", "datatype": "INT8", "shape": [1, 3], "parameters": {"binary_data_size": 3}},
        ],
        "outputs": [{"name": "y", "parameters": {"classification": 2, "binary_data": True}}],
    },
    ensure_ascii=False,
).encode()
_TAIL = b"\1\2\3"
_SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 2)), TensorSpec("s", "BYTES", (-1,))), (TensorSpec("y", "FP32", (-1,)),)
)
_INSTANCES = (
    b'{"signature_name": "serving_default", "instances": [{"x": [1, 2], "s": {"b64": "YQ=="}}, {"x": [3, 4], "s": ""}]}'
)
_DATA = b'{"x": [[1, 2], [3, 4]], "s": ["a", {"b64": "YQ=="}]}'

#: Replace ``size`` bytes at ``position`` by ``new``.
_EDITS = st.lists(
    st.tuples(
        st.integers(0, 600),
        st.integers(0, 12),
        st.binary(max_size=4)
        | st.sampled_from(
            [b"null", b"true", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'"', b"[[", b"9" * 25, b"1.5", b'"shape"', b":"]
        ),
    ),
    max_size=6,
)


def edited(body: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, size, new in edits:
        position = place % (len(body) + 1)
        body = body[:position] + new + body[position + size :]
    return body


@settings(max_examples=400)
@given(_EDITS, st.binary(max_size=5) | st.just(_TAIL))
def test_mutations_of_a_v2_body(edits: list[tuple[int, int, bytes]], tail: bytes) -> None:
    try:
        inputs, _ = inference_v2.read_infer(edited(_GOOD, edits), memoryview(tail))
    except ModelportError as error:
        assert error.status == 400
        assert error.message.isprintable()
        assert len(error.message) < 500
    else:
        assert all(isinstance(tensor, np.ndarray) for tensor in inputs.values())


@settings(max_examples=300)
@given(_EDITS)
def test_mutations_of_a_v1_body(edits: list[tuple[int, int, bytes]]) -> None:
    try:
        inference_v1.read_predict(_SIGNATURE, edited(_INSTANCES, edits))
    except ModelportError as error:
        assert error.status == 400
        assert error.message.isprintable()


@settings(max_examples=300)
@given(_EDITS)
def test_mutations_of_predict_s_data(edits: list[tuple[int, int, bytes]]) -> None:
    try:
        read_data(_SIGNATURE, parse(edited(_DATA, edits)))
    except ModelportError as error:
        assert error.status == 400
        assert error.message.isprintable()


def _grpc_request() -> bytes:
    request = message("ModelInferRequest")(model_name="m", id="1")
    item = request.inputs.add(name="x", datatype="FP32", shape=[2, 2])
    item.contents.fp32_contents.extend([1, 2, 3, 4])
    item = request.inputs.add(name="i", datatype="INT8", shape=[3])
    item.contents.int_contents.extend([1, 2, 3])
    item = request.inputs.add(name="s", datatype="BYTES", shape=[2])
    item.contents.bytes_contents.extend([b"a", b""])
    request.outputs.add(name="y").parameters["classification"].int64_param = 2
    return request.SerializeToString()  # type: ignore[no-any-return]


@settings(max_examples=400)
@given(_EDITS)
def test_mutations_of_a_grpc_message(edits: list[tuple[int, int, bytes]]) -> None:
    try:
        request = inference_grpc.parse(message("ModelInferRequest"), edited(_grpc_request(), edits))
        inference_grpc.read_wanted(request)
        inference_grpc.read_inputs(request)
    except ModelportError as error:
        assert error.status == 400
        assert error.message.isprintable()


#: orjson gives no integer beyond 64 bits.
_LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()


@given(st.recursive(_LEAVES, st.lists, max_leaves=30))
def test_any_json_value_as_any_tensor(value: Any) -> None:
    for datatype in DATATYPES:
        try:
            tensor = to_array(value, datatype, "x", base64_objects=True)
        except ModelportError as error:
            assert error.status == 400
        else:
            assert tensor.dtype == dtype_of(datatype)
