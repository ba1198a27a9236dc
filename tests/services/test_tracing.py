"""Spans from socket to runtime, with W3C trace context in and out, at a real OTLP receiver."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http

from tests import onnx_models, streaming
from tests.otlp import Collector, Span, collecting
from tests.services.conftest import Server
from tests.services.served import Served, serve

pytestmark = pytest.mark.xdist_group("tracing")
ROW = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    server = Server(tmp_path_factory.mktemp("traced"), env=env).start()
    try:
        server.deploy("echo", onnx_models.identity())
        server.deploy("fails", onnx_models.fails_on(13))
        yield server
    finally:
        server.stop()


def parent() -> tuple[str, str, str]:
    """A caller's own trace: its id, its span, and the header that says so."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-01"


def within(outer: Span, inner: Span) -> bool:
    return inner.parent == outer.id and outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns


def test_an_http_request_from_socket_to_runtime(collector: Collector, traced: Server) -> None:
    trace, caller, header = parent()
    answer = httpx.post(
        f"{traced.url}/v2/models/echo/infer", json=ROW, headers={"traceparent": header, "x-request-id": "mine-1"}
    )
    assert answer.status_code == 200
    spans = collector.trace(trace, 4)
    door, infer = spans["POST /v2/models/{}/infer"], spans["modelport.infer"]
    queue, run = spans["modelport.queue"], spans["modelport.run"]
    assert door.parent == caller
    assert answer.headers["traceparent"] == f"00-{trace}-{door.id}-01"
    assert within(door, infer)
    assert within(infer, queue)
    assert within(infer, run)
    assert queue.end_ns <= run.start_ns
    assert door.service == "modelport"
    assert door.attributes["http.response.status_code"] == 200
    assert door.attributes["url.path"] == "/v2/models/echo/infer"
    expected = {
        "modelport.endpoint": "echo", "modelport.model": "echo", "modelport.version": 1,
        "modelport.project": "default", "modelport.request_id": "mine-1", "modelport.batch_size": 2,
    }  # fmt: skip
    assert expected.items() <= infer.attributes.items()
    assert infer.attributes["modelport.replica"] == run.attributes["modelport.replica"] != ""
    assert infer.attributes["modelport.queue_ms"] >= 0
    assert run.attributes["modelport.batch_size"] == 2


def test_a_request_without_a_trace_begins_one(collector: Collector, traced: Server) -> None:
    for header in ({}, {"traceparent": "00-nonsense"}, {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"}):
        answer = httpx.post(f"{traced.url}/v2/models/echo/infer", json=ROW, headers=header)
        assert answer.status_code == 200
        _, trace, span, _ = answer.headers["traceparent"].split("-")
        found = collector.trace(trace, 4)
        assert found["POST /v2/models/{}/infer"].id == span
        assert found["POST /v2/models/{}/infer"].parent == ""


def test_grpc_metadata_carries_the_trace(collector: Collector, traced: Server) -> None:
    trace, caller, header = parent()
    rows = triton.InferInput("input", [1, 3], "FP32")
    rows.set_data_from_numpy(np.ones((1, 3), np.float32))
    with triton.InferenceServerClient(traced.grpc) as client:
        client.infer("echo", [rows], headers={"traceparent": header, "x-request-id": "mine-2"})
    spans = collector.trace(trace, 4)
    door = spans["inference.GRPCInferenceService/ModelInfer"]
    assert door.parent == caller
    assert door.attributes["rpc.method"] == "ModelInfer"
    assert door.attributes["rpc.grpc.status_code"] == 0
    assert door.attributes["modelport.request_id"] == "mine-2"
    assert within(door, spans["modelport.infer"])


def test_failures_show_in_their_spans(collector: Collector, traced: Server) -> None:
    trace, _, header = parent()
    with tritonclient.http.InferenceServerClient(traced.url.removeprefix("http://")) as client:
        (spec,) = client.get_model_metadata("fails")["inputs"]
    shape = [max(1, dim) for dim in spec["shape"]]
    body = {"inputs": [{**spec, "shape": shape, "data": np.full(shape, 13).reshape(-1).tolist()}]}
    answer = httpx.post(f"{traced.url}/v2/models/fails/infer", json=body, headers={"traceparent": header})
    assert answer.status_code == 400
    spans = collector.trace(trace, 2)
    assert spans["modelport.infer"].failed
    assert spans["modelport.infer"].attributes["error.type"] == "model_rejected_input"
    assert not spans["POST /v2/models/{}/infer"].failed  # the caller's fault, not the server's
    trace, _, header = parent()
    httpx.post(f"{traced.url}/v2/models/none/infer", json=ROW, headers={"traceparent": header})
    assert collector.trace(trace, 1)["POST /v2/models/{}/infer"].attributes["http.response.status_code"] == 404


def test_management_is_traced_and_probes_are_not(collector: Collector, traced: Server) -> None:
    trace, _, header = parent()
    httpx.get(f"{traced.url}/v2/health/ready", headers={"traceparent": header})
    httpx.get(f"{traced.url}/api/v1/models/echo", headers={"traceparent": header}).raise_for_status()
    assert set(collector.trace(trace, 1)) == {"GET /api/v1/models/{}"}


@pytest.fixture(scope="module")
def words(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("words")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "talker"}
    path = streaming.installed(folder / "site")
    with serve(streaming.write_model(folder), folder, "--name", "words", PYTHONPATH=path, **env) as served:
        yield served


def test_a_stream_is_one_span_sent_at_the_latest_at_the_end(collector: Collector, words: Served) -> None:
    trace, _, header = parent()
    body = {"text_input": "a b c", "pause_ms": 1}
    headers = {"traceparent": header}
    httpx.post(f"{words.url}/v2/models/words/generate_stream", json=body, headers=headers).raise_for_status()
    spans = collector.trace(trace, 3)
    assert spans["modelport.stream"].attributes["modelport.parts"] == 3
    assert spans["modelport.stream"].events == ("first part",)
    assert spans["modelport.stream"].service == "talker"
    assert within(spans["POST /v2/models/{}/generate_stream"], spans["modelport.stream"])


@pytest.mark.long
def test_a_collector_that_is_away_holds_up_nothing(own_server: Callable[..., Server]) -> None:
    server = own_server(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="20")
    server.deploy("echo", onnx_models.identity())
    assert httpx.post(f"{server.url}/v2/models/echo/infer", json=ROW).status_code == 200
    server.stop()


GATEWAY = """
import sys
{before}
from modelport.api.gateway import Gateway, GatewayConfig
print(Gateway(GatewayConfig("127.0.0.1"), None).tracing, any(name.startswith("opentelemetry") for name in sys.modules))
"""
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("env", "before", "printed"),
    [
        ({}, "", "None False"),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "true"}, "", "None True"),
        ({**COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "", "here it is http/protobuf"),
        (COLLECTOR, "sys.modules['opentelemetry.sdk.trace'] = None", "pip install 'modelport[otel]'"),
    ],
    ids=["unset", "disabled", "another protocol", "not installed"],
)
def test_where_there_is_no_tracing(tmp_path: Path, env: dict[str, str], before: str, printed: str) -> None:
    """Without a collector nothing is imported; what stands in the way is said in the log, and requests are served."""
    code = GATEWAY.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("None ")
    assert printed in done.stdout
