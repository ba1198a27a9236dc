"""The conversation between control and every gateway: routing tables one way, confirmations and figures the other;
loans of a limited key's tokens are asked for and granted.

Each message is a length and JSON. A gateway that loses control keeps its last table and tries again.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from modelport.engine.allowance import Granted, Loan
from modelport.engine.routing import RoutingTable
from modelport.engine.stats import EndpointStats

SOCKET = "routes.sock"
_RETRY_S = 0.2
_LOAN_S = 1.0
"""How long a caller waits for control to answer; then its gateway counts by itself, so long without asking again."""
_SILENT_S = 5.0
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
    texts: dict[str, tuple[int, int]] = {}
    """Of a language model, by caller: texts that are being written, and that are not begun."""


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
    loan: Loan | None = None
    """Set: it is about nothing else than tokens for a key."""
    loan_number: int = 0
    guest: bool = False
    """Whether it is no gateway, but goes by the table as one, and counts nothing."""


class Order(msgspec.Struct):
    """Control to gateway: a table to act on, a question for figures, or the answer to a loan."""

    table: RoutingTable | None = None
    ask: int = 0
    granted: Granted | None = None
    """What became of the loan of that number."""
    loan_number: int = 0


def pack(message: msgspec.Struct) -> bytes:
    """One message, ready to be written."""
    body = msgspec.json.encode(message)
    return _LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader, kind: type[T]) -> T:
    """The next message; raises IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return msgspec.json.decode(await reader.readexactly(length), type=kind)


class Borrower:
    """A gateway's loans of tokens at control."""

    def __init__(self) -> None:
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Granted]] = {}
        self._silent_until = 0.0

    def connected(self, writer: asyncio.StreamWriter | None) -> None:
        """Control can be asked from now on; with None it cannot, and whoever waits is told so."""
        self._writer = writer
        if writer is None:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(ConnectionResetError("control has gone"))

    def answered(self, number: int, granted: Granted) -> None:
        """By the channel."""
        self._silent_until = 0.0
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(granted)

    def tell(self, loan: Loan, number: int = 0) -> None:
        """Raises ConnectionError when control is not there."""
        if self._writer is None:
            raise ConnectionResetError("control is not there")
        self._writer.write(pack(Report(0, 0, 0, loan=loan, loan_number=number)))

    async def ask(self, loan: Loan) -> Granted:
        """Raises ConnectionError when control is not there, or has been silent for too long."""
        if time.monotonic() < self._silent_until:
            raise ConnectionResetError("control is silent")
        number = next(self._numbers)
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.tell(loan, number)
            return await asyncio.wait_for(waiting, _LOAN_S)
        except TimeoutError:
            self._silent_until = time.monotonic() + _SILENT_S
            raise ConnectionResetError("control is silent") from None
        finally:
            del self._waiting[number]


async def follow_control(
    act: Callable[[RoutingTable], Awaitable[None]], report: Callable[[bool], Report], borrower: Borrower
) -> None:
    """A gateway's side, for ever: act on each table, confirm it, answer questions."""
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(SOCKET)
        except OSError:
            await asyncio.sleep(_RETRY_S)
            continue
        try:
            writer.write(pack(report(False)))
            borrower.connected(writer)
            while True:
                order = await read(reader, Order)
                if order.granted is not None:
                    borrower.answered(order.loan_number, order.granted)
                    continue
                if order.table is not None:
                    await act(order.table)
                answer = report(bool(order.ask))
                answer.asked = order.ask
                writer.write(pack(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            borrower.connected(None)
            writer.close()
            await asyncio.sleep(_RETRY_S)
