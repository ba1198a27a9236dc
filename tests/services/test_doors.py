"""The inference protocols from outside, against one real server: tritonclient unchanged, and the table of bad input.

Few tests, each with many rows: the server and its twenty models start once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from urllib.parse import quote

import grpc
import httpx
import numpy as np
import pytest

from tests import onnx_models
from tests.api import triton_table
from tests.api.bad_input import GOOD, Row, http_rows
from tests.api.bad_input_grpc import GOOD as GRPC_GOOD
from tests.api.bad_input_grpc import GrpcRow, grpc_rows
from tests.api.zoo import LABELS, MODELS
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("doors"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every model of the zoo."""
    server = Server(tmp_path_factory.mktemp("doors")).start()
    try:
        with server.client() as client:
            for name, build in MODELS.items():
                labels = next(iter(LABELS.get(name, {}).values()), None)
                server.push(name, build(), **({"class_labels": labels} if labels else {}))
                client.deploy(name)
        yield server
    finally:
        server.stop()


def addresses(server: Server) -> tuple[str, str]:
    return server.url.removeprefix("http://"), server.grpc


def refused(rows: list[Row] | list[GrpcRow], fails: Callable[[Row | GrpcRow], str | None]) -> None:
    """Every row is refused as it should be; all that are not are shown together."""
    wrong = {row.name: said for row in rows if (said := fails(row)) is not None}
    assert not wrong, f"{len(wrong)} of {len(rows)}: {wrong}"


def unclear(message: str, words: tuple[str, ...]) -> str | None:
    """What is wrong with a refusal's message, if anything."""
    if any(word not in message for word in words):
        return f"says {message[:200]!r}, not {words}"
    if len(message) > 500 or not message.isprintable() or "Traceback" in message or ".py" in message:
        return f"should not say {message[:200]!r}"
    return None


def test_tritonclient_every_datatype_and_protocol(doors: Server) -> None:
    for datatype in triton_table.TENSORS:
        for protocol in triton_table.PROTOCOLS:
            if (datatype, protocol) not in triton_table.LEFT_OUT:
                triton_table.check_datatype(protocol, *addresses(doors), datatype)


@pytest.mark.parametrize("protocol", triton_table.PROTOCOLS)
def test_tritonclient_shapes(doors: Server, protocol: str) -> None:
    triton_table.check_shapes(protocol, *addresses(doors))


def test_tritonclient_options(doors: Server) -> None:
    url, address = addresses(doors)
    triton_table.check_http_options(url)
    triton_table.check_grpc_options(address)


def test_tritonclient_facts(doors: Server) -> None:
    triton_table.check_facts(*addresses(doors))


@pytest.mark.parametrize("zipmap", [True, False])
def test_a_scikit_learn_classifier_as_onnx(doors: Server, zipmap: bool) -> None:
    """A map of probabilities per row becomes a matrix, over every protocol."""
    name = f"iris-{zipmap}"
    doors.deploy(name, onnx_models.sklearn_classifier_onnx(zipmap=zipmap, strings=True))
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
    scores = "output_probability" if zipmap else "probabilities"
    for protocol in triton_table.PROTOCOLS:
        matrix = triton_table.infer(protocol, *addresses(doors), name, {"X": rows}).as_numpy(scores)
        assert matrix.shape == (2, 3)
        assert matrix.dtype == np.float32
        assert np.allclose(matrix.sum(axis=1), 1)
    with httpx.Client(base_url=doors.url) as client:
        plain = client.post(f"/v1/models/{name}:predict", json={"instances": rows.tolist()}).json()
        assert [set(row) for row in plain["predictions"]] == [{f"{'output_' if zipmap else ''}label", scores}] * 2
        best = client.post(f"/predict/{name}?top_k=1", json={"data": rows.tolist()}).json()
        assert [row[0]["label"] for row in best["result"]] == ["setosa", "virginica"]


def test_bad_input_over_http(doors: Server) -> None:
    with httpx.Client(base_url=doors.url, timeout=60) as client:

        def post(row: Row) -> httpx.Response:
            path, _, query = row.target.partition("?")
            target = quote(path, safe="/:").replace("..", "%2e%2e") + ("?" + query if query else "")
            return client.post(target, content=row.body, headers=row.headers)

        def fails(row: Row | GrpcRow) -> str | None:
            assert isinstance(row, Row)
            response, good = post(row), post(GOOD[row.name.partition(":")[0]])
            if good.status_code != 200:
                return f"the next good request got {good.status_code} {good.text[:200]}"
            if response.status_code != row.status:
                return f"got {response.status_code} {response.text[:200]}"
            return unclear(json.loads(response.content)["error"], row.words)

        refused(http_rows(), fails)


def test_bad_input_over_grpc(doors: Server) -> None:
    with grpc.insecure_channel(doors.grpc) as channel:

        def call(row: GrpcRow) -> tuple[grpc.StatusCode, str]:
            try:
                method = channel.unary_unary(f"/inference.GRPCInferenceService/{row.method}")
                method(row.request, metadata=row.metadata, timeout=60)
            except grpc.RpcError as error:
                return error.code(), error.details()
            return grpc.StatusCode.OK, ""

        def fails(row: Row | GrpcRow) -> str | None:
            assert isinstance(row, GrpcRow)
            (code, message), (good, said) = call(row), call(GRPC_GOOD)
            if good is not grpc.StatusCode.OK:
                return f"the next good call got {good} {said}"
            if code is not row.code:
                return f"got {code} {message[:200]}"
            return unclear(message, row.words)

        refused(grpc_rows(), fails)
