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
PAUSE_S = 8
HANGS = 5 if LONG else 1
CONNECTIONS = 16
MOST_CONNECTIONS = 400


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
    module = "modelport.api.gateway"
    found = sorted(of(server, module), key=lambda process: process.create_time())
    argv = [(process.cmdline(), process) for process in found]
    return {int(words[words.index(module) + 1]): process for words, process in argv}


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
    # a call that arrives between gRPC's shutdown and its GOAWAY is cancelled by its C core (grpc/grpc#41785)
    cancelled = callers.found["gRPC"]["failures"].pop("gRPC CANCELLED", 0)
    assert cancelled <= 2 * ROUNDS
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


def test_a_hung_gateway_is_found_and_replaced(serving: Server, line: Line) -> None:
    """SIGSTOP: its callers hear nothing until it is killed; whoever is at the other one notices nothing."""
    other = gateways(serving)[1]
    with Callers(serving, everybody(serving)) as callers:
        time.sleep(0.5)
        for _ in range(HANGS):
            hangs = gateways(serving)[0]
            hangs.suspend()
            found = wait_until(lambda hangs=hangs: not hangs.is_running(), "the hung gateway is killed")
            wait_until(lambda hangs=hangs: gateways(serving).get(0, hangs) != hangs, "its successor starts")
            time.sleep(1.5)  # until it answers
    callers.retried = 0
    lost = {name: sum(group["failures"].values()) for name, group in callers.found.items()}
    shown = ", ".join(f"{count} {name}" for name, count in lost.items())
    line(f"{HANGS} gateways hung (SIGSTOP)", callers, f"killed after {found:.1f} s; cut: {shown}")
    assert gateways(serving)[1] == other, "a gateway that was well has been killed"
    assert heard_by_control(serving) == {0, 1}
    assert callers["HTTP"]["answered"] > 0.9 * callers["HTTP"]["sent"]
    assert set(callers["HTTP"]["failures"]) <= {"connection lost without an answer"}, callers.failures
    assert lost["HTTP"] <= MOST_CONNECTIONS * HANGS


@pytest.mark.long
def test_a_pause_of_the_whole_machine_is_nobodys_fault(serving: Server) -> None:
    assert serving.process is not None
    before = gateways(serving)
    tree = [psutil.Process(serving.process.pid), *serving.tree()]
    for process in tree:
        process.suspend()
    time.sleep(PAUSE_S)
    for process in tree:  # the supervisor first, which hears nothing from the others
        process.resume()
    with Callers(serving, everybody(serving)) as callers:
        time.sleep(2)
    assert callers.failures == {}
    assert gateways(serving) == before


def heard_by_control(server: Server) -> set[int]:
    """Which gateways listen to control."""
    with server.client() as client:
        return {int(gateway.name.rpartition("-")[2]) for gateway in client.status().gateways if gateway.connected}


@pytest.mark.long
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
