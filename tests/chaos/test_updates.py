"""Updates, roll-backs, scaling up and down, of a model that is called and of one whose streams are open."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos import naps
from tests.chaos.callers import LONG, Callers, deployed, grpc, http, streams
from tests.chaos.conftest import Line
from tests.services.conftest import Server

pytestmark = [pytest.mark.xdist_group("chaos"), pytest.mark.timeout(1200)]
CHANGES = 50 if LONG else 6
STEPS = ("update", "scale up", "roll back", "scale down", "update", "streams too")


def change(server: Server, number: int) -> None:
    """One change of ``changed``; every sixth time of ``recited``, too."""
    spec: dict[str, Any] = naps.spec(1)
    step = STEPS[number % len(STEPS)]
    with server.client() as client:
        if step == "update":
            server.push("changed", naps.model(seed=number + 1))
            client.deploy("changed", **spec, replicas=2)
        elif step == "scale up":
            client.deploy("changed", **spec, replicas=3)
        elif step == "scale down":
            client.deploy("changed", **spec, replicas=1)
        elif step == "roll back":
            assert client.deployments.rollback("changed").state == "ready"
        else:
            server.push("recited", naps.words(seed=number + 1))
            client.deploy("recited", runtime="words", replicas=2)


def test_changes_under_load_lose_nothing(tree: Server, line: Line) -> None:
    with (
        deployed(tree, "changed", naps.model(), **naps.spec(1, replicas=2)),
        deployed(tree, "recited", naps.words(), runtime="words", replicas=2),
        Callers(tree, [http(tree, "changed", 500), grpc(tree, "changed", 50), streams(tree, "recited", 2)]) as callers,
    ):
        for number in range(CHANGES):
            change(tree, number)
    line(f"{CHANGES} updates, roll-backs, scalings", callers, f"{callers['streams']['answered']} whole streams")
    assert callers.failures == {}
