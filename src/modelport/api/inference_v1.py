"""The V1 protocol over HTTP, as TensorFlow Serving and KServe speak it.

    GET  /v1/models                                           names, and cards as OpenAI's and Anthropic's clients read
    GET  /v1/models/{m}[/versions/{v}|/labels/{alias}]        status, and the card
    GET  …/metadata                                           the signature, in TensorFlow's terms
    POST …:predict                                            ``instances`` (rows) or ``inputs`` (columns)

``?top_k=K`` and ``?labels=true`` answer a classifier's scores as ``[{"label", "score"}, …]``, best first.
"""

from __future__ import annotations

import re
from typing import Any

from modelport.api import rows
from modelport.api.answers import answer, error_answer
from modelport.api.messages import Handler, HttpRequest, HttpResponse, HttpRoute
from modelport.api.model_facts import card
from modelport.api.openai.errors import error_answer as openai_error
from modelport.api.openai.reading import endpoint_of
from modelport.api.tensor_json import parse_object, shown
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.routing import Route
from modelport.errors import InvalidInput, NotFound
from modelport.tensors import Array, Signature, TensorSpec

_MODEL = r"/v1/models/(?P<model>[^/:]+)(?:/versions/(?P<version>[^/:]+)|/labels/(?P<alias>[^/:]+))?"
_SIGNATURE = "serving_default"
_TF_DTYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BF16": "DT_BFLOAT16",
    "BYTES": "DT_STRING",
}


def routes(plane: DataPlane) -> list[HttpRoute]:
    """Every path of V1."""
    doors = V1(plane)
    table: list[tuple[str, str, Handler]] = [
        ("POST", _MODEL + ":predict", doors.predict),
        ("POST", _MODEL + ":(?P<verb>[^/:]+)", doors.other_verb),
        ("GET", _MODEL, doors.status),
        ("GET", _MODEL + "/metadata", doors.metadata),
    ]
    shared = [  # V1's clients go by the status, those of OpenAI and Anthropic want to be told
        HttpRoute("GET", re.compile("/v1/models"), doors.models, openai_error),
        HttpRoute("GET", re.compile("/v1/models/(?P<model>[^/:]+)"), doors.one, openai_error),
    ]
    own = [HttpRoute(method, re.compile(pattern), handler, error_answer) for method, pattern, handler in table]
    return shared + own


class V1:
    """The handlers, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def _endpoint(self, request: HttpRequest, path: dict[str, str]) -> Endpoint:
        caller = request.caller
        return self._plane.find(caller.project, path["model"], path.get("version"), path.get("alias"), caller.models)

    async def models(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        found = self._plane.endpoints(request.caller.project, request.caller.models)
        routes = [endpoint.route for endpoint in found]
        names = [route.name for route in routes]
        page = {"has_more": False, "first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return answer({"models": names, "object": "list", "data": [card(route) for route in routes], **page})

    async def one(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return _status(endpoint_of(self._plane, request, path["model"]))

    async def status(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return _status(self._endpoint(request, path))

    async def metadata(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer(_metadata(self._endpoint(request, path).route))

    async def other_verb(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        self._endpoint(request, path)
        verb = path["verb"]
        if verb in ("classify", "regress", "explain"):
            raise InvalidInput(f"':{verb}' is not supported here; use ':predict' (with ?top_k=K for a classifier)")
        raise NotFound(f"there is no verb {shown(verb)}; use ':predict'")

    async def predict(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        endpoint = self._endpoint(request, path)
        route = endpoint.route
        classes = rows.class_outputs(route, request.query)
        by_row, inputs = read_predict(route.signature, request.body)
        asked = request.infer_request(inputs, self._plane.default_timeout_s, classes and classes[1])
        result = await self._plane.infer(endpoint, asked)
        if by_row:
            rows.check_rows(inputs, result.outputs)
        values = rows.write_all(route, result.outputs, classes and classes[0])
        return answer({"predictions": rows.per_row(values)} if by_row else {"outputs": rows.bare(values)})


def _status(endpoint: Endpoint) -> HttpResponse:
    version = {
        "version": str(endpoint.route.version),
        "state": "AVAILABLE" if endpoint.ready else "LOADING",
        "status": {"error_code": "OK", "error_message": ""},
    }
    status = {"name": endpoint.route.name, "ready": endpoint.ready, "model_version_status": [version]}
    return answer(status | card(endpoint.route))


def read_predict(signature: Signature, body: bytes) -> tuple[bool, dict[str, Array]]:
    """Whether rows were given (``instances``), and the tensors; raises InvalidInput."""
    document = parse_object(body)
    name = document.get("signature_name", _SIGNATURE)
    if name not in (_SIGNATURE, ""):
        raise InvalidInput(f"'signature_name' {shown(name)} is unknown; there is {_SIGNATURE!r} only")
    if ("instances" in document) == ("inputs" in document):
        raise InvalidInput("the body must have either 'instances' (rows) or 'inputs' (columns)")
    if "inputs" in document:
        return False, rows.read_columns(signature, document["inputs"], "inputs")
    return True, rows.read_instances(signature, document["instances"])


def _metadata(route: Route) -> dict[str, Any]:
    definition = {
        "inputs": {spec.name: _tensor_info(spec) for spec in route.signature.inputs},
        "outputs": {spec.name: _tensor_info(spec) for spec in route.signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": route.name, "signature_name": "", "version": str(route.version)},
        "metadata": {"signature_def": {"signature_def": {_SIGNATURE: definition}}},
    }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    dims = [{"size": str(dim), "name": ""} for dim in spec.shape]
    return {
        "dtype": _TF_DTYPES[spec.datatype],
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": spec.name,
    }
