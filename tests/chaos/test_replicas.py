"""Replicas that die, hang, or are killed by what they are asked: no request of anybody else is lost."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.error
import urllib.request

import pytest

from tests.chaos import naps
from tests.chaos.callers import (
    LONG,
    Callers,
    all_ready,
    deployed,
    grpc,
    http,
    kill,
    metric,
    replicas,
    streams,
    wait_until,
)
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
KILLS = 200 if LONG else 10
BUSY_KILLS = 200 if LONG else 4
SHARE = 0.75 if LONG else 0.6  # beside other tests a machine of two cores falls behind its own measure
HANGS = 10 if LONG else 1
POISONS = 50 if LONG else 2


def test_kills_of_replicas_lose_nothing(tree: Server, line: Line) -> None:
    rng = random.Random(1)
    with (
        deployed(tree, "killed", naps.model(), **naps.spec(1, replicas=3)),
        deployed(tree, "spared", naps.words(), runtime="words", replicas=2),
    ):
        plans = [http(tree, "killed", 500), grpc(tree, "killed", 50), streams(tree, "spared", 2)]
        with Callers(tree, plans) as callers:
            for _ in range(KILLS):
                time.sleep(rng.uniform(0.2, 1.0))
                victims = replicas(tree, "killed")
                if victims:
                    kill(rng.choice(victims))
            time.sleep(1)
    line(f"{KILLS} kill -9 of replicas", callers)
    assert callers.failures == {}
    assert callers.total("sent") > 500 * 0.4 * KILLS


def capacity(server: Server, model: str, seconds: float = 2) -> float:
    """Answers per second to callers who ask again at once."""
    with Callers(server, [http(server, model, 0, connections=32)]) as callers:
        time.sleep(seconds)
    return float(callers["HTTP"]["answered"] / callers["HTTP"]["seconds"])


@pytest.mark.long
def test_kills_of_busy_replicas_lose_nothing(tree: Server, line: Line) -> None:
    rng = random.Random(2)
    with deployed(tree, "loaded", naps.model("alone"), **naps.spec(5, replicas=4)):
        most = capacity(tree, "loaded")
        ran = -metric(tree, "modelport_compute_seconds_total", endpoint="loaded")
        with Callers(tree, [http(tree, "loaded", SHARE * most)]) as callers:
            for _ in range(BUSY_KILLS):
                time.sleep(rng.uniform(0.2, 1.0))
                kill(rng.choice(replicas(tree, "loaded")))
                wait_until(lambda: all_ready(tree, "loaded", 4), "the replica is replaced")
        ran += metric(tree, "modelport_compute_seconds_total", endpoint="loaded")
        busy = ran / 4 / callers["HTTP"]["seconds"]
        shown = "p50 {p50:.0f} p99 {p99:.0f} max {max:.0f} ms".format(**callers["HTTP"]["latency_ms"])
    line(
        f"{BUSY_KILLS} kill -9 of replicas at {SHARE:.0%} of {most:.0f}/s",
        callers,
        f"replicas busy {busy:.0%}, {shown}",
    )
    assert callers.failures == {}


def test_a_hanging_replica_is_found_and_its_work_is_done_by_another(tree: Server, line: Line) -> None:
    with deployed(tree, "hangs", naps.model(), **naps.spec(1, replicas=2)):
        with Callers(tree, [http(tree, "hangs", 500), grpc(tree, "hangs", 50)]) as callers:
            found = 0.0
            for _ in range(HANGS):
                time.sleep(0.5)
                victim = replicas(tree, "hangs")[0]
                victim.send_signal(signal.SIGSTOP)
                found = max(found, wait_until(lambda victim=victim: not victim.is_running(), "it is killed", 20))
                wait_until(lambda: all_ready(tree, "hangs", 2), "it is replaced")
        slowest = max(found_["latency_ms"]["max"] for found_ in callers.found.values()) / 1e3
    line(f"{HANGS} SIGSTOP of a replica", callers, f"found after {found:.1f} s at most, slowest answer {slowest:.1f} s")
    assert callers.failures == {}
    assert callers.retried >= HANGS


def ask(server: Server, model: str, value: float) -> tuple[int, str]:
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [value]}]}
    request = urllib.request.Request(f"{server.url}/v2/models/{model}/infer", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_poison_ends_as_one_error_and_takes_no_neighbour_along(tree: Server, line: Line) -> None:
    with deployed(tree, "poisoned", naps.model(), **naps.spec(1, replicas=3)):
        restarts = -metric(tree, "modelport_replica_restarts_total", endpoint="poisoned")
        answers, took = [], 0.0
        with Callers(tree, [http(tree, "poisoned", 500), grpc(tree, "poisoned", 50)]) as callers:
            for number in range(POISONS):
                began = time.monotonic()
                answers.append(ask(tree, "poisoned", naps.DEADLY - number))
                took = max(took, time.monotonic() - began)
                wait_until(lambda: all_ready(tree, "poisoned", 3), "the replicas are replaced")
            again = [ask(tree, "poisoned", naps.DEADLY) for _ in range(8)]
        restarts += metric(tree, "modelport_replica_restarts_total", endpoint="poisoned")
    line(
        f"{POISONS} poisonous requests among others",
        callers,
        f"each one 500, within {took:.1f} s; {restarts:.0f} deaths",
    )
    assert callers.failures == {}
    for status, text in [*answers, *again]:
        assert status == 500
        assert "died" in text or "killed its replica" in text
    assert restarts <= 3 * POISONS + 3
