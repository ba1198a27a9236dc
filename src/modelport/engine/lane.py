"""The way past a flood: further connections to each replica, whose frames are run before those that wait there.

A flood keeps the slot of a gateway at every replica taken; who calls now and then would wait behind frames that were
sent before it came. The connections are made when somebody first needs them. Knows links; knows no queue and no turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable

from modelport.engine.frames import Frame
from modelport.engine.link import Link
from modelport.engine.routing import ReplicaAddress

_WIDTH = 2
"""Connections to each replica: the next frame is there when one has been run, so that no frame of the flood comes
between."""


class Lane:
    """That of one endpoint. ``on_open`` hears that there is one more link in ``idle``."""

    def __init__(
        self,
        on_frame: Callable[[Link, Frame], None],
        on_lost: Callable[[Link], None],
        on_open: Callable[[], None],
    ) -> None:
        self.links: set[Link] = set()
        self.idle: deque[Link] = deque()
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._on_open = on_open
        self._opening: dict[asyncio.Task[None], str] = {}
        """To which replica."""

    def open(self, addresses: Iterable[ReplicaAddress]) -> None:
        """Connect to those of the replicas that are not connected yet."""
        count = Counter(link.address.id for link in self.links) + Counter(self._opening.values())
        for address in addresses:
            for _ in range(_WIDTH - count[address.id]):
                task = asyncio.ensure_future(self._connect(address))
                self._opening[task] = address.id
                task.add_done_callback(self._opening.pop)

    def keep(self, names: Collection[str]) -> None:
        """Let go of the links to all other replicas, as soon as nothing is under way there."""
        for task, name in self._opening.items():
            if name not in names:
                task.cancel()
        for link in [link for link in self.links if link.address.id not in names]:
            if link in self.idle:
                self.idle.remove(link)
            link.drain()

    def forget(self, link: Link) -> None:
        """It has been lost."""
        self.links.discard(link)
        if link in self.idle:
            self.idle.remove(link)

    def close(self) -> None:
        """Hang up at once."""
        self.keep(())
        for link in list(self.links):
            link.close()

    async def _connect(self, address: ReplicaAddress) -> None:
        link = Link(address, self._on_frame, self._on_lost, ahead=True)
        try:
            await link.connect()
        except (OSError, TimeoutError):  # who needs it asks again
            link.close()
            return
        except BaseException:
            link.close()
            raise
        self.links.add(link)
        self.idle.append(link)
        self._on_open()
