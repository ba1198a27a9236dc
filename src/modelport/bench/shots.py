"""What is sent, in the form of each protocol: a path, headers and a body; or a message of gRPC.

Made once, before the load, from named tensors. Knows no socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from modelport.errors import InvalidInput
from modelport.sdk.codec import encode
from modelport.sdk.flows import path_of
from modelport.sdk.inference import model_path, plain
from modelport.sdk.references import parse_reference
from modelport.tensors import Array, datatype_of, to_buffer

Protocol = Literal["predict", "v2", "v2-binary", "v1", "grpc"]
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """One request, ready to be sent over and over; the same one only as the same object."""

    path: str
    """Of HTTP, or the method's name of gRPC."""
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def shot_of(protocol: Protocol, model: str, inputs: Mapping[str, Array]) -> Shot:
    """A request for an endpoint, or ``NAME:version``; raises InvalidInput where the protocol has no way to say it."""
    if protocol == "grpc":
        return _grpc(model, inputs)
    if protocol == "v2-binary":
        body, headers = encode(inputs)
        return Shot(model_path(model) + "/infer", headers, body)
    if protocol == "v2":
        described = [
            {"name": name, "datatype": datatype_of(array.dtype), "shape": array.shape, "data": array.reshape(-1)}
            for name, array in inputs.items()
        ]
        return Shot(model_path(model) + "/infer", _JSON, _json({"inputs": described}))
    data: Any = next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
    reference = parse_reference(model)
    if reference.alias is not None:
        raise InvalidInput(f"{model!r}: an endpoint serves one alias; call it by its name, {reference.name!r}")
    if protocol == "v1":
        version = () if reference.version is None else ("versions", reference.version)
        path = "/v1" + path_of("models", reference.name, *version) + ":predict"
        return Shot(path, _JSON, _json({"instances" if len(inputs) == 1 else "inputs": data}))
    if reference.version is not None:
        raise InvalidInput(f"{model!r}: /predict takes an endpoint's name alone; --protocol v2 takes a version")
    return Shot("/predict" + path_of(reference.name), _JSON, _json({"data": data}))


def _json(document: dict[str, Any]) -> bytes:
    return orjson.dumps(document, default=plain, option=orjson.OPT_SERIALIZE_NUMPY)


def _grpc(model: str, inputs: Mapping[str, Array]) -> Shot:
    from modelport.api.proto import SERVICE, message  # noqa: PLC0415  (protobuf takes time to load, and few need it)

    reference = parse_reference(model)
    request = message("ModelInferRequest")(
        model_name=reference.name, model_version="" if reference.version is None else str(reference.version)
    )
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(array.dtype), shape=array.shape)
        request.raw_input_contents.append(bytes(to_buffer(array)))
    return Shot(f"/{SERVICE}/ModelInfer", {}, request.SerializeToString())
