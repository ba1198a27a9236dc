"""More than can be answered: what is admitted is answered soon, the rest is told at once, and a flood is the flooder's.

Settings are the server's own. The model sleeps for 10 ms, one request at a time, so that its capacity is known and
callers do not take its processor.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, deployed, http, of
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
SECONDS = 60 if LONG else 4
WARM = 20 if LONG else 3
"""Seconds until as many connections, heads and requests have been seen as there are at a time."""
LEAST_GOODPUT = 0.9 if LONG else 0.8
REFUSED_MS = 50 if LONG else 250
SLOWEST_MS = 1000 if LONG else 1500
FAIR = 2.0 if LONG else 4.0
FAIR_SECONDS = 30 if LONG else 4


def resident(server: Server) -> float:
    """MB of the gateways together."""
    return float(sum(process.memory_info().rss for process in of(server, "modelport.api.gateway")) / 1e6)


def offer(server: Server, rate: float, seconds: int, **more: Any) -> tuple[Callers, list[float]]:
    """What became of the requests, and the gateways' memory in MB second by second."""
    sizes = []
    with Callers(server, [http(server, "overloaded", rate, **more)]) as callers:
        for _ in range(seconds):
            time.sleep(1)
            sizes.append(resident(server))
    return callers, sizes


@pytest.mark.parametrize("times", [3, 10])
def test_overload(tree: Server, line: Line, times: int) -> None:
    with deployed(tree, "overloaded", naps.model("alone"), **naps.spec(10)):
        alone = offer(tree, 0, 2, connections=8)[0]["HTTP"]  # a closed loop: what it can do
        most = alone["answered"] / alone["seconds"]
        before = resident(tree)
        callers, sizes = offer(tree, times * most, SECONDS, connections=128)
        last = resident(tree)
    found = callers["HTTP"]
    goodput = found["answered"] / found["seconds"] / most
    admitted, refused = found["latency_ms"], found["refused_ms"]
    callers.found["HTTP"]["statuses"].pop("429", None)  # as it should be
    line(
        f"{times} x {most:.0f}/s offered for {SECONDS} s", callers,
        f"goodput {goodput:.2f}, admitted p50 {admitted['p50']:.0f} p99 {admitted['p99']:.0f} ms, "
        f"429 p50 {refused['p50']:.1f} p99 {refused['p99']:.1f} max {refused['max']:.0f} ms, "
        f"memory {sizes[WARM - 1] - before:+.1f} MB in {WARM} s, then {last - sizes[WARM - 1]:+.1f} MB",
    )  # fmt: skip
    assert callers.failures == {}
    assert goodput >= LEAST_GOODPUT
    assert admitted["p99"] < SLOWEST_MS
    assert refused["p99"] < REFUSED_MS
    assert sizes[WARM - 1] - before < 20
    assert last - sizes[WARM - 1] < 2, sizes


def test_a_flood_by_one_key_is_not_the_others(plugged: dict[str, str], tmp_path: Path, line: Line) -> None:
    server = Server(tmp_path / "home", env=plugged).start()  # its own: the first key closes the door to those without
    try:
        with server.client() as client:
            headers = {
                name: {"authorization": f"Bearer {client.keys.create(name).secret}"} for name in ("polite", "flood")
            }
        server.deploy("shared", naps.model("alone"), **naps.spec(10))
        polite = http(server, "shared", 10, "polite", headers=headers["polite"], poisson=True)
        flood = http(server, "shared", 300, "flood", headers=headers["flood"], connections=128)
        with Callers(server, [polite]) as alone:
            time.sleep(FAIR_SECONDS)
        with Callers(server, [flood, polite]) as callers:
            time.sleep(FAIR_SECONDS)
    finally:
        server.stop()
    before, after = alone["polite"]["latency_ms"], callers["polite"]["latency_ms"]
    callers["flood"]["statuses"].pop("429", None)
    line(
        "a key asks for 3 x the capacity", callers,
        f"another key's p99 {before['p99']:.1f} ms alone, {after['p99']:.1f} ms beside it "
        f"({after['p99'] / before['p99']:.1f} x); p50 {before['p50']:.1f}, {after['p50']:.1f}",
    )  # fmt: skip
    assert callers.failures == {}
    share = "p99" if LONG else "p90"  # of so few requests the slowest is chance
    assert after[share] <= FAIR * before[share]
