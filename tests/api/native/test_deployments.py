"""What a deployment is said to be, and the logs of replicas as they are followed."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from modelport.api.native.deployments import log_lines_since
from modelport.control.deployments import Deployments, Observation
from tests.api.native.test_models import push


def test_a_log_is_followed_by_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "replica.log"
    log.write_bytes(b"one\ntwo\nthr")
    assert log_lines_since(log, 4) == ("two\n", 8)
    assert log_lines_since(log, 8) == ("", 8)
    log.write_bytes(b"new\n")  # rotated
    assert log_lines_since(log, 8) == ("new\n", 4)


def test_a_line_of_many_megabytes_holds_up_no_follower(tmp_path: Path) -> None:
    log = tmp_path / "replica.log"
    written = b"x" * 2_500_000 + b"\nlast\n"
    log.write_bytes(written)
    seen, position = "", 0
    for _ in range(4):
        text, position = log_lines_since(log, position)
        seen += text
    assert (seen.encode(), position) == (written, len(written))


def test_an_unknown_name_in_a_wish_comes_with_the_known_ones(client: TestClient) -> None:
    wish = {"model": "digits", "spec": {"cascade": {"first": "small", "foo": 1}}}
    refused = client.put("/api/v1/deployments/m", json=wish)
    assert refused.status_code == 422
    assert refused.json()["error"]["message"].startswith(
        "body.spec.cascade.foo: Extra inputs are not permitted; it takes first, mean_logprob, "
    )


def test_fewer_replicas_are_ready_when_callers_reach_no_more_than_those(
    client: TestClient, deployments: Deployments
) -> None:
    """Between the wish and the gateways' word, the replicas that are to go still answer."""
    push(client)
    assert client.put("/api/v1/deployments/m", json={"model": "digits"}).is_success
    (wishes,) = deployments.wishes()
    deployments.proven(wishes.deployment_id, wishes.desired.number)
    said = {}
    for ready in (3, 1, 0):
        deployments.observe = lambda _, ready=ready: Observation(ready=ready, answering_revision=wishes.desired.number)
        said[ready] = client.get("/api/v1/deployments/m").json()["state"]
    assert said == {3: "updating", 1: "ready", 0: "starting"}
