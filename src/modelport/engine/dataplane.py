"""Where every protocol ends: find the endpoint, check the tensors, dispatch, give the answer back.

Knows tensors, routes and deadlines; knows no protocol and no server.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from modelport.engine.requests import InferRequest, InferResult
from modelport.engine.routing import Route


@dataclass(slots=True)
class EndpointStats:
    """Plain counters of one endpoint in this gateway; times in ns."""

    success: int = 0
    success_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    executions: int = 0
    """Runs of the model; a run may serve several requests."""
    rows: int = 0
    last_success_ms: int = 0
    """Milliseconds since the epoch."""
    batch_sizes: dict[int, int] = field(default_factory=dict)


class Endpoint:
    """What callers address, as this gateway sees it now."""

    route: Route
    stats: EndpointStats

    @property
    def ready(self) -> bool:
        """Whether an inference, real or proof, succeeded within 10 s, or the endpoint sleeps on purpose."""
        raise RuntimeError


class DataPlane:
    """The routing table at work."""

    default_timeout_s: float = 60
    """Deadline of a request that brings none, in seconds (the setting ``http.timeout_s``)."""

    @property
    def ready(self) -> bool:
        """Whether every endpoint of every project is ready; what health checks ask."""
        raise RuntimeError

    def find(self, project: str, name: str, version: str | None = None, alias: str | None = None) -> Endpoint:
        """The endpoint of that name; raises NotFound, also when it serves another version or alias."""
        raise RuntimeError

    def endpoints(self, project: str) -> list[Endpoint]:
        """All endpoints of a project, by name."""
        raise RuntimeError

    async def infer(self, endpoint: Endpoint, request: InferRequest) -> InferResult:
        """Check against the signature, queue, batch, run, retry.

        Raises InvalidInput, ModelRejectedInput, Overloaded, DeadlineExceeded, RunFailed, Unavailable.
        """
        raise RuntimeError
