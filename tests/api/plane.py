"""A real data plane in one process: finds, checks and runs ONNX models at once, without replicas and queues."""

from __future__ import annotations

import time
from collections.abc import Container
from typing import Any

import onnxruntime as ort

from modelport.engine.dataplane import DataPlane, Endpoint, _check_outputs
from modelport.engine.requests import InferRequest, InferResult
from modelport.engine.routing import Route
from modelport.engine.runtimes.onnx import OnnxRuntime, session_options
from modelport.engine.stats import EndpointStats
from modelport.errors import DeadlineExceeded, NotFound
from modelport.tensors import Signature, TensorSpec, check_inputs
from tests.api.zoo import LABELS, MODELS

_DATATYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "bfloat16": "BF16",
}


def _spec(arg: Any) -> TensorSpec:
    inner = arg.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in arg.shape)
    return TensorSpec(arg.name, _DATATYPES.get(inner, inner.upper()), shape)


class LocalEndpoint(Endpoint):
    """One model in this process."""

    def __init__(self, name: str, model: bytes, labels: dict[str, list[str]] | None = None, **changes: Any) -> None:
        session = ort.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])
        signature = Signature(
            tuple(_spec(arg) for arg in session.get_inputs()), tuple(_spec(arg) for arg in session.get_outputs())
        )
        self.route = Route(
            **{
                "project": "default",
                "name": name,
                "model": name,
                "version": 1,
                "platform": OnnxRuntime.platform,
                "signature": signature,
                "labels": labels or {},
                **changes,
            }
        )
        self.stats = EndpointStats()
        self.runtime = OnnxRuntime(session, signature)
        self.is_ready = True

    @property
    def ready(self) -> bool:
        return self.is_ready


class LocalPlane(DataPlane):
    """Endpoints by name, run where they are called."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, LocalEndpoint] = {}
        self.seen: list[InferRequest] = []

    def deploy(
        self, name: str, model: bytes, labels: dict[str, list[str]] | None = None, **changes: Any
    ) -> LocalEndpoint:
        self.by_name[name] = LocalEndpoint(name, model, labels, **changes)
        return self.by_name[name]

    @property
    def ready(self) -> bool:
        return all(endpoint.ready for endpoint in self.by_name.values())

    def find(
        self, project: str, name: str, version: str | None = None, alias: str | None = None,
        only: Container[str] | None = None,
    ) -> Endpoint:  # fmt: skip
        endpoint = self.by_name.get(name)
        if endpoint is None or endpoint.route.project != project:
            raise NotFound(f"no endpoint {name[:80]!r}")
        if version is not None and version != str(endpoint.route.version):
            raise NotFound(f"endpoint {name!r} serves version {endpoint.route.version}, not {version[:80]!r}")
        if alias is not None and alias != endpoint.route.alias:
            raise NotFound(f"endpoint {name!r} has no label {alias[:80]!r}")
        return endpoint

    def has(self, project: str, name: str) -> bool:
        return name in self.by_name and self.by_name[name].route.project == project

    def endpoints(self, project: str, only: Container[str] | None = None) -> list[Endpoint]:
        return [self.by_name[name] for name in sorted(self.by_name) if self.by_name[name].route.project == project]

    async def infer(self, endpoint: Endpoint, request: InferRequest) -> InferResult:
        assert isinstance(endpoint, LocalEndpoint)
        self.seen.append(request)
        check_inputs(endpoint.route.signature, request.inputs)
        _check_outputs(endpoint.route, request.outputs)
        if request.deadline <= time.monotonic():
            raise DeadlineExceeded("the deadline passed before the answer")
        started = time.perf_counter_ns()
        outputs = endpoint.runtime.infer(request.inputs)
        stats = endpoint.stats
        stats.success += 1
        stats.executions += 1
        rows = next((tensor.shape[:1] for tensor in request.inputs.values()), ())
        stats.rows += rows[0] if rows else 1
        stats.compute_ns += time.perf_counter_ns() - started
        stats.batch_sizes[1] = stats.batch_sizes.get(1, 0) + 1
        if request.outputs is not None:
            outputs = {name: outputs[name] for name in request.outputs}
        return InferResult(outputs, compute_ns=time.perf_counter_ns() - started)


def zoo() -> LocalPlane:
    """A plane with a model for every habit that the tests need."""
    plane = LocalPlane()
    for name, build in MODELS.items():
        plane.deploy(name, build(), labels=LABELS.get(name), alias="champion" if name == "mlp" else None)
    return plane
