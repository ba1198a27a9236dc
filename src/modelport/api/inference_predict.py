"""The shortest way to a prediction: ``POST /predict`` with ``{"data": …}``, answered by ``{"result": …}``.

    POST /predict[?model=NAME]      for the only, or the named, model
    POST /predict/{model}

``data`` is a batch of rows, or one row (then the result is one row too); a model with several inputs takes an object
by input name, or a list of such objects, one for each row. A bare JSON array is a batch as well, and gets the bare
result. With several outputs the result is an object by output name. ``?top_k=K`` and ``?labels=true`` answer a
classifier's scores as ``[{"label", "score"}, …]``.
"""

from __future__ import annotations

import re
from typing import Any

from modelport.api import rows
from modelport.api.answers import answer, error_answer
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.tensor_json import parse, to_array
from modelport.engine.dataplane import DataPlane
from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The two paths."""
    door = Predict(plane)
    return [HttpRoute("POST", re.compile(r"/predict(?:/(?P<model>[^/]+))?"), door.predict, error_answer)]


class Predict:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def predict(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        endpoint = rows.chosen(self._plane, request.caller, path.get("model") or request.query.get("model"))
        route = endpoint.route
        classes = rows.class_outputs(route, request.query)
        body = parse(request.body)
        bare = type(body) is list
        if not bare and (type(body) is not dict or body.keys() != {"data"}):
            raise InvalidInput("the body must be an object with the key 'data' alone, or a JSON array")
        inputs, one_row = read_data(route.signature, body if bare else body["data"])
        asked = request.infer_request(inputs, self._plane.default_timeout_s, classes and classes[1])
        result = await self._plane.infer(endpoint, asked)
        outputs = result.outputs
        if one_row and classes is None:
            outputs = {name: _row(tensor) for name, tensor in outputs.items()}
        values: dict[str, Any] = rows.write_all(route, outputs, classes and classes[0])
        if one_row and classes is not None:
            values = {name: found[0] for name, found in values.items()}
        value = next(iter(values.values())) if len(values) == 1 else values
        return answer(value if bare else {"result": value})


def read_data(signature: Signature, data: Any) -> tuple[dict[str, Array], bool]:
    """The tensors, and whether one row was given in place of a batch; raises InvalidInput."""
    if len(signature.inputs) > 1 and type(data) is list and data and type(data[0]) is dict:
        return rows.read_instances(signature, data, "data"), False
    if len(signature.inputs) > 1 and type(data) is dict and not any(type(value) is list for value in data.values()):
        rows.check_names(signature, data)
        return rows.read_instances(signature, [data]), True
    inputs: dict[str, Array] = {}
    without_batch = []
    for spec, value in rows.columns(signature, data, "data"):
        tensor = to_array(value, spec.datatype, spec.name, base64_objects=True)
        is_row = tensor.ndim + 1 == len(spec.shape) and spec.shape[0] in (-1, 1)
        without_batch.append(is_row)
        inputs[spec.name] = tensor[None] if is_row else tensor
    if any(without_batch) and not all(without_batch):
        raise InvalidInput("'data' mixes inputs that are one row with inputs that are a batch of rows; send batches")
    return inputs, any(without_batch)


def _row(tensor: Array) -> Array:
    return tensor.reshape(tensor.shape[1:]) if tensor.shape[:1] == (1,) else tensor
