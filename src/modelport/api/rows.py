"""JSON values to a model's named inputs, and its outputs to JSON values, where the signature alone gives data types.

What V1, ``/predict`` and ``/invocations`` share: in them a request names no data types and no shapes, and perhaps no
model. Knows signatures and labels; knows no protocol.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from modelport.api import classification
from modelport.api.messages import Caller
from modelport.api.tensor_json import from_array, json_name, shown, to_array
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.routing import Route
from modelport.errors import InvalidInput, Unavailable
from modelport.tensors import Array, Signature, TensorSpec

_LISTED = 10


def chosen(plane: DataPlane, caller: Caller, name: str | None) -> Endpoint:
    """The named endpoint, or the only one of the project; raises InvalidInput when there are several."""
    if name is not None:
        return plane.find(caller.project, name, only=caller.models)
    endpoints = plane.endpoints(caller.project, caller.models)
    if not endpoints:
        raise Unavailable("no model is deployed; `modelport deploy NAME` deploys one")
    if len(endpoints) > 1:
        names = _listed([endpoint.route.name for endpoint in endpoints])
        raise InvalidInput(f"several models are deployed; name one with ?model=: {names}")
    return endpoints[0]


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
            raise InvalidInput(f"{where}input {shown(spec.name)} is missing; the model takes {_names(signature)}")
    if len(value) != len(signature.inputs):
        known = {spec.name for spec in signature.inputs}
        extra = next(name for name in value if name not in known)
        raise InvalidInput(f"{where}input {shown(extra)} is unknown; the model takes {_names(signature)}")


def read_instances(signature: Signature, instances: Any, field: str = "instances") -> dict[str, Array]:
    """Tensors from a list of rows: bare values for a model with one input, else objects by input name."""
    if type(instances) is not list:
        raise InvalidInput(f"{field!r} must be a list of rows, not {json_name(instances)}")
    if not instances:
        raise InvalidInput(f"{field!r} is empty; send at least one row")
    check_takes_rows(signature)
    specs = signature.inputs
    if len(specs) == 1 and (type(instances[0]) is not dict or instances[0].keys() == {"b64"}):
        spec = specs[0]
        return {spec.name: to_array(instances, spec.datatype, spec.name, base64_objects=True)}
    for index, instance in enumerate(instances):
        if type(instance) is not dict:
            raise InvalidInput(f"{field}[{index}] must be an object with the inputs, not {json_name(instance)}")
        check_names(signature, instance, f"{field}[{index}]: ")
    return {spec.name: from_cells(spec, [instance[spec.name] for instance in instances]) for spec in specs}


def from_cells(spec: TensorSpec, cells: list[Any], base64_objects: bool = True) -> Array:
    """A column of cells, which are scalars or lists; an input of a single feature gets its last dimension."""
    tensor = to_array(cells, spec.datatype, spec.name, base64_objects=base64_objects)
    missing = len(spec.shape) - tensor.ndim
    return tensor.reshape(tensor.shape + (1,) * missing) if missing > 0 else tensor


def check_takes_rows(signature: Signature) -> None:
    """Raise InvalidInput for a model without inputs."""
    if not signature.inputs:
        raise InvalidInput("the model takes no inputs, so there are no rows to send; send 'inputs' as {}")


def _names(signature: Signature) -> str:
    return _listed([spec.name for spec in signature.inputs])


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")


def write(name: str, tensor: Array) -> Any:
    """One output as TensorFlow Serving writes it: strings as text, or ``{"b64"}`` when they cannot be text."""
    if tensor.dtype.kind != "O":
        if tensor.dtype.kind == "V":
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


def check_rows(inputs: dict[str, Array], outputs: dict[str, Array]) -> None:
    """Raise InvalidInput for an output that has not one entry per row, and so cannot be answered row by row."""
    first = next(iter(inputs.values()), None)
    if first is None or not first.ndim:
        raise InvalidInput("the inputs are no rows, so there are none to answer by; ask for JSON")
    count = len(first)
    for name, tensor in outputs.items():
        if tensor.shape[:1] != (count,):
            raise InvalidInput(
                f"output {shown(name)} of shape {list(tensor.shape)} has no entry for each of the {count} instances; "
                "send 'inputs' instead of 'instances'"
            )


def bare(values: dict[str, Any]) -> Any:
    """The outputs by name, or the only output's value."""
    return next(iter(values.values())) if len(values) == 1 else values


def per_row(values: dict[str, Any]) -> Any:
    """For each row its outputs by name, or the only output's value."""
    if len(values) == 1:
        return next(iter(values.values()))
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
