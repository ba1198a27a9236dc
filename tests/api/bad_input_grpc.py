"""The table of bad input over gRPC; the models are those of ``tests.api.zoo``. See ``bad_input``."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
_TWELVE = np.array([1, 2, 3], np.float32).tobytes()


@dataclass(frozen=True)
class GrpcRow:
    """One call, and the refusal that it must get."""

    name: str
    request: bytes
    words: tuple[str, ...]
    code: grpc.StatusCode = INVALID
    method: str = "ModelInfer"
    metadata: tuple[tuple[str, str], ...] = ()


def _tensor(name: str = "input", datatype: str = "FP32", shape: Any = (1, 3), **contents: Any) -> Any:
    found = pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    for field, values in contents.items():
        getattr(found.contents, field).extend(values)
    return found


def _request(*inputs: Any, model: str = "identity-fp32", raws: Any = (), version: str = "", **fields: Any) -> Any:
    return pb.ModelInferRequest(
        model_name=model, model_version=version, inputs=inputs, raw_input_contents=raws, **fields
    )


def _row(name: str, request: Any, *words: str, code: grpc.StatusCode = INVALID, **metadata: str) -> GrpcRow:
    pairs = tuple((key.replace("_", "-"), value) for key, value in metadata.items())
    return GrpcRow(f"grpc: {name}", request.SerializeToString(), words, code, metadata=pairs)


def _good() -> Any:
    return _request(_tensor(), raws=[_TWELVE])


GOOD = GrpcRow("grpc: good", _good().SerializeToString(), (), grpc.StatusCode.OK)


def _message_rows() -> Iterator[GrpcRow]:
    for name, raw in (("no message", b"\xff\xff\xff"), ("cut short", GOOD.request[:-5]), ("JSON", b'{"inputs": []}')):
        yield GrpcRow(f"grpc: {name}", raw, ("ModelInferRequest",))
    not_text = b"\x0a\x02\xff\xfe" + GOOD.request
    yield GrpcRow("grpc: model name that is not UTF-8", not_text, ("ModelInferRequest",))
    yield _row("nothing at all", pb.ModelInferRequest(), "endpoint", code=MISSING)
    for model in ("nothing", "..", "a\x00b", "a\nb", "n" * 10_000):
        yield _row(f"model {model[:9]!r}", _request(_tensor(), model=model, raws=[_TWELVE]), "endpoint", code=MISSING)
    for version in ("9", "latest", "1" * 5000):
        request = _request(_tensor(), version=version, raws=[_TWELVE])
        yield _row(f"version {version[:9]!r}", request, "version", code=MISSING)
    for text in ("soon", "-1", "0", "nan", "inf"):
        yield _row(f"x-request-timeout {text}", _good(), "x-request-timeout", x_request_timeout=text)
    for method in ("ModelMetadata", "ModelConfig", "ModelStatistics"):
        raw = pb.ModelMetadataRequest(name="nothing").SerializeToString()
        yield GrpcRow(f"grpc: {method} of nothing", raw, ("endpoint",), MISSING, method)


def _tensor_rows() -> Iterator[GrpcRow]:
    yield _row("no input", _request(), "'input' is missing")
    yield _row("no name", _request(_tensor(name=""), raws=[_TWELVE]), "inputs[0]", "'name'")
    yield _row("unknown name", _request(_tensor(name="inptu"), raws=[_TWELVE]), "'input' is missing")
    yield _row("input twice", _request(_tensor(), _tensor(), raws=[_TWELVE] * 2), "'input' is given twice")
    yield _row("extra input", _request(_tensor(), _tensor(name="x"), raws=[_TWELVE] * 2), "'x' is unknown")
    for datatype in ("", "FP33", "fp32", "F" * 10_000):
        request = _request(_tensor(datatype=datatype), raws=[_TWELVE])
        yield _row(f"datatype {datatype[:9]!r}", request, "'input'", "'datatype'")
    yield _row("another datatype", _request(_tensor(datatype="INT32"), raws=[_TWELVE]), "INT32 given", "FP32")
    yield _row("another rank", _request(_tensor(shape=[3]), raws=[_TWELVE]), "[3]", "[-1, 3]")
    yield _row("negative shape", _request(_tensor(shape=[-1, 3]), raws=[_TWELVE]), "'input'", "dimension")
    for shape in ([2**62, 4], [0, 2**40, 2**40], [2**63 - 1, 3]):
        yield _row(f"shape {shape}", _request(_tensor(shape=shape), raws=[_TWELVE]), "'input'", "too large")
    yield _row("33 dimensions", _request(_tensor(shape=[1] * 33), raws=[_TWELVE]), "'input'", "32 dimensions")
    yield _row("shape of more", _request(_tensor(shape=[2, 3]), raws=[_TWELVE]), "24 bytes, 12 given")
    yield _row("raw of less", _request(_tensor(), raws=[_TWELVE[:-1]]), "12 bytes, 11 given")
    yield _row("raw for two", _request(_tensor(), raws=[_TWELVE] * 2), "2 raw_input_contents", "1 inputs")
    a, b = _tensor(name="a"), _tensor(name="b")
    yield _row("raw for one of two", _request(a, b, model="add-sub", raws=[_TWELVE]), "1 raw_input_contents")
    request = _request(_tensor(fp32_contents=[1, 2, 3]), raws=[_TWELVE])
    yield _row("raw and contents", request, "'input'", "both")
    yield _row("BOOL byte 2", _request(_tensor(datatype="BOOL"), model="identity-bool", raws=[b"\1\0\2"]), "0 nor 1")
    good = struct.pack("<I", 1) + b"a"
    for name, raw in (("lying length", good * 2 + struct.pack("<I", 9) + b"a"), ("two", good * 2), ("four", good * 4)):
        request = _request(_tensor(datatype="BYTES"), model="identity-bytes", raws=[raw])
        yield _row(f"BYTES {name}", request, "'input'")
    request = _request(_tensor(datatype="INT64", shape=[1, 1], int64_contents=[13]), model="fails")
    yield _row("what the model refuses", request, "model")


def _typed_rows() -> Iterator[GrpcRow]:
    yield _row("no contents", _request(_tensor()), "'input'", "3 elements, 0 given")
    yield _row("too few", _request(_tensor(fp32_contents=[1, 2])), "3 elements, 2 given")
    yield _row("too many", _request(_tensor(fp32_contents=[1] * 4)), "3 elements, 4 given")
    yield _row("wrong field", _request(_tensor(int_contents=[1, 2, 3])), "fp32_contents", "int_contents")
    two = _tensor(fp32_contents=[1, 2, 3], fp64_contents=[1])
    yield _row("two fields", _request(two), "fp32_contents", "fp64_contents")
    for datatype, field, value in (
        ("INT8", "int_contents", 128),
        ("INT16", "int_contents", -32769),
        ("UINT8", "uint_contents", 256),
        ("UINT16", "uint_contents", 65536),
    ):
        tensor = _tensor(datatype=datatype, **{field: [1, 2, value]})
        request = _request(tensor, model=f"identity-{datatype.lower()}")
        yield _row(f"{value} for {datatype}", request, "element 2", f"{datatype}'s range")
    for datatype in ("FP16", "BF16"):
        request = _request(_tensor(datatype=datatype, fp32_contents=[1, 2, 3]), model=f"identity-{datatype.lower()}")
        yield _row(f"{datatype} typed", request, datatype, "raw_input_contents")
    huge = _tensor(datatype="BYTES", shape=[2**39], bytes_contents=[b"a"])
    yield _row("typed strings of a huge shape", _request(huge, model="identity-bytes"), "1 given")


def _wish_rows() -> Iterator[GrpcRow]:
    def wished(where: str, key: str, **parameter: Any) -> Any:
        request = _good()
        request.outputs.add(name="output")
        place = {"request": request, "input": request.inputs[0], "output": request.outputs[0]}[where]
        place.parameters[key].CopyFrom(pb.InferParameter(**parameter))
        return request

    yield _row("a sequence", wished("request", "sequence_id", int64_param=5), "sequence")
    yield _row("timeout -1", wished("request", "timeout", int64_param=-1), "'timeout'")
    yield _row("timeout text", wished("request", "timeout", string_param="5"), "'timeout'")
    yield _row("timeout 1.5", wished("request", "timeout", double_param=1.5), "'timeout'")
    yield _row("input in shared memory", wished("input", "shared_memory_region", string_param="r"), "shared memory")
    yield _row("output in shared memory", wished("output", "shared_memory_region", string_param="r"), "shared memory")
    for value in ({"int64_param": 0}, {"int64_param": -1}, {"string_param": "1"}, {"bool_param": True}):
        yield _row(f"classification {value}", wished("output", "classification", **value), "'classification'")
    for name in ("outptu", ""):
        request = _good()
        request.outputs.add(name=name)
        yield _row(f"output {name!r}", request, repr(name), "output")
    request = _good()
    request.outputs.add(name="output")
    request.outputs.add(name="output")
    yield _row("output twice", request, "'output'", "twice")


def grpc_rows() -> list[GrpcRow]:
    """Every row; names are unique."""
    return [*_message_rows(), *_tensor_rows(), *_typed_rows(), *_wish_rows()]
