"""Uploads over HTTP: what was announced, what came, and how much of it."""

from __future__ import annotations

import asyncio
import hashlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modelport.api.native import context
from tests.api.native.conftest import AS_OWNER, MAX_FILE

BLOBS = "/api/v1/blobs"
DATA = b"weights" * 100
SHA = hashlib.sha256(DATA).hexdigest()


def test_a_chunked_body_of_unknown_size(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"weights"

    assert client.put(f"{BLOBS}/{SHA}", content=chunks()).json() == {"sha256": SHA, "size": len(DATA)}


def test_a_body_that_is_another(client: TestClient, tmp_path: Path) -> None:
    answer = client.put(f"{BLOBS}/{'a' * 64}", content=DATA)
    assert answer.status_code == 400
    assert "SHA-256" in answer.json()["error"]["message"]
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("address", ["A" * 64, "a" * 63, "a" * 65, "g" * 64, "..", "%00", "a" * 64 + "%0a"])
def test_an_address_that_is_no_hash(client: TestClient, address: str) -> None:
    assert 400 <= client.put(f"{BLOBS}/{address}", content=DATA).status_code < 500


def test_an_announced_size_over_the_limit_is_refused_before_any_byte(client: TestClient) -> None:
    read = 0

    def chunks() -> Iterator[bytes]:
        nonlocal read
        read += 1
        yield b"x"

    answer = client.put(f"{BLOBS}/{SHA}", content=chunks(), headers={"content-length": str(MAX_FILE + 1)})
    assert answer.status_code == 413


def test_a_body_over_the_limit_is_refused_on_the_way(client: TestClient) -> None:
    assert client.put(f"{BLOBS}/{SHA}", content=(bytes(1 << 20) for _ in range(3))).status_code == 413


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/blobs/missing", "/api/v1/models/m/versions"])
@pytest.mark.parametrize("media", ["application/json", "application/octet-stream"])
def test_a_json_body_is_bounded(client: TestClient, path: str, media: str) -> None:
    answer = client.post(
        path, content=(b" " * (1 << 20) for _ in range(40)), headers={"content-type": media, **AS_OWNER}
    )
    assert answer.status_code == 413, answer.text


async def stream(app: FastAPI, body: AsyncIterator[dict], path: str) -> dict:
    """One PUT, message by message, as a server would call the application; returns the answer's first message."""
    sent: list[dict] = []

    async def receive() -> dict:
        return await anext(body)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "PUT", "path": path, "raw_path": path.encode(),
        "query_string": b"", "headers": [], "scheme": "http", "root_path": "", "server": ("localhost", 80),
        "client": None, "state": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return sent[0]


async def test_a_caller_that_goes_away_leaves_nothing(app: FastAPI, tmp_path: Path) -> None:
    async def body() -> AsyncIterator[dict]:
        yield {"type": "http.request", "body": DATA, "more_body": True}
        while True:
            yield {"type": "http.disconnect"}

    assert (await stream(app, body(), f"{BLOBS}/{SHA}"))["status"] == 499
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


async def test_a_body_that_stands_still_is_given_up(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_STALL_S", 0.05)

    async def body() -> AsyncIterator[dict]:
        yield {"type": "http.request", "body": DATA, "more_body": True}
        await asyncio.sleep(3600)
        yield {"type": "http.disconnect"}

    assert (await stream(app, body(), f"{BLOBS}/{SHA}"))["status"] == 400


async def test_a_slow_body_that_goes_on_is_not_given_up(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "_STALL_S", 0.3)

    async def body() -> AsyncIterator[dict]:
        for at in range(0, len(DATA), 100):
            await asyncio.sleep(0.1)
            yield {"type": "http.request", "body": DATA[at : at + 100], "more_body": at + 100 < len(DATA)}

    assert (await stream(app, body(), f"{BLOBS}/{SHA}"))["status"] == 200


async def test_a_large_body_passes_in_constant_memory(app: FastAPI) -> None:
    app.state.context.registry._blobs._limits = type(app.state.context.registry._limits)()
    app.state.context.settings.artifacts.max_file_gb = 1
    block, count = bytes(1 << 16), 3000  # 197 MB
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(block)

    async def body() -> AsyncIterator[dict]:
        for index in range(count):
            yield {"type": "http.request", "body": block, "more_body": index + 1 < count}

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (await stream(app, body(), f"{BLOBS}/{digest.hexdigest()}"))["status"] == 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_collecting(client: TestClient) -> None:
    client.put(f"{BLOBS}/{SHA}", content=DATA)
    assert client.post("/api/v1/gc?dry_run=true").json() == {"blobs": 0, "environments": 0, "bytes": 0, "dry_run": True}
    assert client.post("/api/v1/gc").json() == {"blobs": 0, "environments": 0, "bytes": 0, "dry_run": False}
    assert client.post("/api/v1/gc?dry_run=x").status_code == 422
