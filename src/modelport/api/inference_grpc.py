"""The Open Inference Protocol V2 over gRPC (``inference.GRPCInferenceService``), with Triton's repository,
configuration, statistics and stream.

Turns messages into named tensors and back; the data plane decides everything else. Raw contents become views, answers
always go out as raw contents. The only file that knows grpc.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from modelport.api import inference_v2, model_facts
from modelport.api.inference_v2 import Wanted, WantedOutput
from modelport.api.messages import Caller
from modelport.api.proto import SERVICE, message, service
from modelport.api.sampling_parameters import read_sampling
from modelport.api.tensor_json import shown
from modelport.api.urgency import deadline, priority
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.requests import InferRequest, InferResult, request_id_of
from modelport.errors import CODE_HEADER, InvalidInput, ModelportError, NotFound, Overloaded, Unavailable
from modelport.tensors import DATATYPES, Array, datatype_of, dtype_of, element_count, from_buffer, to_buffer

if TYPE_CHECKING:
    from modelport.api.tracing import Tracing

Authenticate = Callable[[Mapping[str, str]], Caller]
"""Gets the call's metadata; raises NotAuthenticated or NotAllowed."""
Repository = Callable[[Caller, str, str | None], Awaitable[list[dict[str, Any]]]]
"""Gets the caller, ``index``, ``load`` or ``unload``, and the model. An index has name, version, state, reason."""

#: Methods that answer without a key.
PUBLIC = {"ServerLive", "ServerReady"}

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_FINAL = "triton_final_response"
_WANTS_EMPTY_FINAL = "triton_enable_empty_final_response"
_DETAILS = 2000
"""Bytes of a message: a client drops metadata beyond 8 kB, and a byte may take three there."""

_log = logging.getLogger(__name__)
_InferResponse = message("ModelInferResponse")
_StreamResponse = message("ModelStreamInferResponse")


async def serve_grpc(
    plane: DataPlane,
    authenticate: Authenticate,
    address: str,
    *,
    credentials: grpc.ServerCredentials | None,
    max_message_bytes: int,
    repository: Repository | None = None,
    tracing: Tracing | None = None,
) -> grpc.aio.Server:
    """Listen on ``host:port``, sharing the port with other processes; returns the started server.

    Raises Unavailable when the address cannot be had.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", -1),
        ]
    )
    handlers = _Service(plane, authenticate, repository).handlers(tracing)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    try:
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)
    except RuntimeError:
        raise Unavailable(
            f"gRPC cannot listen on {address}: another program may hold the port; choose one by --grpc-port"
        ) from None
    await server.start()
    return server


@dataclass(slots=True)
class _Call:
    """What is known of a call besides its message."""

    caller: Caller
    metadata: dict[str, str]
    request_id: str
    traced: bool
    ends: float | None
    """When the client gives up, on time.monotonic()'s clock, if it has set a deadline."""


class _Service:
    """The methods, by their name in the protocol."""

    def __init__(self, plane: DataPlane, authenticate: Authenticate, repository: Repository | None) -> None:
        self._plane = plane
        self._authenticate = authenticate
        self._repository = repository

    def handlers(self, tracing: Tracing | None) -> dict[str, Any]:
        """What grpc wants to know of every method. Messages are parsed here, so that a broken one gets our error."""
        found = {}
        for method in service().methods:
            request_class = message(method.input_type.name)
            if method.client_streaming:
                stream = partial(self._stream, request_class)
                if tracing is not None:
                    stream = partial(_traced_stream, tracing, method.name, stream)
                found[method.name] = grpc.stream_stream_rpc_method_handler(stream)
            else:
                run = getattr(self, method.name)
                answer = partial(self._answer, run, request_class, method.name in PUBLIC)
                if tracing is not None and method.name not in PUBLIC:
                    answer = partial(_traced, tracing, method.name, answer)
                found[method.name] = grpc.unary_unary_rpc_method_handler(answer)
        return found

    async def _answer(
        self, run: Any, request_class: Any, public: bool, raw: bytes, context: grpc.aio.ServicerContext
    ) -> bytes:
        try:
            call = self._receive(context, public)
            response = await run(parse(request_class, raw), call)
            return response.SerializeToString()  # type: ignore[no-any-return]
        except ModelportError as error:
            failure = error
        except Exception:
            failure = _unforeseen(context)
        return await _abort(context, failure)

    async def _stream(
        self, request_class: Any, raws: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Each request is answered, in one part or several, before the next is read; an error is an answer and leaves
        the stream open. Hanging up closes the generators on the way down, which cancels the rest in the replica."""
        try:
            call = self._receive(context, public=False)
            async for raw in raws:
                self._authenticate(call.metadata)  # a key that was revoked meanwhile ends the stream
                async with aclosing(self._answers(request_class, raw, call, context)) as answers:
                    async for answer in answers:
                        yield answer.SerializeToString()
        except ModelportError as error:
            await _abort(context, error)

    async def _answers(
        self, request_class: Any, raw: bytes, call: _Call, context: grpc.aio.ServicerContext
    ) -> AsyncGenerator[Any]:
        """The answers to one message of a stream; the last may be an error, which tells the request by its id."""
        request = None
        try:
            request = parse(request_class, raw)
            async with aclosing(self._parts(request, call)) as parts:
                async for part in parts:
                    yield _StreamResponse(infer_response=part)
            return
        except ModelportError as error:
            failure = error
        except Exception:
            failure = _unforeseen(context)
        answer = _StreamResponse(error_message=failure.message)
        answer.infer_response.id = "" if request is None else request.id
        answer.infer_response.parameters[CODE_HEADER].string_param = failure.code
        yield answer

    async def _parts(self, request: Any, call: _Call) -> AsyncGenerator[Any]:
        """The answers to one request of a stream; ``triton_final_response`` says which is the last.

        A model that gives parts ends with an answer without outputs, if the caller has asked for it.
        """
        endpoint, wanted, asked = self._read(request, call)
        streams = endpoint.route.streams
        async with aclosing(self._plane.stream(endpoint, asked)) as parts:
            async for part in parts:
                response = _write(endpoint, request.id, wanted, part)
                response.parameters[_FINAL].bool_param = not streams
                yield response
        if streams and request.parameters[_WANTS_EMPTY_FINAL].bool_param:
            response = _write(endpoint, request.id, wanted, None)
            response.parameters[_FINAL].bool_param = True
            yield response

    def _receive(self, context: grpc.aio.ServicerContext, public: bool) -> _Call:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        request_id, is_callers = request_id_of(metadata.get("x-request-id"))
        context.set_trailing_metadata((*(context.trailing_metadata() or ()), ("x-request-id", request_id)))
        caller = Caller() if public else self._authenticate(metadata)
        remaining_s = context.time_remaining()
        ends = None if remaining_s is None else time.monotonic() + remaining_s
        return _Call(caller, metadata, request_id, is_callers, ends)

    def _find(self, name: str, version: str, call: _Call) -> Endpoint:
        return self._plane.find(call.caller.project, name, version or None, only=call.caller.models)

    async def ServerLive(self, request: Any, call: _Call) -> Any:
        return message("ServerLiveResponse")(live=True)

    async def ServerReady(self, request: Any, call: _Call) -> Any:
        return message("ServerReadyResponse")(ready=self._plane.ready)

    async def ModelReady(self, request: Any, call: _Call) -> Any:
        try:
            ready = self._find(request.name, request.version, call).ready
        except NotFound:  # as Triton has it: a model that is not there is not ready
            ready = False
        return message("ModelReadyResponse")(ready=ready)

    async def ServerMetadata(self, request: Any, call: _Call) -> Any:
        return _from_dict("ServerMetadataResponse", model_facts.server_metadata())

    async def ModelMetadata(self, request: Any, call: _Call) -> Any:
        endpoint = self._find(request.name, request.version, call)
        return _from_dict("ModelMetadataResponse", model_facts.metadata(endpoint.route))

    async def ModelConfig(self, request: Any, call: _Call) -> Any:
        endpoint = self._find(request.name, request.version, call)
        return _from_dict("ModelConfigResponse", {"config": model_facts.config(endpoint.route)})

    async def ModelStatistics(self, request: Any, call: _Call) -> Any:
        if request.name:
            endpoints = [self._find(request.name, request.version, call)]
        else:
            endpoints = self._plane.endpoints(call.caller.project, call.caller.models)
        return _from_dict("ModelStatisticsResponse", model_facts.statistics(endpoints))

    async def RepositoryIndex(self, request: Any, call: _Call) -> Any:
        models = await self._manage(call, "index", None)
        if request.ready:
            models = [model for model in models if model.get("state") == "READY"]
        return _from_dict("RepositoryIndexResponse", {"models": models})

    async def RepositoryModelLoad(self, request: Any, call: _Call) -> Any:
        inference_v2.check_load_parameters(request.parameters)
        await self._manage(call, "load", request.model_name)
        return message("RepositoryModelLoadResponse")()

    async def RepositoryModelUnload(self, request: Any, call: _Call) -> Any:
        await self._manage(call, "unload", request.model_name)
        return message("RepositoryModelUnloadResponse")()

    async def _manage(self, call: _Call, action: str, model: str | None) -> list[dict[str, Any]]:
        if self._repository is None:
            raise Unavailable("this server has no model repository; `modelport up` starts one that has")
        return await self._repository(call.caller, action, model)

    async def ModelInfer(self, request: Any, call: _Call) -> Any:
        endpoint, wanted, asked = self._read(request, call)
        return _write(endpoint, request.id, wanted, await self._plane.infer(endpoint, asked))

    def _read(self, request: Any, call: _Call) -> tuple[Endpoint, Wanted, InferRequest]:
        endpoint = self._find(request.model_name, request.model_version, call)
        wanted = read_wanted(request)
        return (
            endpoint,
            wanted,
            InferRequest(
                inputs=read_inputs(request),
                request_id=call.request_id,
                deadline=self._deadline(call, wanted.timeout),
                caller=call.caller.key_id or "",
                priority=priority(call.metadata, wanted.priority),
                outputs=None if wanted.outputs is None else tuple(wanted.outputs),
                traced=call.traced,
                sampling=read_sampling(endpoint.route, wanted.parameters),
            ),
        )

    def _deadline(self, call: _Call, timeout_us: Any) -> float:
        if call.ends is None:
            return deadline(call.metadata, self._plane.default_timeout_s, timeout_us)
        return min(call.ends, deadline(call.metadata, math.inf, timeout_us))


async def _traced(tracing: Tracing, method: str, run: Any, raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
    span = _begin(tracing, method, context)
    try:
        return await run(raw, context)  # type: ignore[no-any-return]
    finally:
        _end(span, context)


async def _traced_stream(
    tracing: Tracing, method: str, run: Any, raws: AsyncIterator[bytes], context: grpc.aio.ServicerContext
) -> AsyncIterator[bytes]:
    span = _begin(tracing, method, context)
    try:
        async with aclosing(run(raws, context)) as answers:
            async for answer in answers:
                yield answer
    finally:
        _end(span, context)


def _begin(tracing: Tracing, method: str, context: grpc.aio.ServicerContext) -> Any:
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    span = tracing.begin(f"{SERVICE}/{method}", metadata)
    span.set_attributes({"rpc.system": "grpc", "rpc.service": SERVICE, "rpc.method": method})
    context.set_trailing_metadata((("traceparent", tracing.traceparent(span)),))
    return span


def _end(span: Any, context: grpc.aio.ServicerContext) -> None:
    code = context.code() or 0
    span.set_attribute("rpc.grpc.status_code", code.value[0] if isinstance(code, grpc.StatusCode) else int(code))
    request_id = dict(context.trailing_metadata() or ()).get("x-request-id")
    if request_id is not None:
        span.set_attribute("modelport.request_id", request_id)
    span.end()


def _write(endpoint: Endpoint, request_id: str, wanted: Wanted, result: InferResult | None) -> Any:
    """A ModelInferResponse; without a result, one without outputs."""
    route = endpoint.route
    response = _InferResponse(model_name=route.name, model_version=str(route.version), id=request_id)
    if result is not None:
        for name, _, tensor in inference_v2.answered_tensors(endpoint, wanted, result):
            response.outputs.add(name=name, datatype=datatype_of(tensor.dtype), shape=tensor.shape)
            response.raw_output_contents.append(bytes(to_buffer(tensor)))
    return response


def _unforeseen(context: grpc.aio.ServicerContext) -> ModelportError:
    """Log the exception at hand; what the caller may know of it."""
    request_id = dict(context.trailing_metadata() or ()).get("x-request-id")
    _log.exception("gRPC request %s failed", request_id)
    return ModelportError(f"internal error; the server's log has it under request id {request_id}")


async def _abort(context: grpc.aio.ServicerContext, error: ModelportError) -> bytes:
    """End the call with the error's status, code and message; does not return."""
    metadata = (*(context.trailing_metadata() or ()), (CODE_HEADER, error.code))
    if isinstance(error, Overloaded):
        metadata += (("retry-after", str(error.retry_after)),)
    details = error.message.encode()[:_DETAILS].decode(errors="ignore")
    await context.abort(grpc.StatusCode[error.grpc_status], details, metadata)
    return b""


def parse(request_class: Any, raw: bytes) -> Any:
    """A message from its bytes; raises InvalidInput."""
    try:
        return request_class.FromString(raw)
    except DecodeError:
        name = request_class.DESCRIPTOR.name
        raise InvalidInput(f"the message is not a {name} of the protocol; build the client from its .proto") from None


def _from_dict(name: str, fields: dict[str, Any]) -> Any:
    return json_format.ParseDict(fields, message(name)())


def _parameters(items: Any) -> dict[str, Any]:
    """A map of InferParameter as plain values; one without a value is None."""
    found: dict[str, Any] = {}
    for key, parameter in items.items():
        kind = parameter.WhichOneof("parameter_choice")
        found[key] = None if kind is None else getattr(parameter, kind)
    return found


def read_wanted(request: Any) -> Wanted:
    """What is wanted of the answer; raises InvalidInput."""
    parameters = _parameters(request.parameters)
    inference_v2.check_request_parameters(parameters)
    urgency = {"timeout": parameters.get("timeout"), "priority": parameters.get("priority")}
    if not request.outputs:
        return Wanted(request.id, None, WantedOutput(), parameters=parameters, **urgency)
    outputs: dict[str, WantedOutput] = {}
    for item in request.outputs:
        if item.name in outputs:
            raise InvalidInput(f"output {shown(item.name)} is asked for twice; ask for it once")
        what = f"output {shown(item.name)}"
        found = _parameters(item.parameters)
        inference_v2.check_tensor_parameters(found, what)
        outputs[item.name] = WantedOutput(classes=inference_v2.class_count(found.get("classification"), what))
    return Wanted(request.id, outputs, WantedOutput(), parameters=parameters, **urgency)


def read_inputs(request: Any) -> dict[str, Array]:
    """The tensors of a ModelInferRequest, raw ones as read-only views; raises InvalidInput."""
    raws = request.raw_input_contents
    if raws and len(raws) != len(request.inputs):
        raise InvalidInput(f"{len(raws)} raw_input_contents for {len(request.inputs)} inputs: each input needs one")
    inputs: dict[str, Array] = {}
    for index, item in enumerate(request.inputs):
        name, datatype = item.name, item.datatype
        if not name:
            raise InvalidInput(f"inputs[{index}]: 'name' must be a non-empty string")
        if name in inputs:
            raise InvalidInput(f"input {shown(name)} is given twice; give it once")
        if datatype not in DATATYPES:
            raise InvalidInput(f"input {shown(name)}: 'datatype' must be one of {', '.join(DATATYPES)}")
        if item.parameters:
            inference_v2.check_tensor_parameters(_parameters(item.parameters), f"input {shown(name)}")
        shape = tuple(item.shape)
        filled = [field.name for field, _ in item.contents.ListFields()] if item.HasField("contents") else []
        if raws:
            if filled:
                raise InvalidInput(f"input {shown(name)} has both contents and raw_input_contents; give one of them")
            inputs[name] = from_buffer(datatype, shape, raws[index], name[:80])
        else:
            inputs[name] = _read_typed(item.contents, filled, datatype, shape, name)
    return inputs


def _read_typed(contents: Any, filled: list[str], datatype: str, shape: tuple[int, ...], name: str) -> Array:
    count = element_count(shape, name[:80])
    field = _CONTENTS.get(datatype)
    if field is None:
        raise InvalidInput(f"input {shown(name)}: {datatype} has no typed contents; send raw_input_contents")
    if filled not in ([], [field]):
        raise InvalidInput(f"input {shown(name)}: {datatype} belongs into {field}, not {', '.join(filled)}")
    values = getattr(contents, field)
    if len(values) != count:
        raise InvalidInput(f"input {shown(name)}: shape {list(shape)} is {count} elements, {len(values)} given")
    dtype = dtype_of(datatype)
    if datatype == "BYTES":
        strings = np.empty(count, dtype=object)
        strings[:] = list(values)
        return strings.reshape(shape)
    tensor = np.array(values, dtype=np.int64 if field in ("int_contents", "uint_contents") else dtype)
    if tensor.dtype != dtype:
        limits = np.iinfo(dtype)
        outside = (tensor < limits.min) | (tensor > limits.max)
        if outside.any():
            raise InvalidInput(
                f"input {shown(name)}: element {int(outside.argmax())} is outside {datatype}'s range "
                f"{limits.min} to {limits.max}"
            )
        tensor = tensor.astype(dtype)
    return tensor.reshape(shape)


def tls_credentials(key: bytes, chain: bytes) -> grpc.ServerCredentials:
    """Of a PEM private key and certificate chain."""
    return grpc.ssl_server_credentials([(key, chain)])
