"""Nothing grows: memory while callers call, and everything back after models have come and gone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import psutil
import pytest
from scipy.stats import theilslopes

from tests import onnx_models
from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, deployed, grpc, http, of, streams, wait_until
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(7200)]
SECONDS = 3600 if LONG else 6
RATE = float(os.environ.get("MODELPORT_SOAK_RATE", "500"))
"""Requests a second; others may need the machine for the hour."""
EVERY_S = 5.0 if LONG else 0.5
MODELS = 500 if LONG else 4
AT_ONCE = 5 if LONG else 2
BLOCKS = 12
MOST_MB_PER_HOUR = 0.5
"""What growth may be at the lower end of its interval."""
MOST_MB = 60.0 if LONG else 16.0
"""What one process may have grown by afterwards: what Python keeps, not what models took."""


@dataclass
class Held:
    """What the tree holds, apart from the replicas."""

    processes: int = 0
    handles: dict[str, int] = field(default_factory=dict)
    memory_mb: dict[str, float] = field(default_factory=dict)
    shared: int = 0
    """Mapped slabs and marks."""
    files: int = 0
    """In the run folder."""

    def shown(self) -> str:
        return (
            f"{self.processes} processes, {sum(self.handles.values())} handles, {self.shared} shared maps, "
            f"{self.files} run files, {sum(self.memory_mb.values()):.0f} MB"
        )


def named(server: Server) -> dict[str, psutil.Process]:
    """Supervisor, control and gateways."""
    assert server.process is not None
    found = {"supervisor": psutil.Process(server.process.pid)}
    for process in [*of(server, "modelport.api.control"), *of(server, "modelport.api.gateway")]:
        found[" ".join(process.cmdline()[2:4]).removeprefix("modelport.api.")] = process
    return found


def held(server: Server) -> Held:
    seen = Held(processes=len(server.tree()), files=len(list((server.home / "run").iterdir())))
    for name, process in named(server).items():
        seen.handles[name] = process.num_fds()
        seen.memory_mb[name] = process.memory_info().rss / 1e6
        seen.shared += sum(
            "memfd:modelport" in m.path or ".running" in m.path for m in process.memory_maps(grouped=False)
        )
    return seen


def come_and_go(server: Server, names: Iterable[str]) -> None:
    """Deploy models, call them, remove them and their versions."""
    with server.client() as client:
        for some in batched_names(names):
            for name in some:
                server.push(name, onnx_models.mlp((3, 8, 2)))
                client.deploy(name, wait=False)
            for name in some:
                wait_until(lambda name=name: client.deployments.get(name).state == "ready", f"{name} is ready")
                client.predict(name, [[1.0, 2.0, 3.0]])
            for name in some:
                client.undeploy(name)
                client.models.delete(name)


def batched_names(names: Iterable[str]) -> Iterable[list[str]]:
    every = list(names)
    return [every[start : start + AT_ONCE] for start in range(0, len(every), AT_ONCE)]


def test_models_come_and_go_and_leave_nothing(tree: Server, line: Line) -> None:
    come_and_go(tree, (f"warm-{number}" for number in range(2 * AT_ONCE)))
    before, replicas = settled(tree)
    with (
        deployed(tree, "steady-beside", naps.model(), **naps.spec(1)),
        Callers(tree, [http(tree, "steady-beside", 50)]) as callers,
    ):
        come_and_go(tree, (f"passing-{number}" for number in range(MODELS)))
    after, left = settled(tree, before)
    grown = {name: after.memory_mb[name] - before.memory_mb[name] for name in before.memory_mb}
    shown = ", ".join(f"{name} {more:+.1f}" for name, more in grown.items())
    line(f"{MODELS} models deployed and removed", callers, f"{before.shown()} → {after.shown()}; MB: {shown}")
    assert callers.failures == {}
    assert left == replicas
    assert after.processes == before.processes
    assert after.files == before.files
    assert after.shared == before.shared
    for name, handles in before.handles.items():
        assert after.handles[name] <= handles + 2, f"{name}: {handles} handles, then {after.handles[name]}"
    assert max(grown.values()) < MOST_MB, grown


def settled(server: Server, like: Held | None = None) -> tuple[Held, int]:
    """What is held when replicas have ended: soon, or never."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        time.sleep(0.5)
        seen = held(server)
        if like is None and time.monotonic() > deadline - 12:
            break
        if like is not None and (seen.processes, seen.files, seen.shared) == (like.processes, like.files, like.shared):
            break
    return seen, len(of(server, "modelport.engine.replica"))


def slope(seconds: list[float], megabytes: list[float]) -> tuple[float, float, float]:
    """MB per hour and its 95 % confidence interval, over the second half, when all is warm.

    Theil and Sen's, over the medians of blocks: samples beside each other are no independent witnesses, and pages of a
    library that are touched once are a step, no slope.
    """
    half = len(seconds) // 2
    hours = [float(block.mean()) / 3600 for block in np.array_split(seconds[half:], BLOCKS)]
    sizes = [float(np.median(block)) for block in np.array_split(megabytes[half:], BLOCKS)]
    found = theilslopes(sizes, hours, 0.95)
    return found.slope, found.low_slope, found.high_slope


@pytest.mark.long
def test_soak(tree: Server, line: Line) -> None:
    times: list[float] = []
    sizes: dict[str, list[float]] = {}
    with (
        deployed(tree, "soaked", naps.model(), **naps.spec(1, replicas=2)),
        deployed(tree, "soaked-words", naps.words(), runtime="words"),
    ):
        plans = [http(tree, "soaked", RATE), grpc(tree, "soaked", RATE / 25), streams(tree, "soaked-words", 1)]
        with Callers(tree, plans) as callers:
            began = time.monotonic()
            watched = named(tree) | {
                f"replica {number}": process for number, process in enumerate(of(tree, "modelport.engine.replica"))
            }
            while time.monotonic() - began < SECONDS:
                time.sleep(EVERY_S)
                times.append(time.monotonic() - began)
                for name, process in watched.items():
                    sizes.setdefault(name, []).append(process.memory_info().rss / 1e6)
    slopes = {name: slope(times, values) for name, values in sizes.items()} if LONG else {}  # none in seconds
    shown = ", ".join(f"{name} {rate:+.1f} ({low:+.1f} to {high:+.1f})" for name, (rate, low, high) in slopes.items())
    line(f"soak of {SECONDS} s", callers, f"MB/h, 95 %: {shown}" if LONG else growth(sizes))
    assert callers.failures == {}
    assert all(low <= MOST_MB_PER_HOUR for _, low, _ in slopes.values()), shown
    assert all(values[-1] - values[len(values) // 2] < 8 for values in sizes.values()), growth(sizes)


def growth(sizes: dict[str, list[float]]) -> str:
    """By how many MB each process has grown in the second half."""
    return "MB: " + ", ".join(f"{name} {values[-1] - values[len(values) // 2]:+.1f}" for name, values in sizes.items())
