"""Named tensors as every protocol and runtime here knows them: data types, specifications, signatures, BYTES.

Data type names are those of the Open Inference Protocol V2. BYTES tensors are numpy object arrays of ``bytes``.
This module imports only the standard library and numpy, so that a replica in any environment can use it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from modelport.errors import InvalidInput

Array = npt.NDArray[Any]

_NUMPY_NAMES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
#: Names in wire order: a type's index is its code in a frame. Only append.
DATATYPES: tuple[str, ...] = (*_NUMPY_NAMES, "BF16")


@cache
def dtype_of(datatype: str) -> np.dtype[Any]:
    """The numpy dtype of a V2 data type name; raises InvalidInput for an unknown name."""
    if datatype == "BF16":
        import ml_dtypes  # noqa: PLC0415  (rare, and absent from minimal environments)

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    name = _NUMPY_NAMES.get(datatype)
    if name is None:
        raise InvalidInput(f"unknown datatype {datatype!r}; one of {', '.join(DATATYPES)}")
    return np.dtype(name)


_FROM_NUMPY = {np.dtype(name): datatype for datatype, name in _NUMPY_NAMES.items()}


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The V2 data type name of a numpy dtype; strings and objects are BYTES."""
    found = _FROM_NUMPY.get(dtype)
    if found is not None:
        return found
    if dtype.kind in "SUO":
        return "BYTES"
    if dtype.name == "bfloat16":
        return "BF16"
    raise InvalidInput(f"dtype {dtype.name} has no Open Inference data type")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, V2 data type and shape of one input or output.

    ``shape`` has -1 for a dynamic dimension; ``dims`` may name dimensions (equal names mean equal sizes).
    An output that does not tell its number of dimensions has the shape (-1,) and the dims ("...",).
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    dims: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Signature:
        """Rebuild a signature from its JSON form."""

        def specs(key: str) -> tuple[TensorSpec, ...]:
            return tuple(
                TensorSpec(s["name"], s["datatype"], tuple(s["shape"]), tuple(s.get("dims") or ())) for s in found[key]
            )

        return cls(specs("inputs"), specs("outputs"))

    def to_json(self) -> dict[str, Any]:
        """The inverse of from_json."""
        return asdict(self)

    @property
    def has_batch_dimension(self) -> bool:
        """Whether every input and output has a dynamic first dimension."""
        specs = (*self.inputs, *self.outputs)
        return bool(specs) and all(spec.shape[:1] == (-1,) for spec in specs)


def element_count(shape: tuple[int, ...] | list[int], name: str) -> int:
    """The product of a shape from outside; raises InvalidInput on negative or absurd dimensions."""
    bound = 1
    for dim in shape:
        if type(dim) is not int or dim < 0:
            raise InvalidInput(f"input {name!r}: shape {_brief(shape)} has a dimension that is not a number >= 0")
        bound *= dim or 1
        if bound > 1 << 40:  # checked as it grows: numpy refuses such a shape even when another dimension is 0
            raise InvalidInput(f"input {name!r}: shape {_brief(shape)} is too large")
    if len(shape) > 32:
        raise InvalidInput(f"input {name!r}: shape {_brief(shape)} has more than 32 dimensions")
    return 0 if 0 in shape else bound


def check_input(spec: TensorSpec, array: Array) -> None:
    """Raise InvalidInput unless ``array`` has the data type and a shape that ``spec`` admits."""
    if array.dtype != dtype_of(spec.datatype):
        raise InvalidInput(
            f"input {spec.name!r}: datatype {datatype_of(array.dtype)} given, the model takes {spec.datatype}"
        )
    shape, wanted = array.shape, spec.shape
    if shape and wanted and shape[1:] == wanted[1:] and wanted[0] in (-1, shape[0]):
        return
    if len(shape) != len(spec.shape) or any(want not in (-1, got) for want, got in zip(spec.shape, shape, strict=True)):
        raise InvalidInput(f"input {spec.name!r}: shape {_brief(shape)} given, the model takes {list(spec.shape)}")


def check_inputs(signature: Signature, inputs: dict[str, Array]) -> None:
    """Raise InvalidInput unless ``inputs`` are exactly those of the signature, and agree on the batch."""
    for spec in signature.inputs:
        array = inputs.get(spec.name)
        if array is None:
            raise InvalidInput(f"input {spec.name!r} is missing")
        check_input(spec, array)
    if len(inputs) != len(signature.inputs):
        known = {spec.name for spec in signature.inputs}
        extra = next(name for name in inputs if name not in known)
        raise InvalidInput(f"input {extra[:80]!r} is unknown; the model takes {', '.join(sorted(known))}")
    if len(inputs) > 1 and signature.has_batch_dimension:
        rows = {name: array.shape[0] for name, array in inputs.items()}
        if len(set(rows.values())) > 1:
            raise InvalidInput(f"inputs disagree on the number of rows (first dimension): {rows}")


def feature_order(columns: Sequence[str], features: Sequence[str], what: str) -> list[int] | None:
    """Where each feature that a model was fitted on stands among the columns of ``what``.

    None when they stand in order already, or when the columns are no features at all: then places count. Raises
    InvalidInput for a column that is missing or unknown.
    """
    if list(features) == list(columns) or not set(columns) & set(features):
        return None
    for name in features:
        if name not in columns:
            raise InvalidInput(f"{what} lacks the column {name[:80]!r}; the model was fitted on it")
    for name in columns:
        if name not in features:
            raise InvalidInput(f"{what} has the column {name[:80]!r}, which the model was not fitted on; leave it out")
    return [list(columns).index(name) for name in features]


def pack_bytes(array: Array) -> bytes:
    """A BYTES tensor in V2's binary form: each element a little-endian uint32 length and its bytes."""
    parts: list[bytes] = []
    for element in array.reshape(-1).tolist():
        raw = element if isinstance(element, bytes) else str(element).encode()
        parts.append(struct.pack("<I", len(raw)))
        parts.append(raw)
    return b"".join(parts)


def unpack_bytes(raw: bytes | memoryview, count: int, name: str) -> Array:
    """The inverse of pack_bytes, as a flat array of ``count`` elements; raises InvalidInput on a lying length."""
    array = np.empty(count, dtype=object)
    position, end = 0, len(raw)
    for index in range(count):
        if position + 4 > end:
            raise InvalidInput(f"input {name!r}: holds {index} strings, its shape says {count}")
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        if position + length > end:
            raise InvalidInput(f"input {name!r}: string {index} says {length} bytes, {end - position} are left")
        array[index] = bytes(raw[position : position + length])
        position += length
    if position != end:
        raise InvalidInput(f"input {name!r}: {end - position} bytes are left after its {count} strings")
    return array


def from_buffer(datatype: str, shape: tuple[int, ...], raw: bytes | memoryview, name: str) -> Array:
    """A tensor from its little-endian row-major bytes, as a read-only view where possible."""
    count = element_count(shape, name)
    if datatype == "BYTES":
        if count > len(raw) // 4 + 1:
            raise InvalidInput(f"input {name!r}: shape {_brief(shape)} holds more strings than its {len(raw)} bytes")
        return unpack_bytes(raw, count, name).reshape(shape)
    dtype = dtype_of(datatype)
    if count * dtype.itemsize != len(raw):
        raise InvalidInput(
            f"input {name!r}: {datatype} of shape {_brief(shape)} is {count * dtype.itemsize} bytes, {len(raw)} given"
        )
    if datatype == "BOOL" and count and np.frombuffer(raw, np.uint8).max() > 1:
        raise InvalidInput(f"input {name!r}: a BOOL byte is neither 0 nor 1")
    return np.frombuffer(raw, dtype).reshape(shape)


def to_buffer(array: Array) -> bytes | memoryview:
    """The bytes of a tensor, little-endian and row-major; a view where possible."""
    if array.dtype.kind == "O":
        return pack_bytes(array)
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""


def _brief(shape: tuple[int, ...] | list[int]) -> str:
    dims = ("[…]" if isinstance(dim, list | dict) else repr(dim)[:20] for dim in shape[:8])
    return f"[{', '.join(dims)}]" + ("…" if len(shape) > 8 else "")
