"""How one row travels to each kind of server, and how its answer is read: bytes and numpy, no sockets."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]

JSON = "application/json"
RAW = "application/octet-stream"
_V2_HEAD = "inference-header-content-length"


def request(wire: str, row: Array) -> tuple[dict[str, str], bytes]:
    """Headers and body of a request with this one row."""
    rows = row[None]
    raw = rows.tobytes()
    tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    text = {"name": "input", "shape": [1, 1], "datatype": "BYTES", "data": [base64.b64encode(raw).decode()]}
    match wire:
        case "rows" | "bento-json":
            return _json({"data": _numbers(rows)})
        case "raw" | "echo":
            return {"content-type": RAW}, raw
        case "v2-json":
            return _json({"inputs": [{**tensor, "data": _numbers(row.reshape(-1))}]})
        case "v2-binary":
            size = {"parameters": {"binary_data_size": len(raw)}}
            head = json.dumps({"inputs": [{**tensor, **size}], "parameters": {"binary_data_output": True}}).encode()
            return {"content-type": RAW, _V2_HEAD: str(len(head))}, head + raw
        case "v2-base64":
            return _json({"inputs": [text]})
        case "mlflow-rows":
            return _json({"inputs": _numbers(rows)})
        case "mlflow-base64":
            return _json({"inputs": text["data"]})
    raise ValueError(f"no wire is called {wire!r}")


def answer(wire: str, headers: Mapping[str, str], body: bytes) -> Array:
    """The numbers of the answer, flat."""
    match wire:
        case "raw" | "echo":
            found: Any = np.frombuffer(body, np.float32)
        case "rows":
            found = json.loads(body)["result"]
        case "bento-json":
            found = json.loads(body)
        case "v2-json":
            found = json.loads(body)["outputs"][0]["data"]
        case "v2-binary":
            found = np.frombuffer(body[int({k.lower(): v for k, v in headers.items()}[_V2_HEAD]) :], np.float32)
        case "v2-base64":
            found = _decoded(json.loads(body)["outputs"][0]["data"])
        case "mlflow-rows":
            found = json.loads(body)["predictions"]
        case "mlflow-base64":
            found = _decoded(json.loads(body)["predictions"])
        case _:
            raise ValueError(f"no wire is called {wire!r}")
    return np.asarray(found, np.float32).reshape(-1)


def _decoded(texts: list[str]) -> Array:
    return np.frombuffer(b"".join(map(base64.b64decode, texts)), np.float32)


def _numbers(array: Array) -> Any:
    """Nested lists with as many digits as a float32 has: what a caller would write."""
    if array.ndim > 1:
        return [_numbers(part) for part in array]
    return [float(str(value)) for value in array]


def _json(value: Any) -> tuple[dict[str, str], bytes]:
    return {"content-type": JSON}, json.dumps(value, separators=(",", ":")).encode()
