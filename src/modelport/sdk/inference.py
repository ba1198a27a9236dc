"""Predictions: over Open Inference V2 with binary data, or over ``/predict`` where the server is to name classes."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from modelport.errors import InvalidInput, Unavailable
from modelport.sdk.codec import cast, decode, encode
from modelport.sdk.flows import D_co, Flow, Operations, Request, operation, path_of, send, send_json
from modelport.sdk.references import parse_reference
from modelport.tensors import Array, TensorSpec, feature_order

#: What ``predict`` takes: an array, nested lists or a file (for BYTES) for a model with one input, or those by name;
#: for one with several also a data frame, or a list of rows that are objects.
Data = Mapping[str, Any] | Sequence[Any] | npt.NDArray[Any] | Path
#: Given to the server this much later than the caller's own limit, in seconds, so that its answer can say why.
_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What an endpoint takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    features: tuple[str, ...] = ()
    """Names of the columns that the one input was fitted on, in order, where the model knows them."""


class Inference(Operations[D_co]):
    """What callers do with a served model. A model is named as its endpoint, or ``NAME:version``."""

    def __init__(self, driver: D_co) -> None:
        super().__init__(driver)
        self._known: dict[str, ModelMetadata] = {}

    @operation
    def metadata(self, model: str) -> Flow[ModelMetadata]:
        """Names, data types and shapes of the inputs and outputs; -1 is a dynamic dimension."""
        return (yield from self._fetch_metadata(model))

    @operation
    def ready(self, model: str) -> Flow[bool]:
        """Whether the model answers. Raises NotFound for one that is not deployed."""
        try:
            yield from send(Request("GET", model_path(model) + "/ready"), attempts=1)
        except (InvalidInput, Unavailable):
            return False
        return True

    @operation
    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> Flow[dict[str, Array]]:
        """Run once: arrays in by input name, of the signature's own dtypes; arrays out by output name.

        ``timeout`` in seconds, kept by the server too. BYTES are object arrays of ``bytes``.
        """
        return (yield from self._infer(model, inputs, outputs, timeout, request_id))

    @operation
    def predict(
        self,
        model: str,
        data: Data,
        top_k: int | None = None,
        labels: bool = False,
        timeout: float | None = None,
    ) -> Flow[Any]:
        """Predict for a batch of rows, or for one row: ``data`` with one dimension less than the input.

        Gives the model's one output as an array, or several by name. With ``top_k`` a list per row of the best
        classes as ``{"label", "score"}``; with ``labels`` the best class's name per row. Lists and other dtypes are
        cast to the signature's where no value changes.
        """
        if top_k is not None or labels:
            return (yield from self._classify(model, data, top_k, timeout))
        metadata = self._known.get(model)
        fresh = metadata is None
        if metadata is None:
            metadata = yield from self._fetch_metadata(model)
        while True:
            try:
                inputs, single = arrange(metadata, data)
                found = yield from self._infer(model, inputs, None, timeout, None)
                break
            except InvalidInput:
                if fresh:
                    raise
                # Another version may have taken the endpoint since it was asked what it takes.
                known, metadata, fresh = metadata, (yield from self._fetch_metadata(model)), True
                if known == metadata:
                    raise
        if single:
            found = {name: array[0] if array.shape[:1] == (1,) else array for name, array in found.items()}
        return next(iter(found.values())) if len(found) == 1 else found

    def _fetch_metadata(self, model: str) -> Flow[ModelMetadata]:
        found = yield from send_json("GET", model_path(model))
        try:
            metadata = ModelMetadata(
                name=found["name"],
                versions=tuple(found.get("versions", ())),
                platform=found.get("platform", ""),
                inputs=_specs(found["inputs"]),
                outputs=_specs(found["outputs"]),
                features=tuple(found["inputs"][0].get("parameters", {}).get("features", ())) if found["inputs"] else (),
            )
        except (KeyError, TypeError, AttributeError):
            raise Unavailable(
                f"the metadata of {model!r} is not Open Inference V2; is this a Modelport server?"
            ) from None
        self._known[model] = metadata
        return metadata

    def _infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None,
        timeout: float | None,
        request_id: str | None,
    ) -> Flow[dict[str, Array]]:
        body, headers = encode(inputs, outputs, request_id)
        if request_id is not None:
            headers["x-request-id"] = request_id
        request = Request("POST", model_path(model) + "/infer", headers=headers, body=body)
        return decode((yield from send(_limited(request, timeout))))

    def _classify(self, model: str, data: Data, top_k: int | None, timeout: float | None) -> Flow[Any]:
        reference = parse_reference(model)
        if reference.version is not None or reference.alias is not None:
            raise InvalidInput("top_k and labels take an endpoint's name, without a version")
        params: dict[str, str | int] = {"model": reference.name}
        if top_k is not None:
            params["top_k"] = top_k
        else:
            params["labels"] = "true"
        option = orjson.OPT_SERIALIZE_NUMPY
        try:
            body = orjson.dumps({"data": data}, default=plain, option=option)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"data: {error}; give numbers, text, bytes, arrays or lists of them") from None
        headers = {"content-type": "application/json"}
        request = Request("POST", "/predict", params=params, headers=headers, body=body)
        response = yield from send(_limited(request, timeout))
        return orjson.loads(response.body)["result"]


def plain(value: Any) -> Any:
    """What orjson does not know: arrays of a layout or dtype that is not its own, bytes, and files."""
    if isinstance(value, Path):
        value = value.read_bytes()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value).__name__} is not data")


def _limited(request: Request, timeout: float | None) -> Request:
    if timeout is not None:
        request.headers["x-request-timeout"] = f"{timeout:g}"
        request.timeout = timeout + _GRACE
    return request


@functools.lru_cache(maxsize=256)
def model_path(model: str) -> str:
    """Where Open Inference V2 has an endpoint, or one version at it; raises InvalidInput for an alias."""
    reference = parse_reference(model)
    if reference.alias is not None:
        raise InvalidInput(f"{model!r}: an endpoint serves one alias; call it by its name, {reference.name!r}")
    version = () if reference.version is None else ("versions", reference.version)
    return "/v2" + path_of("models", reference.name, *version)


def _specs(described: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec["name"], spec["datatype"], tuple(spec["shape"])) for spec in described)


def _by_feature(metadata: ModelMetadata, data: Any) -> Any:
    """A data frame's rows with the columns as the model was fitted on them; anything else as it is."""
    columns = [name for name in getattr(data, "columns", ()) if isinstance(name, str)]
    order = feature_order(columns, metadata.features, "the data frame") if metadata.features and columns else None
    return data if order is None else np.asarray(data)[:, order]


def _by_input(metadata: ModelMetadata, data: Any) -> Any:
    """A data frame, or a list of rows that are objects, as columns by the names of the inputs; else as it is."""
    names = [spec.name for spec in metadata.inputs]
    if isinstance(data, list) and data and all(isinstance(row, Mapping) for row in data):
        for index, row in enumerate(data):
            wrong = [name for name in names if name not in row] or [name for name in row if name not in names]
            if wrong:
                raise InvalidInput(f"row {index}: {str(wrong[0])[:80]!r} is {_WRONG[wrong[0] in row]}, the model takes "
                                   f"{', '.join(names)}")  # fmt: skip
        found = {name: [row[name] for row in data] for name in names}
    elif set(names) <= set(getattr(data, "columns", ())):
        found = {name: data[name].to_list() for name in names}
    else:
        return data
    single = {spec.name for spec in metadata.inputs if spec.shape == (-1, 1)}
    return {
        name: [cell if isinstance(cell, list) else [cell] for cell in cells] if name in single else cells
        for name, cells in found.items()
    }


_WRONG = {True: "unknown", False: "missing"}


def arrange(metadata: ModelMetadata, data: Data) -> tuple[dict[str, Array], bool]:
    """The inputs as the signature wants them, and whether a batch dimension was added for a single row."""
    if not isinstance(data, Mapping) and len(metadata.inputs) > 1:
        data = _by_input(metadata, data)
    if not isinstance(data, Mapping):
        if len(metadata.inputs) != 1:
            names = ", ".join(spec.name for spec in metadata.inputs)
            raise InvalidInput(f"model {metadata.name!r} takes several inputs; give them by name: {names}")
        data = {metadata.inputs[0].name: _by_feature(metadata, data)}
    known = {spec.name: spec for spec in metadata.inputs}
    for name in data:
        if name not in known:
            raise InvalidInput(f"input {str(name)[:80]!r} is unknown; the model takes {', '.join(known)}")
    inputs = {spec.name: cast(spec, data[spec.name]) for spec in metadata.inputs if spec.name in data}
    single = all(
        known[name].shape[:1] == (-1,) and array.ndim == len(known[name].shape) - 1 for name, array in inputs.items()
    )
    if single:
        inputs = {name: array[np.newaxis] for name, array in inputs.items()}
    return inputs, single
