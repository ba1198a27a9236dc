"""What is sent is what each protocol's own reader takes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelport.api.inference_grpc import parse, read_inputs
from modelport.api.inference_predict import read_data
from modelport.api.inference_v1 import read_predict
from modelport.api.proto import message
from modelport.bench.shots import shot_of
from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec

TWO = Signature((TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "BYTES", (-1,))), ())
INPUTS = {
    "a": np.array([[1.5, 2], [3, 4]], np.float32),
    "b": np.array([b"x", "\u00e9".encode()], object),
}


def check(found: dict[str, Array]) -> None:
    assert found.keys() == INPUTS.keys()
    for name, array in found.items():
        assert array.dtype == INPUTS[name].dtype and array.tolist() == INPUTS[name].tolist()


def test_predict() -> None:
    shot = shot_of("predict", "m", INPUTS)
    assert shot.path == "/predict/m"
    check(read_data(TWO, json.loads(shot.body)["data"])[0])
    one = Signature(TWO.inputs[:1], ())
    shot = shot_of("predict", "m", {"a": INPUTS["a"]})
    assert read_data(one, json.loads(shot.body)["data"])[0]["a"].tolist() == [[1.5, 2], [3, 4]]


def test_v1() -> None:
    shot = shot_of("v1", "m:3", INPUTS)
    assert shot.path == "/v1/models/m/versions/3:predict"
    check(read_predict(TWO, shot.body)[1])
    assert shot_of("v1", "m", {"a": INPUTS["a"]}).body == b'{"instances":[[1.5,2.0],[3.0,4.0]]}'


def test_v2() -> None:
    shot = shot_of("v2", "m:3", INPUTS)
    assert shot.path == "/v2/models/m/versions/3/infer"
    tensors = {tensor["name"]: tensor for tensor in json.loads(shot.body)["inputs"]}
    assert tensors["a"] == {"name": "a", "datatype": "FP32", "shape": [2, 2], "data": [1.5, 2.0, 3.0, 4.0]}
    assert tensors["b"] == {"name": "b", "datatype": "BYTES", "shape": [2], "data": ["x", "\u00e9"]}
    binary = shot_of("v2-binary", "m", INPUTS)
    length = int(binary.headers["inference-header-content-length"])
    assert json.loads(binary.body[:length])["inputs"][0]["parameters"] == {"binary_data_size": 16}
    assert binary.body[length : length + 16] == INPUTS["a"].tobytes()


def test_grpc() -> None:
    shot = shot_of("grpc", "m:3", INPUTS)
    assert shot.path == "/inference.GRPCInferenceService/ModelInfer"
    request = parse(message("ModelInferRequest"), shot.body)
    assert (request.model_name, request.model_version) == ("m", "3")
    check(read_inputs(request))


def test_what_a_protocol_cannot_say_is_refused() -> None:
    with pytest.raises(InvalidInput, match="an endpoint's name alone"):
        shot_of("predict", "m:3", INPUTS)
    for protocol in ("predict", "v2", "v2-binary", "v1"):
        with pytest.raises(InvalidInput, match="serves one alias"):
            shot_of(protocol, "m@best", INPUTS)  # type: ignore[arg-type]
