"""The conversation between control and every gateway: routing tables one way, confirmations and figures the other.

Each message is a length and JSON. A gateway that loses control keeps its last table and tries again.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from modelport.engine.routing import RoutingTable
from modelport.engine.stats import EndpointStats

SOCKET = "routes.sock"
_RETRY_S = 0.2
T = TypeVar("T")
_LENGTH = struct.Struct("<I")


class EndpointFigures(msgspec.Struct):
    """What one gateway has counted for one endpoint."""

    project: str
    endpoint: str
    model: str
    version: int
    stats: EndpointStats
    waiting: int
    in_flight: int


class Report(msgspec.Struct):
    """Gateway to control: who it is, which table it goes by, and its figures when they were asked for."""

    gateway: int
    pid: int
    number: int
    endpoints: list[EndpointFigures] = []
    http: dict[str, int] = {}
    """Answers by ``protocol|endpoint|status``."""
    memory: int = 0
    asked: int = 0
    """The question that this answers; 0 when it confirms a table."""
    guest: bool = False
    """Whether it is no gateway, but goes by the table as one, and counts nothing."""


class Order(msgspec.Struct):
    """Control to gateway: a table to act on, or a question for figures."""

    table: RoutingTable | None = None
    ask: int = 0


def pack(message: msgspec.Struct) -> bytes:
    """One message, ready to be written."""
    body = msgspec.json.encode(message)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader, kind: type[T]) -> T:
    """The next message; raises IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return msgspec.json.decode(await reader.readexactly(length), type=kind)


async def follow_control(act: Callable[[RoutingTable], Awaitable[None]], report: Callable[[bool], Report]) -> None:
    """A gateway's side, for ever: act on each table, confirm it, answer questions."""
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(SOCKET)
        except OSError:
            await asyncio.sleep(_RETRY_S)
            continue
        try:
            writer.write(pack(report(False)))
            while True:
                order = await read(reader, Order)
                if order.table is not None:
                    await act(order.table)
                answer = report(bool(order.ask))
                answer.asked = order.ask
                writer.write(pack(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            await asyncio.sleep(_RETRY_S)
