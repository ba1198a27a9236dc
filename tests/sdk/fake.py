"""A registry in a dictionary in place of the network: for the flows' own logic, not for the server's.

Fakes speak httpx's requests and answers, which tests can read; what httpx would raise stands for a broken network.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from modelport import AsyncClient, Client
from modelport.sdk.flows import Request, Unreachable

Answer = Callable[[httpx.Request], Any]
URL = "http://modelport.test"


class Fake:
    """Answers in place of a server."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def open(self, request: Request, headers: dict[str, str], seconds: float) -> Opened:
        body = request.body
        content = body if body is None or isinstance(body, bytes) else b"".join(body.chunks())
        try:
            asked = httpx.Request(
                request.method, URL + request.path, params=request.params, headers=headers, content=content
            )
            return Opened(self._answer(asked))
        except httpx.ConnectError as error:
            raise Unreachable(str(error), sent=False) from None
        except httpx.HTTPError as error:
            raise Unreachable(str(error), sent=True) from None

    def close(self) -> None:
        pass


class Opened:
    def __init__(self, answer: httpx.Response) -> None:
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = answer.headers
        self._answer = answer

    def read(self) -> bytearray:
        return bytearray().join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._answer.iter_bytes()
        except httpx.HTTPError as error:
            raise Unreachable(str(error), sent=True) from None

    def close(self) -> None:
        self._answer.close()


class AsyncFake:
    """The same; ``answer`` may be a coroutine."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def open(self, request: Request, headers: dict[str, str], seconds: float) -> AsyncOpened:
        found: list[Any] = []

        def keep(asked: httpx.Request) -> httpx.Response:
            found.append(self._answer(asked))
            return httpx.Response(200)

        Fake(keep).open(request, headers, seconds)
        return AsyncOpened(Opened(await found[0] if inspect.isawaitable(found[0]) else found[0]))

    async def close(self) -> None:
        pass


class AsyncOpened:
    def __init__(self, opened: Opened) -> None:
        self.status, self.headers, self.close = opened.status, opened.headers, opened.close
        self._opened = opened

    async def read(self) -> bytearray:
        return self._opened.read()

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._opened.chunks():
            yield chunk


def client(answer: Answer, **options: Any) -> Client:
    return Client(URL, transport=Fake(answer), **options)


def async_client(answer: Answer, **options: Any) -> AsyncClient:
    return AsyncClient(URL, transport=AsyncFake(answer), **options)


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
