"""Every row of the gRPC table of bad input, over a real port: refused in clear words, the next good call answered."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from modelport.api.inference_grpc import serve_grpc
from modelport.api.messages import Caller
from tests.api.bad_input_grpc import GOOD, GrpcRow, grpc_rows
from tests.api.plane import zoo

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS = grpc_rows()
LIMIT = 1 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(free_port: int) -> AsyncIterator[grpc.aio.Channel]:
    address = f"127.0.0.1:{free_port}"
    server = await serve_grpc(zoo(), lambda metadata: Caller(), address, credentials=None, max_message_bytes=LIMIT)
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel
    await server.stop(None)


async def call(channel: grpc.aio.Channel, row: GrpcRow) -> grpc.aio.AioRpcError | None:
    """The error of a row's call; None when it was answered."""
    method = channel.unary_unary(f"/inference.GRPCInferenceService/{row.method}")
    try:
        await method(row.request, metadata=row.metadata, timeout=30)
    except grpc.aio.AioRpcError as error:
        return error
    return None


def check_refusal(row: GrpcRow, error: grpc.aio.AioRpcError | None) -> None:
    """The code, the words, and nothing that a stranger should not read."""
    assert error is not None
    message = error.details() or ""
    assert error.code() is row.code, message
    for word in row.words:
        assert word in message, (word, message)
    assert len(message) < 500
    assert message.isprintable()
    assert "Traceback" not in message
    assert ".py" not in message


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_row(row: GrpcRow, channel: grpc.aio.Channel) -> None:
    check_refusal(row, await call(channel, row))
    assert await call(channel, GOOD) is None


async def test_a_message_beyond_the_limit(channel: grpc.aio.Channel) -> None:
    row = GrpcRow("too large", b"\0" * (LIMIT + 1), (), grpc.StatusCode.RESOURCE_EXHAUSTED)
    check_refusal(row, await call(channel, row))
    assert await call(channel, GOOD) is None
