"""Load for one address: closed-loop callers that each send the next request when the last is answered.

HTTP by wrk where it is installed, else by asyncio on plain sockets (which costs more, so it finds lower rates); gRPC by
grpc.aio with messages serialised beforehand. Knows requests and times; knows no server.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

_WARM_UP_S = 1.0


@dataclass(frozen=True)
class Shot:
    """One HTTP request to be sent over and over."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Figures:
    """What callers saw; times in ms."""

    requests: int
    seconds: float
    p50: float
    p99: float
    failed: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def tool() -> str:
    """Which client sends HTTP here."""
    return "wrk" if shutil.which("wrk") else "asyncio sockets"


def http(shot: Shot, callers: int, seconds: float, cores: str | None = None) -> Figures:
    """Load over keep-alive connections, one per caller; ``cores`` (such as ``0,1``) holds wrk there."""
    return _wrk(shot, callers, seconds, cores) if shutil.which("wrk") else asyncio.run(_sockets(shot, callers, seconds))


_SCRIPT = """
wrk.method = "POST"
wrk.headers = {%s}
local file = io.open("%s", "rb")
wrk.body = file:read("*a")
file:close()
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nFIGURES {"requests": %%d, "us": %%d, "p50": %%f, "p99": %%f, "failed": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def _wrk(shot: Shot, callers: int, seconds: float, cores: str | None) -> Figures:
    headers = ", ".join(f"[{json.dumps(k)}] = {json.dumps(v)}" for k, v in shot.headers.items())
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "shot.lua"
        body = Path(folder) / "body"
        body.write_bytes(shot.body)
        script.write_text(_SCRIPT % (headers, body))
        url = f"http://{shot.host}:{shot.port}{shot.path}"
        duration = f"-d{max(1, round(seconds))}s"  # wrk counts whole seconds
        argv = ["wrk", "-t1", f"-c{callers}", duration, "--timeout", "10s", "-s", str(script), url]
        if cores is not None:
            argv = ["taskset", "-c", cores, *argv]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.split("FIGURES", 1)[1])
    return Figures(found["requests"], found["us"] / 1e6, found["p50"] / 1e3, found["p99"] / 1e3, found["failed"])


async def _sockets(shot: Shot, callers: int, seconds: float) -> Figures:
    lines = [f"POST {shot.path} HTTP/1.1", f"host: {shot.host}", f"content-length: {len(shot.body)}"]
    lines += [f"{name}: {value}" for name, value in shot.headers.items()]
    raw = "\r\n".join([*lines, "", ""]).encode() + shot.body

    async def connect() -> Callable[[], Awaitable[bool]]:
        reader, writer = await asyncio.open_connection(shot.host, shot.port)

        async def send() -> bool:
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            return head.startswith(b"HTTP/1.1 200")

        return send

    return await _closed_loop([await connect() for _ in range(callers)], seconds)


def grpc(address: str, method: str, message: bytes, metadata: dict[str, str], callers: int, seconds: float) -> Figures:
    """Load over one channel per four callers."""
    return asyncio.run(_grpc(address, method, message, metadata, callers, seconds))


async def _grpc(
    address: str, method: str, message: bytes, metadata: dict[str, str], callers: int, seconds: float
) -> Figures:
    import grpc.aio  # noqa: PLC0415

    channels = [
        grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) for _ in range((callers + 3) // 4)
    ]
    pairs = tuple(metadata.items())

    def caller(channel: grpc.aio.Channel) -> Callable[[], Awaitable[bool]]:
        call = channel.unary_unary(method)

        async def send() -> bool:
            try:
                await call(message, metadata=pairs)
            except grpc.aio.AioRpcError:
                return False
            return True

        return send

    try:
        return await _closed_loop([caller(channels[index // 4]) for index in range(callers)], seconds)
    finally:
        for channel in channels:
            await channel.close()


async def _closed_loop(senders: list[Callable[[], Awaitable[bool]]], seconds: float) -> Figures:
    times: list[float] = []
    failed = 0
    start = time.perf_counter() + min(_WARM_UP_S, seconds / 4)
    end = start + seconds

    async def call(send: Callable[[], Awaitable[bool]]) -> None:
        nonlocal failed
        while (began := time.perf_counter()) < end:
            good = await send()
            if began >= start:
                times.append(time.perf_counter() - began)
                failed += not good

    await asyncio.gather(*(call(send) for send in senders))
    times.sort()
    p50, p99 = (1e3 * times[int(share * (len(times) - 1))] for share in (0.5, 0.99))
    return Figures(len(times), seconds, p50, p99, failed)
