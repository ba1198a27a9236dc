"""Gateways restarted and killed, control killed: what each costs whom."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, grpc, http, of, streams, wait_until
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
ROUNDS = 20 if LONG else 1


@pytest.fixture(scope="module")
def serving(tree: Server) -> Iterator[Server]:
    tree.deploy("steady", naps.model(), **naps.spec(1, replicas=2))
    tree.deploy("steady-words", naps.words(), runtime="words", replicas=2)
    yield tree
    with tree.client() as client:
        client.undeploy("steady")
        client.undeploy("steady-words")


def each_gateway(server: Server, signum: int) -> None:
    """One at a time; the next when the successor answers."""
    for index in range(len(of(server, "modelport.api.gateway"))):
        old = next(p for p in of(server, "modelport.api.gateway") if p.cmdline()[-2] == str(index))
        old.send_signal(signum)
        wait_until(lambda old=old: not old.is_running(), "the gateway ends")
        wait_until(
            lambda index=index: any(p.cmdline()[-2] == str(index) for p in of(server, "modelport.api.gateway")),
            "its successor starts",
        )
        time.sleep(2.5)  # until it answers, and a little


def test_restarts_of_gateways_lose_nothing(serving: Server, line: Line) -> None:
    plans = [http(serving, "steady", 500), grpc(serving, "steady", 50), streams(serving, "steady-words", 2)]
    with Callers(plans) as callers:
        time.sleep(0.5)
        for _ in range(ROUNDS):
            each_gateway(serving, signal.SIGTERM)
    line(
        f"{ROUNDS} restarts (SIGTERM) of each gateway", callers.total("sent"), callers.total("answered"),
        callers.failed, None, callers.longest_gap_s,
    )  # fmt: skip
    print(callers.failures)
    assert callers.failures == {}
