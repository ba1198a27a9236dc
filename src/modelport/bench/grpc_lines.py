"""Lines over gRPC: calls of ``ModelInfer`` on a few shared channels, with messages serialised beforehand.

Statuses are those of HTTP, by the error that the server names. The only file of this room that knows grpc.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from modelport.bench.lines import LATE, Done, Line, Opener
from modelport.bench.shots import Shot
from modelport.errors import BY_CODE, CODE_HEADER
from modelport.sdk.endpoint import Target

_CALLS_OF_A_CHANNEL = 16
_STATUS = {cls.grpc_status: cls.status for cls in reversed(BY_CODE.values())}


class GrpcLine:
    """One call at a time on a channel."""

    def __init__(self, call: Any, metadata: tuple[tuple[str, str], ...], timeout: float) -> None:
        self.open = True
        self._call, self._metadata, self._timeout = call, metadata, timeout
        self._task: asyncio.Task[None] | None = None
        self._done: Done | None = None

    def send(self, shot: Shot, done: Done) -> None:
        self._done = done
        self._task = asyncio.get_running_loop().create_task(self._run(shot))

    async def _run(self, shot: Shot) -> None:
        try:
            await self._call(shot.body, metadata=self._metadata, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            self._finish(*_told(error))
        else:
            self._finish(200, "")

    def drop(self, message: str) -> None:
        self.open = False
        self._finish(0, message)
        self._cancel()

    def close(self) -> None:
        self.open, self._done = False, None
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _finish(self, status: int, message: str) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self, status, message)


class Channels:
    """The channels to one gRPC address."""

    def __init__(self, address: str, target: Target, timeout: float) -> None:
        self._address, self._target, self._timeout = address, target, timeout
        self._metadata = (("authorization", f"Bearer {target.key}"),) if target.key else ()
        self._calls: list[Any] = []
        self._channels: list[grpc.aio.Channel] = []
        self._lines = 0

    def opener(self, method: str) -> Opener:
        """Lines for one method."""

        async def connect() -> Line:
            if self._lines % _CALLS_OF_A_CHANNEL == 0:
                self._channels.append(self._channel())
                self._calls.append(self._channels[-1].unary_unary(method))
            self._lines += 1
            return GrpcLine(self._calls[-1], self._metadata, self._timeout)

        return connect

    def _channel(self) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        if not self._target.url.startswith("https:"):
            return grpc.aio.insecure_channel(self._address, options)
        own = self._target.certificate
        roots = Path(own).read_bytes() if own else None
        return grpc.aio.secure_channel(self._address, grpc.ssl_channel_credentials(roots), options)

    async def close(self) -> None:
        """Hang up."""
        for channel in self._channels:
            await channel.close()


def _told(error: grpc.aio.AioRpcError) -> tuple[int, str]:
    trailing = dict(error.trailing_metadata() or ())
    cls = BY_CODE.get(str(trailing.get(CODE_HEADER)))
    name = error.code().name
    if cls is None and name == "DEADLINE_EXCEEDED":
        return 0, LATE
    status = cls.status if cls is not None else _STATUS.get(name, 500)
    if cls is None and name == "UNAVAILABLE":
        status = 0  # nobody answered
    return status, " ".join(f"{name}: {error.details()}".split())[:200]
