"""Gateways restarted and killed, control killed: what each costs whom."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, all_ready, deployed, grpc, http, kill, of, replicas, streams, wait_until
from tests.chaos.client import Plan
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
ROUNDS = 20 if LONG else 1
CONTROL_KILLS = 20 if LONG else 2
CONNECTIONS = 16


@pytest.fixture(scope="module")
def serving(tree: Server) -> Iterator[Server]:
    with (
        deployed(tree, "steady", naps.model(), **naps.spec(1, replicas=2)),
        deployed(tree, "talking", naps.words(), runtime="words", replicas=2),
    ):
        yield tree


def everybody(server: Server) -> list[Plan]:
    return [
        http(server, "steady", 500, connections=CONNECTIONS),
        grpc(server, "steady", 50),
        streams(server, "talking", 2),
    ]


def gateways(server: Server) -> dict[int, psutil.Process]:
    """The newest process of each index."""
    found = sorted(of(server, "modelport.api.gateway"), key=lambda process: process.create_time())
    return {int(process.cmdline()[3]): process for process in found}


def each_gateway(server: Server, signum: int, most: int | None = None) -> None:
    """One at a time; the next when the successor answers."""
    for index, old in list(gateways(server).items())[:most]:
        old.send_signal(signum)
        wait_until(lambda old=old: not old.is_running(), "the gateway ends")
        wait_until(lambda index=index, old=old: gateways(server).get(index, old) != old, "its successor starts")
        time.sleep(1.5)  # until it answers


def test_restarts_of_gateways_lose_nothing(serving: Server, line: Line) -> None:
    with Callers(serving, everybody(serving)) as callers:
        time.sleep(0.5)
        for _ in range(ROUNDS):
            each_gateway(serving, signal.SIGTERM)
    callers.retried = 0  # a gateway takes its figures along
    line(f"{ROUNDS} restarts (SIGTERM) of each gateway", callers, f"max {callers['HTTP']['latency_ms']['max']:.0f} ms")
    assert callers.failures == {}


def test_a_killed_gateway_loses_what_it_held_and_no_more(serving: Server, line: Line) -> None:
    """Its connections end with it: requests under way there are cut, which a caller sees, and may send again."""
    with Callers(serving, everybody(serving)) as callers:
        time.sleep(0.5)
        for _ in range(ROUNDS):
            each_gateway(serving, signal.SIGKILL)
    callers.retried = 0
    kills = 2 * ROUNDS
    lost = {name: sum(found["failures"].values()) for name, found in callers.found.items()}
    shown = ", ".join(f"{count} {name}" for name, count in lost.items())
    line(f"{kills} kill -9 of gateways", callers, f"in flight at the kill: {shown}")
    allowed = {"HTTP": {"connection lost without an answer"}, "gRPC": {"gRPC UNAVAILABLE"}, "streams": None}
    for name, found in callers.found.items():
        reasons = set(found["failures"])
        assert allowed[name] is None or reasons <= allowed[name], callers.failures
    assert lost["HTTP"] <= CONNECTIONS * kills
    assert lost["streams"] <= 2 * kills
    assert lost["gRPC"] <= 10 * kills


def test_a_gateway_restarts_while_the_only_replica_is_busy(tree: Server) -> None:
    """The new gateway is greeted when the replica's stream has ended, and is not forgotten meanwhile."""
    with deployed(tree, "busy", naps.words(), runtime="words"):
        plan = streams(tree, "busy", 1)
        with Callers(tree, [plan]) as callers:
            time.sleep(0.3)
            each_gateway(tree, signal.SIGKILL, most=1)
        with Callers(tree, [streams(tree, "busy", 2)]) as callers:
            time.sleep(1)
        assert callers.failures == {}
        assert callers.total("answered") >= 2


def test_predictions_go_on_while_control_is_killed(serving: Server, line: Line) -> None:
    with Callers(serving, everybody(serving)) as callers:
        for number in range(CONTROL_KILLS):
            of(serving, "modelport.api.control")[0].kill()
            if number % 2:
                time.sleep(0.1)
                kill(replicas_alone(serving)[0])  # nobody is there to replace it yet
            wait_until(lambda: all_ready(serving, "steady", 2) and all_ready(serving, "talking", 2), "control is back")
    callers.retried = max(0.0, callers.retried)
    line(f"{CONTROL_KILLS} kill -9 of control, half with a replica's", callers)
    assert callers.failures == {}


def replicas_alone(server: Server) -> list[psutil.Process]:
    """The replicas of ``steady``, found without control: those that are not ``talking``."""
    return [process for process in replicas(server) if naps.MILLISECONDS in process.environ()]
