"""Control's side of the channel to the gateways: tells them the table, waits for their word, asks for figures."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from modelport.api.channel import SOCKET, Order, Report, pack, read
from modelport.engine.allowance import Granted, Loan
from modelport.engine.routing import RoutingTable

_CONFIRM_S = 5.0
_ANSWER_S = 1.0


class Hub:
    """All connected gateways."""

    def __init__(self, lend: Callable[[Loan], Granted]) -> None:
        self._lend = lend
        self._table: RoutingTable | None = None
        self._gateways: dict[asyncio.StreamWriter, Report | None] = {}
        self._heard = asyncio.Condition()
        self._questions = itertools.count(1)

    async def open(self, folder: Path) -> None:
        """Listen in the run folder."""
        (folder / SOCKET).unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, SOCKET)

    @property
    def gateways(self) -> list[Report]:
        """The last word of each connected gateway."""
        return [report for report in self._gateways.values() if report is not None]

    async def publish(self, table: RoutingTable) -> None:
        """Tell every gateway; returns when each acts on it, or has not said so for 5 s (it is then stuck or dying)."""
        self._table = table
        message = pack(Order(table))
        for writer in self._gateways:
            writer.write(message)

        def all_confirmed() -> bool:
            return all(report is not None and report.number >= table.number for report in self._gateways.values())

        await self._wait(all_confirmed, _CONFIRM_S)

    async def figures(self) -> list[Report]:
        """What every gateway has counted until now."""
        question = next(self._questions)
        message = pack(Order(ask=question))
        for writer in self._gateways:
            writer.write(message)

        def all_answered() -> bool:
            return all(report is not None and report.asked >= question for report in self._gateways.values())

        await self._wait(all_answered, _ANSWER_S)
        return [report for report in self.gateways if report.asked >= question and not report.guest]

    async def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        async with self._heard:
            try:
                await asyncio.wait_for(self._heard.wait_for(condition), seconds)
            except TimeoutError:
                return

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._gateways[writer] = None
        try:
            if self._table is not None:
                writer.write(pack(Order(self._table)))
            while True:
                report = await read(reader, Report)
                if report.loan is not None:
                    granted = msgspec.structs.replace(self._lend(report.loan), gateways=len(self._gateways))
                    if report.loan_number:
                        writer.write(pack(Order(granted=granted, loan_number=report.loan_number)))
                    continue
                async with self._heard:
                    self._gateways[writer] = report
                    self._heard.notify_all()
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):  # gone, or we are stopping
            pass
        finally:
            async with self._heard:
                del self._gateways[writer]
                self._heard.notify_all()
            writer.close()
