"""What a gateway passes on to control: a real Unix socket, with a control that never finishes an answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modelport.api import proxy
from modelport.api.proxy import ControlProxy
from modelport.errors import Unavailable

SCOPE: dict[str, Any] = {
    "type": "http", "method": "GET", "raw_path": b"/api/v1/deployments/m/logs", "query_string": b"follow=true",
    "headers": [],
}  # fmt: skip


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nx\n\r\n")
    await reader.read()
    writer.close()


async def test_many_followers_do_not_make_others_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(proxy, "_FULL_S", 0.2)
    monkeypatch.setattr(proxy, "_CONNECTIONS", 3)
    server = await asyncio.start_unix_server(never_ends, proxy.SOCKET)
    control, begun = ControlProxy(), asyncio.Semaphore(0)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            begun.release()

    followers = [asyncio.create_task(control(SCOPE, receive, send, "id")) for _ in range(3)]
    for _ in followers:
        await asyncio.wait_for(begun.acquire(), 10)
    with pytest.raises(Unavailable, match="management requests are open"):
        await asyncio.wait_for(control(SCOPE, receive, send, "id"), 10)
    followers.pop().cancel()
    await asyncio.sleep(0)
    another = asyncio.create_task(control(SCOPE, receive, send, "id"))
    await asyncio.wait_for(begun.acquire(), 10)
    for task in (*followers, another):
        task.cancel()
    await asyncio.gather(*followers, another, return_exceptions=True)
    server.close()


async def test_a_control_that_is_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(Unavailable, match="control process is not answering"):
        await ControlProxy()(SCOPE, nothing, nothing, "id")
