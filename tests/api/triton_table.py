"""What tritonclient does unchanged against a server of ours: every data type over JSON, binary and gRPC, and more.

Each check takes the two addresses (``host:port``) and works with the models of ``tests.api.zoo``; it runs against
adapters in process and against a real server.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

#: A tensor of shape [2, 3] for each data type, its limits included.
TENSORS: dict[str, Any] = {
    "BOOL": np.array([[True, False, True], [False, False, True]]),
    **{
        f"{'U' if kind == 'uint' else ''}INT{bits}": np.array(
            [[np.iinfo(f"{kind}{bits}").min, 0, 1], [2, 3, np.iinfo(f"{kind}{bits}").max]], f"{kind}{bits}"
        )
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
    "FP16": np.array([[0.1, -65504, 6e-8], [1, 2, 3]], np.float16),
    "FP32": np.array([[0.1, -3.4e38, 1e-45], [1, 2, 3]], np.float32),
    "FP64": np.array([[0.1, -1.7e308, 5e-324], [1, 2, 3]], np.float64),
    "BYTES": np.array([[b"", b"a", "é\u4e2d".encode()], [b"a:b", b'"\\', b"x" * 1000]], dtype=object),
    "BF16": np.array([[0.5, -1, 3e38], [1, 2, 3]], ml_dtypes.bfloat16),
}
PROTOCOLS = ("JSON", "binary", "gRPC")
#: What the protocol itself does not carry.
LEFT_OUT = {("BF16", "JSON")}

HTTP_CODINGS: tuple[tuple[str | None, str | None], ...] = (
    (None, None),
    ("gzip", None),
    ("deflate", None),
    (None, "gzip"),
    ("gzip", "gzip"),
)


def infer_http(url: str, model: str, tensors: dict[str, Any], binary: bool, **options: Any) -> Any:
    """The result of one HTTP inference; inputs and outputs as JSON or binary."""
    inputs = []
    for name, tensor in tensors.items():
        found = triton_http.InferInput(name, list(tensor.shape), triton_http.np_to_triton_dtype(tensor.dtype))
        found.set_data_from_numpy(tensor, binary_data=binary)
        inputs.append(found)
    with triton_http.InferenceServerClient(url) as client:
        outputs = [
            triton_http.InferRequestedOutput(output["name"], binary_data=binary)
            for output in client.get_model_metadata(model)["outputs"]
        ]
        return client.infer(model, inputs, outputs=outputs, **options)


def infer_grpc(address: str, model: str, tensors: dict[str, Any], **options: Any) -> Any:
    """The result of one gRPC inference."""
    inputs = []
    for name, tensor in tensors.items():
        found = triton_grpc.InferInput(name, list(tensor.shape), triton_http.np_to_triton_dtype(tensor.dtype))
        found.set_data_from_numpy(tensor)
        inputs.append(found)
    with triton_grpc.InferenceServerClient(address) as client:
        return client.infer(model, inputs, **options)


def infer(protocol: str, url: str, grpc: str, model: str, tensors: dict[str, Any]) -> Any:
    """The result by one of PROTOCOLS."""
    if protocol == "gRPC":
        return infer_grpc(grpc, model, tensors)
    return infer_http(url, model, tensors, binary=protocol == "binary")


def check_datatype(protocol: str, url: str, grpc: str, datatype: str) -> None:
    """A tensor of the data type comes back as it went, to the last bit; so does an empty batch."""
    for tensor in (TENSORS[datatype], TENSORS[datatype][:1], TENSORS[datatype][:0]):
        result = infer(protocol, url, grpc, f"identity-{datatype.lower()}", {"input": tensor})
        back = result.as_numpy("output")
        assert back.shape == tensor.shape
        if datatype == "BYTES" and protocol == "JSON":
            assert [str(text) for text in back.reshape(-1)] == [raw.decode() for raw in tensor.reshape(-1)]
        elif datatype == "BYTES":
            assert back.tolist() == tensor.tolist()
        else:
            assert back.dtype == tensor.dtype
            assert back.tobytes() == tensor.tobytes()


def check_shapes(protocol: str, url: str, grpc: str) -> None:
    """Several inputs and outputs, dynamic dimensions, a scalar."""
    a, b = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones((2, 4), np.float32)
    result = infer(protocol, url, grpc, "add-sub", {"a": a, "b": b})
    assert (result.as_numpy("sum") == a + b).all()
    assert (result.as_numpy("difference") == a - b).all()
    for shape in ((1, 1), (3, 7), (5, 2)):
        tensor = np.random.default_rng(0).random(shape, dtype=np.float32)
        result = infer(protocol, url, grpc, "dynamic", {"input": tensor})
        assert np.allclose(result.as_numpy("total"), tensor.sum(axis=1))
        assert (result.as_numpy("doubled") == tensor + tensor).all()
    result = infer(protocol, url, grpc, "scalar", {"input": np.array(1.5, np.float32)})
    assert result.as_numpy("output").shape == ()
    assert result.as_numpy("output") == 3
    rows = np.array([[1, 0], [0, 1]], np.float32)
    result = infer(protocol, url, grpc, "animals", {"input": rows})
    assert _text(result.as_numpy("label")[0]) == "ant"
    assert result.as_numpy("probabilities").shape == (2, 3)


def check_http_options(url: str) -> None:
    """Compression, query parameters, headers, timeouts, ids, classification, every output at once."""
    tensor = TENSORS["FP32"]
    for request, response in HTTP_CODINGS:
        for binary in (True, False):
            result = infer_http(
                url,
                "identity-fp32",
                {"input": tensor},
                binary,
                request_id="7",
                timeout=10_000_000,
                headers={"x-request-id": "abc"},
                query_params={"a": "b", "c": [1, 2]},
                request_compression_algorithm=request,
                response_compression_algorithm=response,
            )
            assert result.as_numpy("output").tobytes() == tensor.tobytes()
            assert result.get_response()["id"] == "7"
    with triton_http.InferenceServerClient(url) as client:
        given = triton_http.InferInput("input", [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[1, 0]], np.float32))
        assert set(_names(client.infer("animals", [given]).get_response()["outputs"])) == {"label", "probabilities"}
        for binary in (True, False):
            wish = triton_http.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
            best = client.infer("animals", [given], outputs=[wish], model_version="1").as_numpy("probabilities")
            assert best.shape == (1, 2)
            assert _text(best[0][0]).split(":")[1] == "0"
        later = client.async_infer("animals", [given])
        assert later.get_result().as_numpy("probabilities").shape == (1, 3)


def _text(element: Any) -> str:
    """BYTES come as bytes in a binary answer, as str in a JSON one."""
    return element.decode() if isinstance(element, bytes) else str(element)


def _names(outputs: list[dict[str, Any]]) -> list[str]:
    return [output["name"] for output in outputs]


def check_grpc_options(address: str) -> None:
    """Compression, metadata, timeouts, ids, classification, the stream."""
    tensor = TENSORS["FP32"]
    for algorithm in (None, "gzip", "deflate"):
        result = infer_grpc(
            address,
            "identity-fp32",
            {"input": tensor},
            request_id="7",
            timeout=10_000_000,
            client_timeout=20,
            headers={"x-request-id": "abc"},
            compression_algorithm=algorithm,
        )
        assert result.as_numpy("output").tobytes() == tensor.tobytes()
        assert result.get_response().id == "7"
    given = triton_grpc.InferInput("input", [1, 2], "FP32")
    given.set_data_from_numpy(np.array([[1, 0]], np.float32))
    with triton_grpc.InferenceServerClient(address) as client:
        wish = triton_grpc.InferRequestedOutput("probabilities", class_count=2)
        best = client.infer("animals", [given], outputs=[wish]).as_numpy("probabilities")
        assert best[0][0].split(b":")[1] == b"0"
        found: list[Any] = []
        client.start_stream(lambda result, error: found.append((result, error)))
        for model in ("animals", "no-such-model", "animals"):
            client.async_stream_infer(model, [given])
        client.stop_stream()
        assert [error is None for _, error in found] == [True, False, True]


def check_facts(url: str, grpc: str) -> None:
    """Health, metadata, configuration and statistics say the same over both."""
    with triton_http.InferenceServerClient(url) as http, triton_grpc.InferenceServerClient(grpc) as client:
        for each in (http, client):
            assert each.is_server_live()
            assert each.is_server_ready()
            assert each.is_model_ready("add-sub")
            assert each.is_model_ready("add-sub", "1")
            assert not each.is_model_ready("no-such-model")
        assert http.get_server_metadata() == client.get_server_metadata(as_json=True)
        metadata = client.get_model_metadata("add-sub", as_json=True)
        for tensor in (*metadata["inputs"], *metadata["outputs"]):
            tensor["shape"] = [int(dim) for dim in tensor["shape"]]  # protobuf's JSON writes int64 as text
        assert http.get_model_metadata("add-sub") == metadata
        assert http.get_model_config("mlp")["max_batch_size"] > 1
        config = client.get_model_config("mlp").config
        assert list(config.input[0].dims) == [4]
        statistics = http.get_inference_statistics("add-sub")["model_stats"][0]
        assert statistics["inference_stats"]["success"]["count"] >= 0
        assert client.get_inference_statistics("add-sub").model_stats[0].name == "add-sub"
        assert {"add-sub", "mlp"} <= {model["name"] for model in http.get_inference_statistics()["model_stats"]}
