"""The Open Inference Protocol V2 over HTTP, with Triton's binary tensor, classification, configuration and statistics
extensions.

    GET  /v2, /v2/health/live, /v2/health/ready, /v2/models, /v2/models/stats
    GET  /v2/models/{m}[/versions/{v}], …/ready, …/config, …/stats
    POST /v2/models/{m}[/versions/{v}]/infer

Turns a body into named tensors and an answer into a body; the data plane decides everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from modelport.api import classification, model_facts
from modelport.api.answers import answer, error_answer, to_json
from modelport.api.messages import Handler, HttpRequest, HttpResponse, HttpRoute
from modelport.api.sampling_parameters import read_sampling
from modelport.api.tensor_json import from_array, json_name, parse_object, shown, to_array
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.requests import InferResult
from modelport.errors import InvalidInput
from modelport.tensors import DATATYPES, Array, datatype_of, element_count, from_buffer, to_buffer

LENGTH_HEADER = "inference-header-content-length"
_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"


@dataclass(slots=True)
class WantedOutput:
    """How one output is to be answered."""

    binary: bool = False
    classes: int = 0
    """Above 0: the best so many classes in place of the tensor."""


@dataclass(slots=True)
class Wanted:
    """What the caller asked of the answer."""

    id: str | None
    outputs: dict[str, WantedOutput] | None
    """None for all outputs, each as ``default`` says."""
    default: WantedOutput
    timeout: Any = None
    """The parameters ``timeout`` and ``priority`` as they were given."""
    priority: Any = None
    parameters: dict[str, Any] = field(default_factory=dict)
    """All of the request's."""

    def of(self, name: str) -> WantedOutput:
        return self.default if self.outputs is None else self.outputs[name]


def routes(plane: DataPlane) -> list[HttpRoute]:
    """Every path of V2 that a gateway answers itself."""
    doors = V2(plane)
    table: list[tuple[str, str, Handler, bool]] = [
        ("POST", _MODEL + "/infer", doors.infer, False),
        ("GET", "/v2/?", doors.server, False),
        ("GET", "/v2/health/live", doors.live, True),
        ("GET", "/v2/health/ready", doors.ready, True),
        ("GET", "/v2/models", doors.models, False),
        ("GET", "/v2/models/stats", doors.all_statistics, False),
        ("GET", _MODEL, doors.metadata, False),
        ("GET", _MODEL + "/ready", doors.model_ready, False),
        ("GET", _MODEL + "/config", doors.config, False),
        ("GET", _MODEL + "/stats", doors.statistics, False),
    ]
    return [
        HttpRoute(method, re.compile(pattern), handler, error_answer, public)
        for method, pattern, handler, public in table
    ]


class V2:
    """The handlers, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    def _endpoint(self, request: HttpRequest, path: dict[str, str]) -> Endpoint:
        return self._plane.find(request.caller.project, path["model"], path.get("version"), only=request.caller.models)

    async def server(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer(model_facts.server_metadata())

    async def live(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer({"live": True})

    async def ready(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        ready = self._plane.ready
        return answer({"ready": ready}, 200 if ready else 503)

    async def models(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        found = self._plane.endpoints(request.caller.project, request.caller.models)
        return answer({"models": [each.route.name for each in found]})

    async def metadata(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer(model_facts.metadata(self._endpoint(request, path).route))

    async def model_ready(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        endpoint = self._endpoint(request, path)
        body = {"name": endpoint.route.name, "ready": endpoint.ready}
        return answer(body, 200 if endpoint.ready else 400)  # 400 is what Triton answers

    async def config(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer(model_facts.config(self._endpoint(request, path).route))

    async def statistics(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer(model_facts.statistics([self._endpoint(request, path)]))

    async def all_statistics(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        found = self._plane.endpoints(request.caller.project, request.caller.models)
        return answer(model_facts.statistics(found))

    async def infer(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        endpoint = self._endpoint(request, path)
        head, tail = _split(request)
        inputs, wanted = read_infer(head, tail, may_be_empty=not endpoint.route.signature.inputs)
        outputs = None if wanted.outputs is None else tuple(wanted.outputs)
        asked = request.infer_request(inputs, self._plane.default_timeout_s, outputs, wanted.timeout, wanted.priority)
        asked.sampling = read_sampling(endpoint.route, wanted.parameters)
        return write_infer(endpoint, wanted, await self._plane.infer(endpoint, asked))


def _split(request: HttpRequest) -> tuple[bytes, memoryview | None]:
    """The JSON part of a body, and its binary part (None without the header that announces one)."""
    text = request.headers.get(LENGTH_HEADER)
    if text is None:
        return request.body, None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidInput(f"header Inference-Header-Content-Length must be a number of bytes, not {shown(text)}")
    length = int(text)
    if length > len(request.body):
        raise InvalidInput(
            f"header Inference-Header-Content-Length says {length} bytes of JSON, the body has {len(request.body)}"
        )
    return request.body[:length], memoryview(request.body)[length:]


def read_infer(head: bytes, tail: memoryview | None, *, may_be_empty: bool = False) -> tuple[dict[str, Array], Wanted]:
    """Inputs, and what is wanted of the answer; raises InvalidInput."""
    body = parse_object(head)
    items = body.get("inputs")
    if type(items) is not list or not (items or may_be_empty):
        raise InvalidInput("'inputs' must be a list with at least one input")
    inputs: dict[str, Array] = {}
    position = 0
    for index, item in enumerate(items):
        name, tensor, used = _read_input(item, index, tail, position)
        position += used
        if name in inputs:
            raise InvalidInput(f"input {shown(name)} is given twice; give it once")
        inputs[name] = tensor
    if tail is not None and position != len(tail):
        left = len(tail) - position
        raise InvalidInput(f"{left} bytes are left after the last binary input; check each 'binary_data_size'")
    return inputs, _read_wanted(body)


def _read_input(item: Any, index: int, tail: memoryview | None, position: int) -> tuple[str, Array, int]:
    """Name and tensor of one input, and how many bytes of the binary part it took."""
    if type(item) is not dict:
        raise InvalidInput(f"inputs[{index}] must be an object, not {json_name(item)}")
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if type(name) is not str or not name:
        raise InvalidInput(f"inputs[{index}]: 'name' must be a non-empty string")
    if datatype not in DATATYPES:
        raise InvalidInput(f"input {shown(name)}: 'datatype' must be one of {', '.join(DATATYPES)}")
    if type(shape) is not list:
        raise InvalidInput(f"input {shown(name)}: 'shape' must be a list of integers")
    parameters = item.get("parameters")
    size = None
    if parameters is not None:
        check_tensor_parameters(parameters, f"input {shown(name)}")
        size = parameters.get("binary_data_size")
    if size is not None:
        return name, _read_binary(item, name, datatype, shape, size, tail, position), size
    if "data" not in item:
        raise InvalidInput(f"input {shown(name)} has neither 'data' nor the parameter 'binary_data_size'; give one")
    return name, _read_json(item["data"], name, datatype, shape), 0


def _read_binary(
    item: dict[str, Any], name: str, datatype: str, shape: list[Any], size: Any, tail: memoryview | None, position: int
) -> Array:
    if type(size) is not int or size < 0:
        raise InvalidInput(f"input {shown(name)}: 'binary_data_size' must be an integer >= 0")
    if "data" in item:
        raise InvalidInput(f"input {shown(name)} has both 'data' and 'binary_data_size'; give one of them")
    if tail is None:
        raise InvalidInput(f"input {shown(name)}: 'binary_data_size' needs the header Inference-Header-Content-Length")
    if size > len(tail) - position:
        raise InvalidInput(
            f"input {shown(name)}: 'binary_data_size' says {size} bytes, {len(tail) - position} are left in the body; "
            "make them agree"
        )
    return from_buffer(datatype, tuple(shape), tail[position : position + size], name[:80])


def _read_json(data: Any, name: str, datatype: str, shape: list[Any]) -> Array:
    count = element_count(shape, name[:80])
    if type(data) is not list:
        raise InvalidInput(f"input {shown(name)}: 'data' must be a list, not {json_name(data)}")
    tensor = to_array(data, datatype, name)
    if tensor.size != count:
        raise InvalidInput(f"input {shown(name)}: shape {str(shape)[:100]} is {count} elements, {tensor.size} given")
    if tensor.ndim > 1 and tensor.shape != tuple(shape):
        raise InvalidInput(
            f"input {shown(name)}: nested data of shape {list(tensor.shape)} does not fit shape {str(shape)[:100]}; "
            "nest it so, or send it flat"
        )
    return tensor.reshape(shape)


def check_tensor_parameters(parameters: Any, what: str) -> None:
    """Refuse the parameters of a tensor that cannot be honoured here."""
    if type(parameters) is not dict:
        raise InvalidInput(f"{what}: 'parameters' must be an object")
    for key in parameters:
        if key.startswith("shared_memory_"):
            raise InvalidInput(f"{what}: shared memory is not supported; send the tensor in the body")


def read_parameters(parameters: Any) -> dict[str, Any]:
    """The parameters of a request; none when there are none."""
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise InvalidInput(f"'parameters' must be an object, not {json_name(parameters)}")
    return parameters


def check_request_parameters(parameters: dict[str, Any]) -> None:
    """Refuse the parameters of a request that cannot be honoured here."""
    if parameters.get("sequence_id") not in (None, 0, ""):
        raise InvalidInput(
            "parameter 'sequence_id': sequences are not supported, every request stands alone; leave it out"
        )


def check_load_parameters(names: Iterable[str]) -> None:
    """Refuse what Triton lets a load replace: a version here is immutable."""
    for name in names:
        if name == "config" or name.startswith("file:"):
            raise InvalidInput(
                f"parameter {shown(name)}: a model is loaded as it was pushed; push another version, or "
                "deploy this one with other options"
            )


def _read_wanted(body: dict[str, Any]) -> Wanted:
    request_id = body.get("id")
    if request_id is not None and (type(request_id) is not str or len(request_id) > 1000):
        raise InvalidInput("'id' must be a string of at most 1000 characters")
    parameters = read_parameters(body.get("parameters"))
    check_request_parameters(parameters)
    urgency = {"timeout": parameters.get("timeout"), "priority": parameters.get("priority")}
    default = WantedOutput(binary=_flag(parameters, "binary_data_output", "the request", False))
    outputs = body.get("outputs")
    if outputs is None or outputs == []:
        return Wanted(request_id, None, default, parameters=parameters, **urgency)
    if type(outputs) is not list:
        raise InvalidInput(f"'outputs' must be a list, not {json_name(outputs)}")
    found: dict[str, WantedOutput] = {}
    for index, item in enumerate(outputs):
        name, output = _read_output(item, index, default.binary)
        if name in found:
            raise InvalidInput(f"output {shown(name)} is asked for twice; ask for it once")
        found[name] = output
    return Wanted(request_id, found, default, parameters=parameters, **urgency)


def _read_output(item: Any, index: int, binary: bool) -> tuple[str, WantedOutput]:
    if type(item) is not dict or type(item.get("name")) is not str:
        raise InvalidInput(f"outputs[{index}] must be an object with a 'name'")
    name, parameters = item["name"], item.get("parameters")
    if parameters is None:
        return name, WantedOutput(binary)
    what = f"output {shown(name)}"
    check_tensor_parameters(parameters, what)
    return name, WantedOutput(
        binary=_flag(parameters, "binary_data", what, binary),
        classes=class_count(parameters.get("classification"), what),
    )


def class_count(value: Any, what: str) -> int:
    """The parameter ``classification`` of an output; 0 when it was not given."""
    if value is None:
        return 0
    if type(value) is not int or not 0 < value < 1 << 31:
        raise InvalidInput(f"{what}: 'classification' must be an integer above 0")
    return value


def _flag(parameters: dict[str, Any], key: str, what: str, default: bool) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        raise InvalidInput(f"{what}: parameter {key!r} must be true or false, not {json_name(value)}")
    return value


def answered_tensors(endpoint: Endpoint, wanted: Wanted, result: InferResult) -> list[tuple[str, WantedOutput, Array]]:
    """The outputs in the order of the answer, classified where that was asked."""
    route = endpoint.route
    found = []
    for name in wanted.outputs if wanted.outputs is not None else result.outputs:
        tensor, how = result.outputs.get(name), wanted.of(name)
        if tensor is None:  # a part of a stream need not hold every output
            continue
        if how.classes:
            tensor = classification.as_bytes(
                tensor, how.classes, route.labels.get(name), route.signature.has_batch_dimension, name
            )
        found.append((name, how, tensor))
    return found


def write_infer(endpoint: Endpoint, wanted: Wanted, result: InferResult) -> HttpResponse:
    """The answer: JSON, followed by the outputs that were wanted in binary. Raises InvalidInput (see from_array)."""
    outputs: list[dict[str, Any]] = []
    raws: list[bytes | memoryview] = []
    for name, how, tensor in answered_tensors(endpoint, wanted, result):
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(tensor.dtype), "shape": tensor.shape}
        if how.binary:
            raw = to_buffer(tensor)
            output["parameters"] = {"binary_data_size": len(raw)}
            raws.append(raw)
        else:
            output["data"] = from_array(tensor.reshape(-1), name)
        outputs.append(output)
    head: dict[str, Any] = {"model_name": endpoint.route.name, "model_version": str(endpoint.route.version)}
    if wanted.id is not None:
        head["id"] = wanted.id
    head["outputs"] = outputs
    text = to_json(head)
    if not raws:
        return HttpResponse(body=text)
    return HttpResponse(
        body=[text, *raws],
        content_type="application/octet-stream",
        headers=[("Inference-Header-Content-Length", str(len(text)))],
    )
