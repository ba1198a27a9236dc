"""A registry in a dictionary behind httpx's mock transport: for the flows' own logic, not for the server's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from modelport import AsyncClient, Client

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, **options: Any) -> Client:
    return Client("http://modelport.test", transport=httpx.MockTransport(answer), **options)


def async_client(answer: Answer, **options: Any) -> AsyncClient:
    return AsyncClient("http://modelport.test", transport=httpx.MockTransport(answer), **options)


def native_error(status: int, code: str, message: str, **headers: str) -> httpx.Response:
    body = {"error": {"code": code, "message": message, "request_id": "r1"}}
    return httpx.Response(status, json=body, headers={"x-request-id": "r1", **headers})


@dataclass
class FakeRegistry:
    """Keeps blobs and pushes; shows every version as the first."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    pushes: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    manifest_files: list[dict[str, Any]] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, method = request.url.path.removeprefix("/api/v1"), request.method
        if path == "/blobs/missing":
            asked = json.loads(request.content)["sha256"]
            return httpx.Response(200, json={"missing": [sha for sha in asked if sha not in self.blobs]})
        if path.startswith("/blobs/") and method == "PUT":
            raw, sha = request.read(), path.rpartition("/")[2]
            assert hashlib.sha256(raw).hexdigest() == sha
            assert int(request.headers["content-length"]) == len(raw)
            self.blobs[sha] = raw
            self.uploads.append(sha)
            return httpx.Response(200)
        if "/files/" in path:
            inside = path.partition("/files/")[2]
            entry = next(entry for entry in self.files if entry["path"] == inside)
            return httpx.Response(200, content=self.blobs[entry["sha256"]])
        if path.endswith("/versions") and method == "POST":
            self.pushes.append(json.loads(request.content))
            return httpx.Response(201, json=self.version())
        if "/versions/" in path:
            return httpx.Response(200, json=self.version())
        return native_error(404, "not_found", f"no {path}")

    @property
    def files(self) -> list[dict[str, Any]]:
        return self.manifest_files if self.manifest_files is not None else self.pushes[-1]["files"]

    def version(self) -> dict[str, Any]:
        made = {"created_at": "2026-01-01T00:00:00Z", "created_by": "owner"}
        signature = {"inputs": [], "outputs": []}
        common = {"model": "m", "version": 1, "digest": "0" * 64, "format": "onnx", "size": 1, **made}
        manifest = {**common, "runtime": "onnx", "signature": signature, "files": self.files}
        return {**common, "manifest": manifest}
