"""The gate that every job passes before its process starts: cores, memory and GPUs, by priority and then by age.

Strict: the first in line goes first, and nothing smaller slips past it, so that a large job is never starved. Lives on
one event loop; knows no job but its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelport.errors import InvalidInput
from modelport.schemas.jobs import Resources, ResourcesAsked

_SHARE_OF_MEMORY = 0.8
#: How long a job that was submitted may take to come to the gate before others go first.
_PATIENCE_S = 5.0
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, slots=True)
class Capacity:
    """What all running jobs may hold together."""

    cores: float
    memory_mb: int
    gpus: int

    @classmethod
    def of(cls, cores: float, memory_mb: int) -> Capacity:
        """From the settings, where 0 asks the machine."""
        return cls(cores or machine_cores(), memory_mb or int(machine_memory_mb() * _SHARE_OF_MEMORY), machine_gpus())

    def grant(self, asked: ResourcesAsked, least_mb: int = 64) -> Resources:
        """What a job gets for what it asks; raises InvalidInput for more than there is, and for memory below what its
        kind needs to begin."""
        cores = min(1.0, self.cores) if asked.cores is None else asked.cores
        share = max(least_mb, int(self.memory_mb * min(1.0, max(cores, 0.1) / self.cores)))
        memory = share if asked.memory_mb is None else asked.memory_mb
        if memory < least_mb:
            raise InvalidInput(
                f"resources.memory_mb: {memory} asked, a job of this kind needs {least_mb} to begin; ask for more "
                f"(`--memory-mb {least_mb}`), or leave it out"
            )
        for name, wanted, there in (
            ("cores", cores, self.cores),
            ("memory_mb", memory, self.memory_mb),
            ("gpus", asked.gpus, self.gpus),
        ):
            if wanted > there:
                raise InvalidInput(
                    f"resources.{name}: {wanted:g} asked, jobs have {there:g} here; ask for less, or have the operator "
                    f"raise {'what the machine has' if name == 'gpus' else 'MODELPORT_JOBS_' + name.upper()}"
                )
        return Resources(cores=cores, memory_mb=memory, gpus=asked.gpus)


@dataclass(order=True, slots=True)
class _Waiter:
    rank: tuple[int, str]
    needs: Resources = field(compare=False)
    called: asyncio.Future[tuple[int, ...]] = field(compare=False)


class Gate:
    """Who may run."""

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._cores, self._memory = capacity.cores, capacity.memory_mb
        self._gpus = set(range(capacity.gpus))
        self._waiting: list[_Waiter] = []
        self._expected: dict[str, tuple[int, str]] = {}

    def expect(self, job_id: str, priority: int) -> None:
        """A job is on its way: nobody behind it goes first meanwhile, unless it takes too long."""
        self._expected[job_id] = (-priority, job_id)
        asyncio.get_running_loop().call_later(_PATIENCE_S, self.expect_no_more, job_id)

    def expect_no_more(self, job_id: str) -> None:
        """It will not come."""
        if self._expected.pop(job_id, None) is not None:
            self._call()

    @asynccontextmanager
    async def room(self, job_id: str, priority: int, needs: Resources) -> AsyncIterator[tuple[int, ...]]:
        """Hold what a job needs for as long as the block lasts; gives the numbers of its GPUs. Ids sort by age."""
        needs = self._at_most(needs)
        waiter = _Waiter((-priority, job_id), needs, asyncio.get_running_loop().create_future())
        self._expected.pop(job_id, None)
        self._waiting.append(waiter)
        self._waiting.sort()
        self._call()
        try:
            gpus = await waiter.called
        except asyncio.CancelledError:
            if waiter.called.done() and not waiter.called.cancelled():
                self._give_back(needs, waiter.called.result())
            else:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                self._call()
            raise
        try:
            yield gpus
        finally:
            self._give_back(needs, gpus)

    def _at_most(self, needs: Resources) -> Resources:
        """A job that was accepted by a larger machine still runs, alone."""
        capacity = self.capacity
        return Resources(
            cores=min(needs.cores, capacity.cores),
            memory_mb=min(needs.memory_mb, capacity.memory_mb),
            gpus=min(needs.gpus, capacity.gpus),
        )

    def _call(self) -> None:
        """Let in whoever is first, as long as there is room."""
        while self._waiting:
            first = self._waiting[0]
            if first.called.done():  # it was cancelled, and has not left yet
                self._waiting.pop(0)
                continue
            if any(rank < first.rank for rank in self._expected.values()):
                return
            needs = first.needs
            # Cores are fractions: a sum of them may miss the whole by a rounding error.
            if needs.cores > self._cores + 1e-9 or needs.memory_mb > self._memory or needs.gpus > len(self._gpus):
                return
            self._waiting.pop(0)
            self._cores -= needs.cores
            self._memory -= needs.memory_mb
            gpus = tuple(sorted(self._gpus)[: needs.gpus])
            self._gpus.difference_update(gpus)
            first.called.set_result(gpus)

    def _give_back(self, needs: Resources, gpus: tuple[int, ...]) -> None:
        self._cores += needs.cores
        self._memory += needs.memory_mb
        self._gpus.update(gpus)
        self._call()


def machine_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_memory_mb() -> int:
    """The machine's, or what the container may use of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit: "max"
        whole = min(whole, int(_CGROUP_LIMIT.read_text()))
    return int(whole) >> 20


def machine_gpus() -> int:
    """NVIDIA's, as the driver lists them."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
