"""Replicas that die, hang, or are killed by what they are asked: no request is lost."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, all_ready, grpc, http, metric, replicas, streams, wait_until
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
KILLS = 200 if LONG else 10


def test_kills_of_replicas(tree: Server, line: Line) -> None:
    tree.deploy("killed", naps.model(), **naps.spec(1, replicas=3))
    tree.deploy("words", naps.words(), runtime="words", replicas=2)
    rng = random.Random(1)
    with Callers([http(tree, "killed", 500), grpc(tree, "killed", 50), streams(tree, "words", 2)]) as callers:
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.2, 1.0))
            victims = replicas(tree, "killed")
            if victims:
                rng.choice(victims).kill()
        time.sleep(1)
    retried = metric(tree, "modelport_retries_total", endpoint="killed")
    line(
        f"{KILLS} kill -9 of replicas, streams open", callers.total("sent"), callers.total("answered"),
        sum(sum(f["failures"].values()) for f in callers.found.values()), retried, callers.longest_gap_s,
    )  # fmt: skip
    assert callers.failures == {}
    assert callers.total("sent") > 500 * 0.5 * KILLS
