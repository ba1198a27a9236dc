"""Arrays to the body of an Open Inference V2 request with binary data, and its answer back to arrays.

Also casts what a person gives (lists, any numpy dtype) to what a signature wants, as long as no value changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from modelport.errors import InvalidInput, Unavailable
from modelport.sdk.flows import Response
from modelport.tensors import Array, TensorSpec, datatype_of, dtype_of, from_buffer, to_buffer

HEADER_LENGTH = "inference-header-content-length"


def encode(
    inputs: Mapping[str, Array], outputs: Sequence[str] | None = None, request_id: str | None = None
) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of an infer request: a JSON header, then every tensor's bytes."""
    described: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = [b""]
    for name, array in inputs.items():
        raw = to_buffer(array)
        described.append(
            {
                "name": name,
                "datatype": datatype_of(array.dtype),
                "shape": array.shape,
                "parameters": {"binary_data_size": len(raw)},
            }
        )
        parts.append(raw)
    header: dict[str, Any] = {"inputs": described, "parameters": {"binary_data_output": True}}
    if request_id is not None:
        header["id"] = request_id
    if outputs is not None:
        header["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    parts[0] = orjson.dumps(header)
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(parts[0]))}
    return b"".join(parts), headers


def decode(response: Response) -> dict[str, Array]:
    """The outputs of an answer, as arrays that view its body (and may be written to)."""
    body = memoryview(response.body)
    try:
        length = int(response.headers.get(HEADER_LENGTH, len(body)))
        header, position = orjson.loads(body[:length]), length
        outputs: dict[str, Array] = {}
        for output in header["outputs"]:
            name, datatype, shape = output["name"], output["datatype"], tuple(output["shape"])
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                outputs[name] = np.array(output["data"], dtype_of(datatype)).reshape(shape)
            else:
                outputs[name] = from_buffer(datatype, shape, body[position : position + size], name)
                position += size
    except (KeyError, TypeError, ValueError, InvalidInput) as error:
        raise Unavailable(f"the answer is no Open Inference V2 answer ({error}); is this a Modelport server?") from None
    return outputs


def cast(spec: TensorSpec, value: Any) -> Array:
    """``value`` as an array of the input's data type; raises InvalidInput where a value would have to change.

    Precision of floating point may get less (numpy makes float64 of lists); integers must fit, fractions stay.
    """
    want = dtype_of(spec.datatype)
    try:  # as an object array bytes keep the NULs that they end with
        given = np.asarray(value, object if spec.datatype == "BYTES" else None)
    except ValueError:
        raise InvalidInput(f"input {spec.name!r}: its rows have different lengths; make them equal") from None
    if given.dtype == want and want.kind != "O":
        return given
    if spec.datatype == "BYTES":
        return _strings(given, spec.name)
    if given.size == 0 and given.dtype.kind == "f":
        return given.astype(want)
    kind = "text" if given.dtype.kind in "SUO" else given.dtype.name
    refusal = InvalidInput(
        f"input {spec.name!r}: {kind} given, which does not fit {spec.datatype} unchanged; convert it"
    )
    if given.dtype.kind in "SUO":
        raise refusal
    if want.kind in "iu":
        if given.dtype.kind not in "iu":
            raise refusal
        made = given.astype(want)
        if not np.array_equal(made, given):
            raise refusal
        return made
    if want.kind == "b":
        raise refusal
    with np.errstate(over="ignore"):
        made = given.astype(want)
    if want.kind == "f" and np.isinf(made).sum() != (np.isinf(given).sum() if given.dtype.kind == "f" else 0):
        raise refusal
    return made


def _strings(given: Array, name: str) -> Array:
    """Text, bytes and files as an object array of bytes."""
    made = np.empty(given.shape, dtype=object)
    flat = made.reshape(-1)
    for index, element in enumerate(given.reshape(-1).tolist()):
        if isinstance(element, Path):
            flat[index] = element.read_bytes()
            continue
        if not isinstance(element, str | bytes):
            raise InvalidInput(f"input {name!r}: takes text, {type(element).__name__} given; str() makes text of it")
        flat[index] = element.encode() if isinstance(element, str) else element
    return made
