"""tritonclient against the adapters in process: a small HTTP server, and the real gRPC server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from modelport.api import inference_v2
from modelport.api.inference_grpc import serve_grpc
from modelport.api.messages import Caller
from tests.api import triton_table
from tests.api.asgi import serving
from tests.api.plane import zoo


@pytest.fixture(scope="module")
def addresses(free_port: int) -> Iterator[tuple[str, str]]:
    """HTTP and gRPC, each with an event loop in a thread of its own."""
    plane, address = zoo(), f"127.0.0.1:{free_port}"
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: object) -> object:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)  # type: ignore[arg-type]

    server = run(serve_grpc(plane, lambda metadata: Caller(), address, credentials=None, max_message_bytes=1 << 26))
    try:
        with serving(inference_v2.routes(plane)) as url:
            yield url, address
    finally:
        run(server.stop(None))  # type: ignore[attr-defined]
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.parametrize("protocol", triton_table.PROTOCOLS)
@pytest.mark.parametrize("datatype", triton_table.TENSORS)
def test_datatype(addresses: tuple[str, str], datatype: str, protocol: str) -> None:
    if (datatype, protocol) in triton_table.LEFT_OUT:
        pytest.skip("the protocol has no such form")
    triton_table.check_datatype(protocol, *addresses, datatype)


@pytest.mark.parametrize("protocol", triton_table.PROTOCOLS)
def test_shapes(addresses: tuple[str, str], protocol: str) -> None:
    triton_table.check_shapes(protocol, *addresses)


def test_http_options(addresses: tuple[str, str]) -> None:
    triton_table.check_http_options(addresses[0])


def test_grpc_options(addresses: tuple[str, str]) -> None:
    triton_table.check_grpc_options(addresses[1])


def test_facts(addresses: tuple[str, str]) -> None:
    triton_table.check_facts(*addresses)
