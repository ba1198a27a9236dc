"""The server itself: what ``modelport status`` shows."""

from __future__ import annotations

from pydantic import BaseModel

from modelport.schemas.deployments import Deployment


class GatewayStatus(BaseModel):
    """One gateway process."""

    name: str
    pid: int | None
    connected: bool
    memory_mb: float | None = None


class ServerStatus(BaseModel):
    """The whole tree at a glance."""

    version: str
    pid: int
    """Of the supervisor."""
    uptime_s: float
    http: str
    grpc: str | None
    keys_required: bool
    gateways: list[GatewayStatus]
    deployments: list[Deployment]
