"""V2 over gRPC: a real server on a real port, called with tritonclient's own messages in the same process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from modelport.api.inference_grpc import PUBLIC, serve_grpc
from modelport.api.messages import Caller
from modelport.api.proto import service
from modelport.engine.dataplane import Endpoint
from modelport.engine.requests import InferRequest, InferResult
from modelport.errors import ModelRejectedInput, NotAuthenticated
from tests.api.plane import LocalPlane, zoo

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def plane() -> LocalPlane:
    return zoo()


REVOKED = {"Bearer wrong"}


def authenticate(metadata: Mapping[str, str]) -> Caller:
    if metadata.get("authorization") in REVOKED:
        raise NotAuthenticated("the key is unknown")
    return Caller()


async def repository(caller: Caller, action: str, model: str | None) -> list[dict[str, Any]]:
    assert (action, model) in (("index", None), ("load", "mlp"), ("unload", "mlp"))
    return [{"name": "mlp", "version": "1", "state": "READY"}, {"name": "old", "version": "1", "state": "UNAVAILABLE"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(plane: LocalPlane, free_port: int) -> AsyncIterator[Any]:
    address = f"127.0.0.1:{free_port}"
    server = await serve_grpc(
        plane, authenticate, address, credentials=None, max_message_bytes=1 << 20, repository=repository
    )
    async with grpc.aio.insecure_channel(address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
    await server.stop(None)


def numbers(name: str = "input", datatype: str = "FP32", shape: tuple[int, ...] = (1, 3)) -> Any:
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)


async def test_raw_contents(stub: Any) -> None:
    raw = np.array([1, 2, 3], np.float32).tobytes()
    request = pb.ModelInferRequest(model_name="identity-fp32", id="7", inputs=[numbers()], raw_input_contents=[raw])
    response = await stub.ModelInfer(request)
    assert (response.model_name, response.model_version, response.id) == ("identity-fp32", "1", "7")
    assert (response.outputs[0].name, response.outputs[0].datatype, list(response.outputs[0].shape)) == (
        "output",
        "FP32",
        [1, 3],
    )
    assert list(response.raw_output_contents) == [raw]


@pytest.mark.parametrize(
    ("datatype", "field", "values", "dtype"),
    [
        ("BOOL", "bool_contents", [True, False, True], np.bool_),
        ("INT8", "int_contents", [-128, 0, 127], np.int8),
        ("INT16", "int_contents", [-32768, 0, 32767], np.int16),
        ("INT32", "int_contents", [-(2**31), 0, 2**31 - 1], np.int32),
        ("INT64", "int64_contents", [-(2**63), 0, 2**63 - 1], np.int64),
        ("UINT8", "uint_contents", [0, 1, 255], np.uint8),
        ("UINT16", "uint_contents", [0, 1, 65535], np.uint16),
        ("UINT32", "uint_contents", [0, 1, 2**32 - 1], np.uint32),
        ("UINT64", "uint64_contents", [0, 1, 2**64 - 1], np.uint64),
        ("FP32", "fp32_contents", [0.5, float("inf"), -1], np.float32),
        ("FP64", "fp64_contents", [0.1, -1e300, 2], np.float64),
    ],
)
async def test_typed_contents(stub: Any, datatype: str, field: str, values: list[Any], dtype: Any) -> None:
    tensor = numbers(datatype=datatype)
    getattr(tensor.contents, field).extend(values)
    response = await stub.ModelInfer(pb.ModelInferRequest(model_name=f"identity-{datatype.lower()}", inputs=[tensor]))
    assert response.raw_output_contents[0] == np.array(values, dtype).tobytes()


async def test_typed_strings(stub: Any) -> None:
    tensor = numbers(datatype="BYTES")
    tensor.contents.bytes_contents.extend([b"a", b"", b"ccc"])
    response = await stub.ModelInfer(pb.ModelInferRequest(model_name="identity-bytes", inputs=[tensor]))
    assert response.raw_output_contents[0] == b"\1\0\0\0a\0\0\0\0\3\0\0\0ccc"


async def test_classification_and_a_choice_of_outputs(stub: Any) -> None:
    request = pb.ModelInferRequest(
        model_name="animals",
        inputs=[numbers(shape=(1, 2))],
        raw_input_contents=[np.array([1, 0], np.float32).tobytes()],
    )
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
    response = await stub.ModelInfer(request)
    assert [output.name for output in response.outputs] == ["probabilities"]
    assert response.raw_output_contents[0].endswith(b":0:ant")


async def test_facts(stub: Any, plane: LocalPlane) -> None:
    assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
    assert (await stub.ModelReady(pb.ModelReadyRequest(name="mlp"))).ready
    assert not (await stub.ModelReady(pb.ModelReadyRequest(name="none"))).ready
    assert (await stub.ServerMetadata(pb.ServerMetadataRequest())).name == "modelport"
    metadata = await stub.ModelMetadata(pb.ModelMetadataRequest(name="mlp", version="1"))
    assert list(metadata.inputs[0].shape) == [-1, 4]
    config = (await stub.ModelConfig(pb.ModelConfigRequest(name="mlp"))).config
    assert (config.name, config.max_batch_size, config.backend) == ("mlp", 32, "onnx")
    assert list(config.input[0].dims) == [4]
    assert list(config.version_policy.specific.versions) == [1]
    statistics = (await stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats
    assert [model.name for model in statistics] == sorted(plane.by_name)


async def test_repository(stub: Any) -> None:
    index = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
    assert [model.name for model in index.models] == ["mlp", "old"]
    index = await stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True))
    assert [model.name for model in index.models] == ["mlp"]
    await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="mlp"))
    await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="mlp"))


async def test_the_request_id_comes_back_and_deadlines_travel(stub: Any, plane: LocalPlane) -> None:
    request = pb.ModelInferRequest(
        model_name="scalar", inputs=[numbers(shape=())], raw_input_contents=[np.float32(1).tobytes()]
    )
    call = stub.ModelInfer(request, metadata=(("x-request-id", "abc"),), timeout=7)
    await call
    assert dict(await call.trailing_metadata())["x-request-id"] == "abc"
    seen = plane.seen[-1]
    assert (seen.request_id, seen.traced) == ("abc", True)
    request.parameters["timeout"].int64_param = 1
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ModelInfer(request, metadata=(("x-request-id", "d"),))
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert dict(raised.value.trailing_metadata())["x-request-id"] == "d"


async def test_keys(stub: Any) -> None:
    wrong = (("authorization", "Bearer wrong"),)
    for method in service().methods:
        if method.client_streaming:
            continue
        call = getattr(stub, method.name)(getattr(pb, method.input_type.name)(), metadata=wrong)
        if method.name in PUBLIC:
            await call
        else:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    stream = stub.ModelStreamInfer(iter([pb.ModelInferRequest()]), metadata=wrong)
    with pytest.raises(grpc.aio.AioRpcError):
        _ = [answer async for answer in stream]


async def test_a_stream_survives_an_error(stub: Any) -> None:
    raw = np.array([1, 2, 3], np.float32).tobytes()
    good = pb.ModelInferRequest(model_name="identity-fp32", inputs=[numbers()], raw_input_contents=[raw])
    bad = pb.ModelInferRequest(model_name="none")
    answers = [answer async for answer in stub.ModelStreamInfer(iter([good, bad, good]))]
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert answers[2].infer_response.raw_output_contents[0] == raw


async def test_an_error_of_a_stream_names_its_request_and_its_code(stub: Any) -> None:
    bad = [pb.ModelInferRequest(model_name="none", id="first"), pb.ModelInferRequest(model_name="scalar", id="second")]
    answers = [answer.infer_response async for answer in stub.ModelStreamInfer(iter(bad))]
    codes = [answer.parameters["x-modelport-error"].string_param for answer in answers]
    assert [(answer.id, code) for answer, code in zip(answers, codes, strict=True)] == [
        ("first", "not_found"),
        ("second", "invalid_input"),
    ]


async def test_a_stream_ends_when_its_key_is_revoked(stub: Any, plane: LocalPlane) -> None:
    async def requests() -> AsyncIterator[Any]:
        yield pb.ModelInferRequest(model_name="none")
        await first.wait()
        REVOKED.add("Bearer once")
        yield pb.ModelInferRequest(model_name="none")

    first = asyncio.Event()
    call = stub.ModelStreamInfer(requests(), metadata=(("authorization", "Bearer once"),))
    answers = []
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for answer in call:
            answers.append(answer)
            first.set()
    assert len(answers) == 1
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("letter", ["a", "\N{EURO SIGN}"])
async def test_a_long_message_arrives_cut_with_its_status_and_code(
    stub: Any, plane: LocalPlane, monkeypatch: pytest.MonkeyPatch, letter: str
) -> None:
    async def refuse(endpoint: Endpoint, request: InferRequest) -> InferResult:
        raise ModelRejectedInput(letter * 50_000)

    monkeypatch.setattr(plane, "infer", refuse)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ModelInfer(pb.ModelInferRequest(model_name="scalar"))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(raised.value.trailing_metadata())["x-modelport-error"] == "model_rejected_input"
    details = raised.value.details() or ""
    assert len(details) > 600 and set(details) == {letter}


async def test_a_client_that_goes_away_is_cancelled_in_the_plane(
    stub: Any, plane: LocalPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait(endpoint: Endpoint, request: InferRequest) -> InferResult:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise
        raise AssertionError

    monkeypatch.setattr(plane, "infer", wait)
    call = stub.ModelInfer(pb.ModelInferRequest(model_name="scalar"))
    waiting = asyncio.ensure_future(call)
    await asyncio.wait_for(began.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.wait_for(ended.wait(), 10)


async def test_an_unforeseen_failure_says_nothing_of_itself(
    stub: Any, plane: LocalPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(endpoint: Endpoint, request: InferRequest) -> InferResult:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(plane, "infer", fail)
    request = pb.ModelInferRequest(model_name="scalar")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub.ModelInfer(request)
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    (streamed,) = [answer async for answer in stub.ModelStreamInfer(iter([request]))]
    for message in (raised.value.details() or "", streamed.error_message):
        assert re.fullmatch("internal error; the server's log has it under request id [0-9a-f]{16}", message)
        assert "secret" not in message
