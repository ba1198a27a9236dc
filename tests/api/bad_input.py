"""The table of bad input: what each protocol must refuse, with which status, in which words.

Rows are data: ``test_bad_input`` sends them to adapters in process, ``tests/services`` to a real server. The models are
those of ``tests.api.zoo``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One HTTP request, and the refusal that it must get."""

    name: str
    target: str
    body: bytes
    words: tuple[str, ...]
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


def _dump(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


# Bodies that are no JSON, or not the JSON that they seem to be. ``%`` stands for a good beginning of the protocol.
_NO_JSON: list[tuple[str, bytes, str]] = [
    ("empty", b"", "empty"),
    ("blank", b"   ", "JSON"),
    ("truncated", b'{"%": [{"name": "inp', "character"),
    ("truncated list", b'{"%": [1, 2', "character 1"),
    ("byte order mark", b'\xef\xbb\xbf{"%": []}', "byte order mark"),
    ("UTF-16", '{"%": []}'.encode("utf-16"), "invalid UTF-8 at byte 0"),
    ("invalid UTF-8", b'{"%": "\xff"}', "invalid UTF-8 at byte"),
    ("overlong UTF-8", b'{"%": "\xc0\xaf"}', "invalid UTF-8 at byte"),
    ("lone surrogate", b'{"%": "\\ud800"}', "surrogate"),
    ("raw NUL", b'{"%": "\x00"}', "control character"),
    ("trailing garbage", b'{"%": []} x', "after document"),
    ("trailing comma", b'{"%": [1,]}', "comma"),
    ("single quotes", b"{'%': []}", "character 1"),
    ("comment", b'{"%": /* none */ []}', "character"),
    ("leading zero", b'{"%": [01]}', "leading zero"),
    ("hex", b'{"%": [0x10]}', "character"),
    ("10^400", b'{"%": [1' + b"0" * 400 + b"]}", "infinity"),
    ("1e999", b'{"%": [1e999]}', "infinity"),
    ("NaN", b'{"%": [NaN]}', "binary tensor extension"),
    ("Infinity", b'{"%": [Infinity]}', "binary tensor extension"),
    ("-Infinity", b'{"%": [-Infinity]}', "binary tensor extension"),
    ("depth of lists", b'{"%": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "depth"),
    ("depth of objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "depth"),
    ("key twice", b'{"%": [], "%": []}', "twice"),
    ("key twice deep inside", b'{"%": [[{"a": {"b": 1, "b": 2}}]]}', "'b' twice"),
    ("escaped key twice", b'{"ab": 1, "a\\u0062": 2, "%": []}', "'ab' twice"),
    ("null", b"null", "null"),
    ("a string", b'"x"', "string"),
    ("a number", b"12345678901234567890123", "number"),
    ("true", b"true", "true or false"),
]


def _no_json(protocol: str, target: str, key: bytes) -> Iterator[Row]:
    for name, body, words in _NO_JSON:
        # /predict has words of its own for JSON that is no object.
        said = "'data'" if protocol == "predict" and name in ("null", "a string", "a number", "true") else words
        yield Row(f"{protocol}: {name}", target, body.replace(b"%", key), (said,))


DEEP = "a value that is nested as deeply as JSON may be"


def _deep(body: Any) -> bytes:
    """The JSON of a body with DEEP's value for its name: Python cannot print such a value."""
    return json.dumps(body).encode().replace(json.dumps(DEEP).encode(), b"[" * 990 + b"]" * 990)


def _v2(name: str, model: str, body: Any, *words: str, status: int = 400, **headers: str) -> Row:
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    return Row(f"v2: {name}", f"/v2/models/{model}/infer", _dump(body), words, status, headers)


def _input(datatype: str = "FP32", shape: Any = (1, 3), data: Any = (1, 2, 3), **changes: Any) -> dict[str, Any]:
    found = {"name": "input", "datatype": datatype, "shape": shape, "data": data, **changes}
    return {key: value for key, value in found.items() if value is not ...}


def _one(**changes: Any) -> dict[str, Any]:
    return {"inputs": [_input(**changes)]}


def _with(**changes: Any) -> dict[str, Any]:
    return {"inputs": [_input()], **changes}


def _v2_rows() -> Iterator[Row]:
    model = "identity-fp32"
    yield from _no_json("v2", f"/v2/models/{model}/infer", b"inputs")
    yield _v2("a list", model, [], "object")
    for name, value in (("null", None), ("an object", {}), ("empty", []), ("a string", "x"), ("a number", 1)):
        yield _v2(f"inputs {name}", model, {"inputs": value}, "'inputs'")
    yield _v2("no inputs", model, {"input": [_input()]}, "'inputs'")
    yield _v2("an input that is null", model, {"inputs": [None]}, "inputs[0]", "null")
    yield _v2("an input that is a string", model, {"inputs": [_input(), "x"]}, "inputs[1]", "string")
    for name, value in (("missing", ...), ("a number", 5), ("empty", ""), ("null", None)):
        yield _v2(f"name {name}", model, _one(name=value), "inputs[0]", "'name'")
    yield _v2("name of 10 kB", model, _one(name="n" * 10_000, shape=5), "'nnnnn", "'shape'")
    yield _v2("name with newline and escape", model, _one(name="a\n\x1b[31m", shape=5), "a\\n\\x1b")
    for value in (..., 5, None, "FP33", "fp32", "F" * 10_000, ["FP32"], "object"):
        yield _v2(f"datatype {str(value)[:10]}", model, _one(datatype=value), "'input'", "'datatype'", "FP32")
    for value in (..., None, "1,3", {"0": 1}, 3):
        yield _v2(f"shape {value!r}", model, _one(shape=value), "'input'", "'shape'")
    for value in ([-1, 3], [True, 3], [1.0, 3], [None, 3], ["1", 3], [[1], 3], [1e300, 3]):
        yield _v2(f"shape {value!r}", model, _one(shape=value), "'input'", "dimension")
    for value in ([2**63, 3], [2**64 - 1, 0], [2**32, 2**32], [0, 2**40, 2**40]):
        yield _v2(f"shape {value!r}", model, _one(shape=value), "'input'", "too large")
    yield _v2("a dimension of 990 lists", model, _deep(_one(shape=[DEEP])), "'input'", "dimension")
    yield _v2("33 dimensions", model, _one(shape=[1] * 33), "'input'", "32 dimensions")
    yield _v2("a million dimensions", model, _one(shape=[2] * 1_000_000), "'input'", "too large")
    yield from _v2_data_rows(model)
    yield from _v2_fit_rows(model)
    yield from _v2_wish_rows(model)


def _v2_data_rows(model: str) -> Iterator[Row]:
    yield _v2("no data", model, _one(data=...), "'input'", "'data'")
    for value in (None, 1, {"a": 1}, "AAAA", True):
        yield _v2(f"data {value!r}", model, _one(data=value), "'input'", "'data'")
    for name, data in (
        ("ragged", [[1, 2, 3], [4, 5]]),
        ("ragged with a number", [[1, 2, 3], 4]),
        ("ragged deep inside", [[[1], [2]], [[3], [4, 5]]]),
    ):
        yield _v2(name, model, _one(shape=[2, 3], data=data), "'input'", "differ in length")
    yield _v2("a list among numbers", model, _one(data=[1, [2], 3]), "'input'", "element 1 is a list")
    yield _v2("nested in another shape", model, _one(shape=[1, 4], data=[[1, 2], [3, 4]]), "[2, 2]", "[1, 4]")
    yield _v2("too few", model, _one(data=[1, 2]), "'input'", "3 elements, 2 given")
    yield _v2("too many", model, _one(data=[1, 2, 3, 4]), "'input'", "3 elements, 4 given")
    yield _v2("none of three", model, _one(data=[]), "'input'", "3 elements, 0 given")
    yield _v2("nested 900 deep", model, _one(data=json.loads("[" * 900 + "1" + "]" * 900)), "32 dimensions")
    for value, said in (("1", "a string"), (True, "true or false"), (None, "null"), ({}, "an object"), ([], "a list")):
        yield _v2(f"{said} for FP32", model, _one(data=[1, 2, value]), "'input'", f"element 2 is {said}", "FP32")
    yield _v2("1e39 for FP32", model, _one(data=[1, 1e39, 2]), "'input'", "element 1 is too large for FP32")
    yield _v2("1e5 for FP16", "identity-fp16", _one(datatype="FP16", data=[1, 2, 1e5]), "element 2", "FP16")
    yield _v2("true for FP64", "identity-fp64", _one(datatype="FP64", data=[True, 1, 1]), "element 0", "FP64")
    yield _v2("BF16 as JSON", "identity-bf16", _one(datatype="BF16"), "'input'", "BF16", "binary")
    yield _v2("1.5 for INT32", "identity-int32", _one(datatype="INT32", data=[1, 1.5, 2]), "element 1", "INT32")
    yield _v2("1.0 for INT64", "identity-int64", _one(datatype="INT64", data=[1.0, 1, 2]), "element 0", "INT64")
    yield _v2("true for INT64", "identity-int64", _one(datatype="INT64", data=[True, 1, 2]), "element 0", "INT64")
    for datatype, value in (
        ("INT8", 128),
        ("INT8", -129),
        ("INT16", 32768),
        ("INT32", 2**31),
        ("INT64", 2**63),
        ("UINT8", 256),
        ("UINT8", -1),
        ("UINT16", 65536),
        ("UINT32", 2**32),
        ("UINT64", -1),
    ):
        body = _one(datatype=datatype, data=[1, 2, value])
        yield _v2(f"{value} for {datatype}", f"identity-{datatype.lower()}", body, "element 2", f"{datatype}'s range")
    for value in (2**64, -(2**63) - 1):
        body = _one(datatype="INT64", data=[value, 2, 3])
        yield _v2(f"{value} for INT64", "identity-int64", body, "element 0", "beyond 64 bits")
    for value, said in ((1, "a number"), ("true", "a string"), (None, "null")):
        body = _one(datatype="BOOL", data=[value, True, True])
        yield _v2(f"{said} for BOOL", "identity-bool", body, "element 0", "BOOL")
    for value, said in ((1, "integer"), (True, "true"), (None, "null"), ({"b64": "YQ=="}, "object")):
        body = _one(datatype="BYTES", data=["a", value, "c"])
        yield _v2(f"{said} for BYTES", "identity-bytes", body, "element 1", said, "BYTES")


def _v2_fit_rows(model: str) -> Iterator[Row]:
    ab = [_input(name=name, shape=[1, 4], data=[1, 2, 3, 4]) for name in "ab"]
    yield _v2("another datatype", model, _one(datatype="INT64"), "'input'", "INT64 given", "FP32")
    yield _v2("another rank", model, _one(shape=[3]), "'input'", "[3]", "[-1, 3]")
    yield _v2("another width", model, _one(shape=[3, 1]), "'input'", "[3, 1]", "[-1, 3]")
    yield _v2("a fixed batch", "fixed", _one(), "'input'", "[1, 3]", "[2, 3]")
    yield _v2("a missing input", "add-sub", {"inputs": ab[:1]}, "'b' is missing")
    yield _v2("an extra input", "add-sub", {"inputs": [*ab, _input(name="c")]}, "'c' is unknown", "a, b")
    yield _v2("an unknown input", model, _one(name="inptu"), "'input' is missing")
    yield _v2("an input twice", "add-sub", {"inputs": [*ab, ab[0]]}, "'a' is given twice")
    two = _input(name="b", shape=[2, 4], data=[1] * 8)
    yield _v2("batches of different size", "add-sub", {"inputs": [ab[0], two]}, "rows")
    yield _v2("what the model refuses", "fails", _one(datatype="INT64", shape=[1, 1], data=[13]), "model")
    for name in ("nothing", "..", "%2e%2e", "a\x00b", "a\nb", "n" * 10_000, "мir", "' OR 1=1 --", "{{7*7}}"):
        yield _v2(f"model {name[:20]!r}", name, _with(), "endpoint", status=404)
    for version in ("2", "0", "-1", "latest", "1e0", "1" * 5000, "1\n"):
        yield _v2(f"version {version[:10]!r}", f"{model}/versions/{version}", _with(), "version", status=404)


def _v2_wish_rows(model: str) -> Iterator[Row]:
    yield _v2("id that is a number", model, _with(id=5), "'id'")
    yield _v2("id of 10 kB", model, _with(id="i" * 10_000), "'id'")
    for value in ([], "", 0, False, [1], "x", 5):
        yield _v2(f"parameters {value!r}", model, _with(parameters=value), "'parameters'")
    for value in (-1, "5", 1.5, True, 2**64):
        yield _v2(f"timeout {value!r}", model, _with(parameters={"timeout": value}), "'timeout'")
    yield _v2("a sequence", model, _with(parameters={"sequence_id": 5, "sequence_start": True}), "sequence")
    yield _v2("binary_data_output 1", model, _with(parameters={"binary_data_output": 1}), "'binary_data_output'")
    shared = {"shared_memory_region": "r", "shared_memory_byte_size": 12}
    yield _v2("input in shared memory", model, _one(data=..., parameters=shared), "'input'", "shared memory")
    yield _v2("input parameters a list", model, _one(parameters=[1]), "'input'", "'parameters'")
    wish = {"name": "output", "parameters": shared}
    yield _v2("output in shared memory", model, _with(outputs=[wish]), "'output'", "shared memory")
    yield _v2("outputs an object", model, _with(outputs={"name": "output"}), "'outputs'")
    for value in (None, "output", {}, {"name": 5}):
        yield _v2(f"outputs[0] {value!r}", model, _with(outputs=[value]), "outputs[0]")
    yield _v2("unknown output", model, _with(outputs=[{"name": "outptu"}]), "'outptu'", "output")
    yield _v2("output twice", model, _with(outputs=[{"name": "output"}] * 2), "'output'", "twice")
    for value in (0, -1, "1", True, 1.5, 2**40):
        wish = {"name": "output", "parameters": {"classification": value}}
        yield _v2(f"classification {value!r}", model, _with(outputs=[wish]), "'output'", "'classification'")
    wish = {"name": "output", "parameters": {"binary_data": "yes"}}
    yield _v2("binary_data a string", model, _with(outputs=[wish]), "'output'", "'binary_data'")
    for text in ("soon", "-1", "0", "nan", "inf", "1e999", ""):
        yield _v2(f"x-request-timeout {text!r}", model, _with(), "x-request-timeout", x_request_timeout=text)


def _binary(name: str, model: str, body: Any, tail: bytes, *words: str, header: str | None = None) -> Row:
    head = _dump(body)
    length = str(len(head)) if header is None else header
    target = f"/v2/models/{model}/infer"
    return Row(f"v2 binary: {name}", target, head + tail, words, headers={"inference-header-content-length": length})


def _raw(size: Any, datatype: str = "FP32", shape: Any = (1, 3), **changes: Any) -> dict[str, Any]:
    return _one(datatype=datatype, shape=shape, data=..., parameters={"binary_data_size": size}, **changes)


def _binary_rows() -> Iterator[Row]:
    model, twelve = "identity-fp32", np.array([1, 2, 3], np.float32).tobytes()
    for text in ("x", "-1", "1.5", "", "0x10", "9" * 30, "1e3", "１"):
        ascii_text = text.encode("latin-1", "replace").decode()
        yield _binary(f"header {text[:9]!r}", model, _raw(12), twelve, "Inference-Header", header=ascii_text)
    yield _binary("header beyond the body", model, _raw(12), twelve, "Inference-Header", header="1000000")
    yield _binary("header that cuts the JSON", model, _raw(12), twelve, "JSON", header="20")
    yield _binary("header into the tensor", model, _raw(12), twelve, "JSON", header=str(len(_dump(_raw(12))) + 4))
    for size in (-1, True, 1.5, "12", -(2**63)):
        yield _binary(f"size {size!r}", model, _raw(size), twelve, "'input'", "'binary_data_size'")
    for size in (13, 2**31, 2**63, 2**64 - 1):
        yield _binary(f"size {size}", model, _raw(size), twelve, "'input'", f"{size} bytes, 12 are left")
    yield _binary("size too small", model, _raw(8), twelve, "'input'", "12 bytes, 8 given")
    yield _binary("size 0", model, _raw(0), twelve, "'input'", "12 bytes, 0 given")
    yield _binary("bytes left over", model, _raw(12), twelve + b"\0", "1 bytes are left")
    yield _binary("bytes without a binary input", model, _one(), twelve, "12 bytes are left")
    both = _one(parameters={"binary_data_size": 12})
    yield _binary("data and size", model, both, twelve, "'input'", "both")
    without = Row("v2 binary: no header", f"/v2/models/{model}/infer", _dump(_raw(12)), ("'input'", "header"))
    yield without
    yield _binary("shape of more", model, _raw(12, shape=[2, 3]), twelve, "'input'", "24 bytes, 12 given")
    yield _binary("shape overflow", model, _raw(12, shape=[2**62, 4]), twelve, "'input'", "too large")
    yield _binary("negative shape", model, _raw(12, shape=[-1, 3]), twelve, "'input'", "dimension")
    yield _binary("another datatype", model, _raw(24, "FP64"), twelve * 2, "'input'", "FP64 given")
    yield _binary("unknown datatype", model, _raw(12, "FP31"), twelve, "'input'", "'datatype'")
    ab = {"inputs": [_raw(12)["inputs"][0], _raw(8)["inputs"][0]]}
    yield _binary("input twice", model, ab, twelve + twelve[:8], "'input'")
    bad = b"\1\0\2"
    yield _binary("BOOL byte 2", "identity-bool", _raw(3, "BOOL"), bad, "'input'", "neither 0 nor 1")
    strings = "identity-bytes"
    good = struct.pack("<I", 1) + b"a"
    for name, raw, words in (
        ("length beyond", good * 2 + struct.pack("<I", 2**32 - 1) + b"a", "string 2"),
        ("length of nothing", good * 2 + b"\1\0", "2 strings"),
        ("two of three", good * 2, "2 strings"),
        ("four of three", good * 4, "left"),
    ):
        yield _binary(f"BYTES {name}", strings, _raw(len(raw), "BYTES"), raw, "'input'", words)
    yield _binary("BYTES of a huge shape", strings, _raw(5, "BYTES", shape=[2**39]), good, "'input'", "strings")


def _v1(name: str, target: str, body: Any, *words: str, status: int = 400) -> Row:
    return Row(f"v1: {name}", f"/v1/models/{target}", _dump(body), words, status)


def _v1_rows() -> Iterator[Row]:
    fp32, two, strings = "identity-fp32:predict", "add-sub:predict", "identity-bytes:predict"
    yield from _no_json("v1", f"/v1/models/{fp32}", b"instances")
    yield _v1("a list", fp32, [[1, 2, 3]], "object")
    yield _v1("neither", fp32, {"instance": [[1, 2, 3]]}, "'instances'", "'inputs'")
    yield _v1("both", fp32, {"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "either")
    for value in (None, 1, "x", {"input": [1, 2, 3]}):
        yield _v1(f"instances {value!r}", fp32, {"instances": value}, "'instances'")
    yield _v1("no instance", fp32, {"instances": []}, "'instances' is empty")
    yield _v1("ragged", fp32, {"instances": [[1, 2, 3], [1, 2]]}, "'input'", "differ in length")
    yield _v1("too wide", fp32, {"instances": [[1, 2, 3, 4]]}, "'input'", "[1, 4]", "[-1, 3]")
    yield _v1("too flat", fp32, {"instances": [1, 2, 3]}, "'input'", "[3]", "[-1, 3]")
    for value, said in (("1", "a string"), (True, "true or false"), (None, "null")):
        yield _v1(f"{said} for FP32", fp32, {"instances": [[1, 2, value]]}, "'input'", f"element 2 is {said}")
    yield _v1("base64 for FP32", fp32, {"instances": [[1, 2, {"b64": "YQ=="}]]}, "element 2 is an object")
    yield _v1("1e39", fp32, {"inputs": [[1e39, 2, 3]]}, "'input'", "too large for FP32")
    yield _v1("a row that is no object", two, {"instances": [{"a": [1] * 4, "b": [1] * 4}, 5]}, "instances[1]")
    yield _v1("rows without names", two, {"instances": [[1, 2, 3, 4]]}, "instances[0]", "object")
    yield _v1("a row without b", two, {"instances": [{"a": [1] * 4}]}, "instances[0]", "'b' is missing")
    row = {"a": [1] * 4, "b": [1] * 4, "c": 1}
    yield _v1("a row with c", two, {"instances": [row]}, "instances[0]", "'c' is unknown")
    yield _v1("columns without names", two, {"inputs": [[1] * 4]}, "'inputs'", "a, b")
    yield _v1("a column missing", two, {"inputs": {"a": [[1] * 4]}}, "'b' is missing")
    yield _v1("a column too many", two, {"inputs": {"a": [[1] * 4], "b": [[1] * 4], "c": 1}}, "'c' is unknown")
    columns = {"a": [[1] * 4], "b": [[1] * 4] * 2}
    yield _v1("columns of different length", two, {"inputs": columns}, "rows")
    for value in ("%%%", "YQ", 5, None, "YQ==\n"):
        yield _v1(f"b64 {value!r}", strings, {"instances": [["a", "b", {"b64": value}]]}, "'input'", "b64")
    yield _v1("b64 and more", strings, {"instances": [["a", "b", {"b64": "YQ==", "x": 1}]]}, "'input'", "b64")
    for value in ("other", 5, None):
        body = {"signature_name": value, "instances": [[1, 2, 3]]}
        yield _v1(f"signature_name {value!r}", fp32, body, "'signature_name'")
    good = {"instances": [[1, 2, 3]]}
    for verb in ("classify", "regress", "explain"):
        yield _v1(verb, f"identity-fp32:{verb}", good, f":{verb}", "not supported")
    yield _v1("unknown verb", "identity-fp32:dance", good, "'dance'", status=404)
    yield _v1("unknown model", "none:predict", good, "endpoint", status=404)
    yield _v1("unknown version", "identity-fp32/versions/9:predict", good, "version", status=404)
    yield _v1("unknown label", "identity-fp32/labels/gold:predict", good, "gold", status=404)
    for text in ("0", "-1", "x", "1.5", "9" * 30, ""):
        yield _v1(f"top_k {text[:9]!r}", f"mlp:predict?top_k={text}", {"instances": [[1] * 4]}, "'top_k'")
    yield _v1("labels=maybe", "mlp:predict?labels=maybe", {"instances": [[1] * 4]}, "'labels'")
    integers = {"instances": [[1, 2, 3]]}
    yield _v1("a signature of 990 lists", "identity-fp32:predict", _deep({"signature_name": DEEP}), "'signature_name'")
    yield _v1("top_k of no classifier", "identity-int64:predict?top_k=1", integers, "classifiers")
    yield _v1("what the model refuses", "fails:predict", {"instances": [[13]]}, "model")
    yield _v1("rows of a scalar model", "scalar:predict", {"instances": [1, 2]}, "'input'", "[2]")


def _predict(name: str, target: str, body: Any, *words: str, status: int = 400) -> Row:
    return Row(f"predict: {name}", f"/predict{target}", _dump(body), words, status)


def _predict_rows() -> Iterator[Row]:
    fp32, two = "/identity-fp32", "/add-sub"
    yield from _no_json("predict", f"/predict{fp32}", b"data")
    yield _predict("no data", fp32, {}, "'data'")
    yield _predict("data and more", fp32, {"data": [1, 2, 3], "model": "x"}, "'data'")
    yield _predict("several models", "", {"data": [1]}, "?model=")
    yield _predict("unknown model", "/none", {"data": [1]}, "endpoint", status=404)
    yield _predict("unknown model in the query", "?model=none", {"data": [1]}, "endpoint", status=404)
    yield _predict("empty model in the query", "?model=", {"data": [1]}, "endpoint", status=404)
    for value in (None, "x", True, {"b64": "YQ=="}):
        yield _predict(f"data {value!r}", fp32, {"data": value}, "input")
    yield _predict("data a number", fp32, {"data": 5}, "'input'", "[]", "[-1, 3]")
    yield _predict("too deep", fp32, {"data": [[[1, 2, 3]]]}, "'input'", "[1, 1, 3]")
    yield _predict("ragged", fp32, [[1, 2, 3], [1]], "'input'", "differ in length")
    yield _predict("unknown input", fp32, {"data": {"x": [1, 2, 3]}}, "'input' is missing")
    yield _predict("bare list for two inputs", two, [[1] * 4], "a, b")
    yield _predict("one row and one batch", two, {"data": {"a": [1] * 4, "b": [[1] * 4]}}, "mixes")
    yield _predict("top_k=x", "/mlp?top_k=x", {"data": [1] * 4}, "'top_k'")
    yield _predict("string", fp32, {"data": ["1", 2, 3]}, "element 0 is a string")


def http_rows() -> list[Row]:
    """Every row of the HTTP protocols; names are unique."""
    return list(chain(_v2_rows(), _binary_rows(), _v1_rows(), _predict_rows()))


#: A good request of each HTTP protocol: after every row the server still answers it.
GOOD: dict[str, Row] = {
    "v2": _v2("good", "identity-fp32", _one(), status=200),
    "v2 binary": Row(
        "v2 binary: good",
        "/v2/models/identity-fp32/infer",
        _dump(_raw(12)) + b"\0" * 12,
        (),
        200,
        {"inference-header-content-length": str(len(_dump(_raw(12))))},
    ),
    "v1": _v1("good", "identity-fp32:predict", {"instances": [[1, 2, 3]]}, status=200),
    "predict": _predict("good", "/identity-fp32", {"data": [1, 2, 3]}, status=200),
}
