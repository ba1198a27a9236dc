"""JSON to tensors and back, strictly: nothing is guessed, rounded, wrapped or cut on the way in.

A body is parsed once and its lists become numpy arrays of the data type that is asked for. A number, a string, true
and null are four different things; what does not fit is refused with the name of the tensor and of the element.
On the way out a float that JSON cannot write (NaN, an infinity) becomes null; binary answers carry it exactly.
Knows no protocol.
"""

from __future__ import annotations

import base64
import binascii
import json
from array import array
from collections.abc import Iterable
from itertools import chain
from typing import Any, NoReturn

import numpy as np
import orjson

from modelport.errors import InvalidInput
from modelport.tensors import Array, dtype_of

#: How array.array stores a data type: it refuses an integer that is out of range instead of wrapping it.
_TYPECODES = {
    "FP16": "d",
    "FP32": "f",
    "FP64": "d",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
}
_FLOATS = {"FP16", "FP32", "FP64"}
_JSON_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a number with a fraction or beyond 64 bits",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_MAX_RANK = 32


def shown(value: object) -> str:
    """A value from outside, safe to print: cut to 80 characters, control characters escaped; a list is only named."""
    if isinstance(value, list | dict):
        return json_name(value)
    text = value if isinstance(value, str) else str(value)
    return repr(text[:80]) + ("…" if len(text) > 80 else "")


def json_name(value: object) -> str:
    """What a JSON value is, in a reader's words."""
    return _JSON_NAMES.get(type(value), "a number")


def parse(body: bytes | memoryview) -> Any:
    """The value of a JSON body; raises InvalidInput with the position, also for a key given twice."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        _refuse_body(bytes(body), error)
    # Every key costs a colon; when there are more colons than keys, either a string holds one or a key was given twice.
    if bytes(body).count(b":") != _count_keys(value, _MAX_RANK):
        _refuse_duplicate_keys(bytes(body))
    return value


def parse_object(body: bytes | memoryview) -> dict[str, Any]:
    """Like parse, for a body that has to be an object."""
    value = parse(body)
    if type(value) is not dict:
        raise InvalidInput(f"the body must be a JSON object, not {json_name(value)}")
    return value


def _count_keys(value: Any, depth: int) -> int:
    """The number of keys in a document. It may miss some (deep, or in mixed lists): that only costs the slow check."""
    if depth == 0:
        return 0
    count = 0
    items: Iterable[Any]
    if type(value) is dict:
        count, items = len(value), value.values()
    else:
        # A list of numbers is passed over by its first element; so is one that hides an object further on.
        items = value if type(value) is list and value and type(value[0]) is dict else ()
    for item in items:
        kind = type(item)
        if kind is dict or (kind is list and item and type(item[0]) is dict):
            count += _count_keys(item, depth - 1)
    return count


def _refuse_duplicate_keys(body: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidInput(f"the body gives the key {shown(key)} twice in one object; give it once")
            seen.add(key)

    try:
        json.loads(body, object_pairs_hook=check)
    except RecursionError:
        raise InvalidInput("the body is nested too deeply; a tensor has 32 dimensions at most") from None


def _refuse_body(body: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    try:
        text = body.decode()
    except UnicodeDecodeError as undecodable:
        raise InvalidInput(
            f"the body is not JSON: invalid UTF-8 at byte {undecodable.start}; encode it as UTF-8"
        ) from None
    rest = text[error.pos : error.pos + 10].lstrip("-")
    if rest.startswith(("NaN", "Infinity", "inf", "nan")):
        raise InvalidInput(
            f"the body is not JSON: NaN and Infinity at character {error.pos} have no JSON form; "
            "V2's binary tensor extension carries them"
        )
    raise InvalidInput(
        f"the body is not JSON: {error.msg.split(': line ')[0]} at character {error.pos}; correct it there"
    )


def to_array(data: Any, datatype: str, name: str, *, base64_objects: bool = False) -> Array:
    """A tensor from a JSON value: a scalar, a flat list or nested lists, whose nesting gives the shape.

    ``base64_objects`` lets BYTES elements be ``{"b64": "…"}``. Raises InvalidInput.
    """
    if type(data) is not list:
        return _flat_to_array([data], datatype, name, base64_objects).reshape(())
    flat, shape = flatten(data, name)
    tensor = _flat_to_array(flat, datatype, name, base64_objects)
    return tensor if len(shape) == 1 else tensor.reshape(shape)


def flatten(data: list[Any], name: str) -> tuple[list[Any], tuple[int, ...]]:
    """The elements of nested lists in row-major order, and their shape; raises InvalidInput when they are ragged."""
    shape = [len(data)]
    if len(data) == 1 and type(data[0]) is list and data[0] and type(data[0][0]) is not list:
        return data[0], (1, len(data[0]))  # one row, as most requests have
    while data and type(data[0]) is list:
        width = len(data[0])
        if set(map(type, data)) != {list} or set(map(len, data)) != {width}:
            raise InvalidInput(
                f"input {shown(name)}: the lists at depth {len(shape)} differ in length; make them equal"
            )
        if len(shape) == _MAX_RANK:
            raise InvalidInput(f"input {shown(name)}: more than {_MAX_RANK} dimensions; nest the lists less deeply")
        data = list(chain.from_iterable(data))
        shape.append(width)
    return data, tuple(shape)


def _flat_to_array(flat: list[Any], datatype: str, name: str, base64_objects: bool) -> Array:
    kinds = set(map(type, flat))
    if datatype in _FLOATS:
        _require(kinds <= {float, int}, flat, (float, int), name, f"{datatype} takes numbers")
        return _floats(flat, datatype, name)
    if datatype == "BYTES":
        if base64_objects and dict in kinds:
            flat = [_decode_base64(item, name) if type(item) is dict else item for item in flat]
            kinds = set(map(type, flat)) - {bytes}
        _require(kinds <= {str}, flat, (str, bytes), name, "BYTES takes strings")
        strings = np.empty(len(flat), dtype=object)
        strings[:] = [item if type(item) is bytes else item.encode() for item in flat]
        return strings
    if datatype == "BOOL":
        _require(kinds <= {bool}, flat, (bool,), name, "BOOL takes true and false")
        return np.array(flat, dtype=bool)
    if datatype == "BF16":
        raise InvalidInput(f"input {shown(name)}: BF16 has no JSON form; send it with the binary tensor extension")
    dtype = dtype_of(datatype)
    _require(kinds <= {int}, flat, (int,), name, f"{datatype} takes integers")
    try:
        return np.frombuffer(array(_TYPECODES[datatype], flat), dtype)
    except OverflowError:
        limits = np.iinfo(dtype)
        index = next(i for i, item in enumerate(flat) if not limits.min <= item <= limits.max)
        raise InvalidInput(
            f"input {shown(name)}: element {index} is outside {datatype}'s range {limits.min} to {limits.max}"
        ) from None


def _floats(flat: list[Any], datatype: str, name: str) -> Array:
    dtype = dtype_of(datatype)
    tensor = np.frombuffer(array(_TYPECODES[datatype], flat), "f4" if datatype == "FP32" else "f8")
    if datatype == "FP16":
        with np.errstate(over="ignore"):
            tensor = tensor.astype(dtype)
    finite = np.isfinite(tensor)
    if not finite.all():
        index = int(finite.argmin())
        raise InvalidInput(
            f"input {shown(name)}: element {index} is too large for {datatype}, which goes to {np.finfo(dtype).max:.4g}"
        )
    return tensor


def _require(holds: bool, flat: list[Any], allowed: tuple[type, ...], name: str, rule: str) -> None:
    if not holds:
        index = next(i for i, item in enumerate(flat) if type(item) not in allowed)
        raise InvalidInput(f"input {shown(name)}: element {index} is {json_name(flat[index])}; {rule}")


def _decode_base64(item: dict[str, Any], name: str) -> bytes:
    encoded = item.get("b64")
    if len(item) != 1 or type(encoded) is not str:
        raise InvalidInput(f"input {shown(name)}: an element is an object that is not {{'b64': 'text'}}")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(
            f"input {shown(name)}: an element's b64 text is not base64; encode it as RFC 4648 says, with padding"
        ) from None


def from_array(tensor: Array, name: str) -> Any:
    """What ``answers.answer`` writes as (nested) lists: the array itself, or lists of strings for BYTES.

    Raises InvalidInput for what JSON cannot carry: BF16, and BYTES that are not UTF-8.
    """
    if tensor.dtype.kind == "O":
        try:
            return _map_leaves(tensor.tolist(), _text)
        except UnicodeDecodeError:
            raise InvalidInput(
                f"output {shown(name)} holds bytes that are not UTF-8; ask for it with binary_data"
            ) from None
    if tensor.dtype.kind == "V":
        raise InvalidInput(f"output {shown(name)} is BF16, which has no JSON form; ask for it with binary_data")
    if not tensor.dtype.isnative:
        tensor = tensor.astype(tensor.dtype.newbyteorder("="))
    if tensor.ndim == 0:
        return tensor[()]
    return np.ascontiguousarray(tensor)


def _text(element: Any) -> str:
    return element.decode() if type(element) is bytes else str(element)


def _map_leaves(value: Any, change: Any) -> Any:
    return [_map_leaves(item, change) for item in value] if type(value) is list else change(value)
