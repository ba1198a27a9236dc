"""JSON values to a model's named inputs, and its outputs to JSON values, where the signature alone gives data types.

What V1 and ``/predict`` share: in them a request names no data types and no shapes. Knows signatures and labels; knows
no protocol.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from modelport.api import classification
from modelport.api.tensor_json import from_array, json_name, shown, to_array
from modelport.engine.routing import Route
from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec


def read_columns(signature: Signature, value: Any, field: str) -> dict[str, Array]:
    """Tensors from an object by input name; a model with one input also takes its bare value."""
    return {
        spec.name: to_array(item, spec.datatype, spec.name, base64_objects=True)
        for spec, item in columns(signature, value, field)
    }


def columns(signature: Signature, value: Any, field: str) -> list[tuple[TensorSpec, Any]]:
    """Each input with its JSON value; raises InvalidInput for an input that is missing or unknown."""
    specs = signature.inputs
    if type(value) is not dict or (len(specs) == 1 and value.keys() == {"b64"}):
        if len(specs) != 1:
            raise InvalidInput(
                f"{field!r} must be an object with the inputs {_names(signature)}, not {json_name(value)}"
            )
        return [(specs[0], value)]
    check_names(signature, value)
    return [(spec, value[spec.name]) for spec in specs]


def check_names(signature: Signature, value: dict[str, Any], where: str = "") -> None:
    """Raise InvalidInput unless the keys are exactly the names of the inputs."""
    for spec in signature.inputs:
        if spec.name not in value:
            raise InvalidInput(f"{where}input {shown(spec.name)} is missing")
    if len(value) != len(signature.inputs):
        known = {spec.name for spec in signature.inputs}
        extra = next(name for name in value if name not in known)
        raise InvalidInput(f"{where}input {shown(extra)} is unknown; the model takes {_names(signature)}")


def _names(signature: Signature) -> str:
    return ", ".join(spec.name for spec in signature.inputs)


def write(name: str, tensor: Array) -> Any:
    """One output as TensorFlow Serving writes it: strings as text, or ``{"b64"}`` when they cannot be text."""
    if tensor.dtype.kind != "O":
        if tensor.dtype.name == "bfloat16":
            tensor = tensor.astype(np.float32)
        return from_array(tensor, name)
    elements = tensor.reshape(-1).tolist()
    if name.endswith("_bytes") or not all(_is_text(element) for element in elements):
        encoded = np.empty(tensor.size, dtype=object)
        encoded[:] = [{"b64": base64.b64encode(element).decode()} for element in elements]
        return encoded.reshape(tensor.shape).tolist()
    return from_array(tensor, name)


def _is_text(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


def class_outputs(route: Route, query: dict[str, str]) -> tuple[int, tuple[str, ...]] | None:
    """How many classes are wanted of which outputs, by the query's ``top_k`` and ``labels``; None for plain outputs."""
    count = classification.wanted_classes(query)
    if count is None:
        return None
    return count, classification.classified_outputs(route.signature, route.labels)


def write_all(route: Route, outputs: dict[str, Array], classes: int | None) -> dict[str, Any]:
    """Every output as a JSON value; with ``classes`` each row of scores as its best classes."""
    if classes is None:
        return {name: write(name, tensor) for name, tensor in outputs.items()}
    return {
        name: classification.as_objects(tensor, classes, route.labels.get(name)) for name, tensor in outputs.items()
    }
