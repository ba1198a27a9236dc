"""Open Inference's model repository through tritonclient, over HTTP and gRPC."""

from __future__ import annotations

from typing import Any

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
    with pytest.raises(InferenceServerException, match="nothing-here"):
        client.load_model("nothing-here")
    client.close()
