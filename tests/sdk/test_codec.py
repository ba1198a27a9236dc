"""Arrays over the binary extension, and the casts that change no value."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelport.errors import InvalidInput, Unavailable
from modelport.sdk.codec import HEADER_LENGTH, cast, decode, encode
from modelport.sdk.flows import Response
from modelport.tensors import DATATYPES, TensorSpec, dtype_of

NUMBERS = [name for name in DATATYPES if name != "BYTES"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


def as_answer(body: bytes, headers: dict[str, str]) -> Response:
    """A request's own body as if it were an answer: inputs become outputs."""
    length = int(headers[HEADER_LENGTH])
    header = orjson.loads(body[:length])
    text = orjson.dumps({"outputs": header["inputs"]})
    return Response(200, {HEADER_LENGTH: str(len(text))}, bytearray(text + body[length:]))


@given(st.sampled_from([name for name in NUMBERS if name != "BF16"]), SHAPES, st.data())
def test_every_number_survives(datatype: str, shape: tuple[int, ...], data: Any) -> None:
    array = data.draw(hnp.arrays(dtype_of(datatype), shape))
    found = decode(as_answer(*encode({"x": array, "y": np.ones(3, np.int8)})))
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].dtype == array.dtype and found["x"].shape == array.shape
    assert found["y"].tolist() == [1, 1, 1]


def test_bfloat16_survives() -> None:
    array = np.array([[1.5, -2.0]], dtype_of("BF16"))
    np.testing.assert_array_equal(decode(as_answer(*encode({"x": array})))["x"], array)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_strings_survive(strings: list[bytes]) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    assert decode(as_answer(*encode({"x": array})))["x"].tolist() == strings


def test_strided_and_transposed_arrays() -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (array.T, array[::2, 1::3], array[:, ::-1]):
        np.testing.assert_array_equal(decode(as_answer(*encode({"x": view})))["x"], view)


def test_outputs_may_be_written_to() -> None:
    found = decode(as_answer(*encode({"x": np.zeros(3, np.float32)})))["x"]
    found += 1
    assert found.tolist() == [1, 1, 1]


def test_an_answer_without_binary_data() -> None:
    text = orjson.dumps({"outputs": [{"name": "y", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}]})
    assert decode(Response(200, {}, bytearray(text)))["y"].tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"outputs": 3}', b'{"outputs": [{"name": "y"}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}]}',
    ],
)  # fmt: skip
def test_an_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(Unavailable, match="no Open Inference V2 answer"):
        decode(Response(200, {HEADER_LENGTH: str(len(body))}, bytearray(body)))


def spec(datatype: str) -> TensorSpec:
    return TensorSpec("x", datatype, (-1,))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP32", [1, 2]), ("FP32", [1.5, 2]), ("FP64", [1.5]), ("FP16", [1.5]), ("INT8", [-128, 127]), ("UINT8", [255]),
        ("INT64", [1]), ("UINT64", [2**64 - 1]), ("BOOL", [True, False]), ("FP32", [True, False]), ("FP32", []),
        ("INT64", []), ("BYTES", ["é", "b"]), ("BYTES", [b"\xff"]), ("FP32", [float("inf"), float("nan")]),
    ],
)  # fmt: skip
def test_a_cast_keeps_values(datatype: str, value: list[Any]) -> None:
    made = cast(spec(datatype), value)
    assert made.dtype == dtype_of(datatype)
    want = [entry.encode() if isinstance(entry, str) else entry for entry in value]
    np.testing.assert_array_equal(made.tolist(), want)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("INT8", [128]), ("UINT8", [-1]), ("INT32", [2**31]), ("INT64", [1.0]), ("INT64", [True]), ("FP32", ["1"]),
        ("FP16", [70000.0]), ("FP32", [1e300]), ("BOOL", [1]), ("BYTES", [1]), ("FP32", [None]),
        ("FP32", [[1], [1, 2]]), ("UINT64", [2**64]),
    ],
)  # fmt: skip
def test_a_cast_that_would_change_a_value_is_refused(datatype: str, value: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="input 'x'"):
        cast(spec(datatype), value)


def test_an_array_that_fits_is_not_copied() -> None:
    array = np.ones(3, np.float32)
    assert cast(spec("FP32"), array) is array
