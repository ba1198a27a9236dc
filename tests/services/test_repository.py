"""Open Inference's model repository through tritonclient, over HTTP and gRPC."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

from tests import onnx_models
from tests.services.conftest import Server


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_load_unload_index(server: Server, door: str) -> None:
    name = f"stored-{door}"
    server.push(name, onnx_models.add_sub())
    client: Any
    if door == "http":
        client = over_http.InferenceServerClient(server.url.removeprefix("http://"))
        index = lambda: {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}  # noqa: E731
    else:
        client = over_grpc.InferenceServerClient(server.grpc)
        index = lambda: {entry.name: entry.state for entry in client.get_model_repository_index().models}  # noqa: E731
    assert index()[name] == "UNAVAILABLE"
    client.load_model(name)
    assert index()[name] == "READY"
    assert client.is_model_ready(name)
    client.unload_model(name)
    assert index()[name] == "UNAVAILABLE"
    for more in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"x"}}):
        with pytest.raises(InferenceServerException, match="a model is loaded as it was pushed"):
            client.load_model(name, **more)
    with pytest.raises(InferenceServerException, match="nothing-here"):
        client.load_model("nothing-here")
    client.close()


def test_the_index_takes_what_curl_sends(server: Server) -> None:
    server.push("stored-only", onnx_models.add_sub())
    url = f"{server.url}/v2/repository/index"
    for media in ({}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "application/json"}):
        for body, there in ((b"", True), (b"{}", True), (b'{"ready": false}', True), (b'{"ready": true}', False)):
            answer = httpx.post(url, content=body, headers=media)
            assert answer.status_code == 200, answer.text
            assert any(entry["name"] == "stored-only" for entry in answer.json()) is there
    refused = httpx.post(url, content=b'{"ready": 5}')
    assert (refused.status_code, refused.headers["x-modelport-error"]) == (422, "invalid_input")
    assert "body.ready" in refused.json()["error"]
