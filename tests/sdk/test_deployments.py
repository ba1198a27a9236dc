"""Waiting for a deployment: when it ends, and how."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from modelport.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, Unavailable
from modelport.sdk import blocking, deployments
from modelport.sdk.deployments import DeploymentFailed
from tests.sdk.fake import client, native_error


class Clock:
    """Time that passes by pauses alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(deployments, "time", made)
    monkeypatch.setattr(blocking, "time", made)
    return made


def seen(state: str, revision: int = 1, **more: Any) -> httpx.Response:
    time = "2026-01-01T00:00:00Z"
    body = {
        "name": "m", "model": "m", "version": 2, "serving_version": None, "revision": revision,
        "serving_revision": None, "state": state, "replicas_ready": 0, "spec": {}, "created_at": time,
        "updated_at": time, **more,
    }  # fmt: skip
    return httpx.Response(202, json=body)


class Server:
    """Answers the PUT and then every GET in turn, the last for ever."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers, self.puts = list(answers), []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            self.puts.append(json.loads(request.content))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_it_comes_back_when_all_replicas_are_ready() -> None:
    server = Server(seen("starting"), seen("starting"), seen("degraded"), seen("ready"))
    states: list[str] = []
    made = client(server).deploy("m", replicas=2, progress=lambda found: states.append(found.state))
    assert made.state == "ready"
    assert states == ["starting", "starting", "degraded", "ready"]
    assert server.puts == [{"model": "m", "spec": {"replicas": 2}}]


def test_a_failure_tells_why_and_what_the_replica_wrote() -> None:
    server = Server(seen("starting"), seen("failed", reason="it did not load", log_tail=["boom"], serving_version=1))
    with pytest.raises(DeploymentFailed, match="it did not load; version 1 keeps serving\n  | boom") as caught:
        client(server).deploy("m")
    assert caught.value.deployment.log_tail == ["boom"]


def test_a_newer_wish_takes_its_place() -> None:
    with pytest.raises(Conflict, match="revision 2 took the place of 1"):
        client(Server(seen("starting"), seen("updating", 2))).deploy("m")


def test_it_waits_so_long_and_no_longer(clock: Clock) -> None:
    with pytest.raises(DeadlineExceeded, match="starting after 20 s"):
        client(Server(seen("starting"))).deploy("m", timeout=20)
    assert 20 <= clock.now < 21


def test_without_waiting() -> None:
    assert client(Server(seen("starting"))).deploy("m", wait=False).state == "starting"


def test_a_server_that_starts_again_meanwhile_is_waited_for(clock: Clock) -> None:
    away = native_error(503, "unavailable", "control is starting")
    assert client(Server(seen("starting"), away, away, seen("ready"))).deploy("m").state == "ready"
    with pytest.raises(Unavailable, match="control is starting"):
        client(Server(seen("starting"), away)).deploy("m")
    assert clock.now < 30


def test_the_wish_in_all_its_forms() -> None:
    server = Server(seen("ready"))
    client(server).deploy("m:3")
    client(server).deploy("m@champion", follow=True, endpoint="other")
    client(server).deploy("m", 4, max_delay_ms=1.5, env={"A": "b"})
    assert server.puts == [
        {"model": "m", "version": 3, "spec": {}},
        {"model": "m", "alias": "champion", "follow": True, "spec": {}},
        {"model": "m", "version": 4, "spec": {"max_delay_ms": 1.5, "env": {"A": "b"}}},
    ]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"replicas": -1}, "spec.replicas"),
        ({"nope": 1}, "spec.nope: .*it takes replicas, runtime, "),
        ({"memory": "lots"}, "spec.memory"),
        ({"cascade": {"first": "a", "foo": 1}}, "spec.cascade.foo: .*it takes first, mean_logprob, "),
        ({"engine": {"foo": 1}}, "spec.engine.foo: .*it takes max_model_len, "),
        ({"engine": {"max_model_len": "abc"}}, "spec.engine.max_model_len: .*; given 'abc'"),
    ],
)
def test_a_wrong_wish_names_its_field(spec: dict[str, Any], field: str) -> None:
    server = Server(seen("ready"))
    with pytest.raises(InvalidInput, match=field):
        client(server).deploy("m", **spec)
    assert not server.puts


def test_undeploy_waits_until_it_is_gone() -> None:
    gone = native_error(404, "not_found", "no m")
    client(Server(httpx.Response(204), seen("ready"), gone)).undeploy("m")
    with pytest.raises(NotFound):
        client(Server(gone)).undeploy("m")
    with pytest.raises(DeadlineExceeded, match="still there"):
        client(Server(httpx.Response(204), seen("ready"))).undeploy("m", timeout=1)


def test_logs_are_lines_and_errors_are_errors() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert dict(request.url.params) == {"tail": "5", "follow": "true", "replica": "r-1"}
        return httpx.Response(200, text="one\ntwo\n")

    assert list(client(answer).deployments.logs("m", follow=True, tail=5, replica="r-1")) == ["one", "two"]
    with pytest.raises(NotFound, match="no m"):
        list(client(Server(native_error(404, "not_found", "no m"))).deployments.logs("m"))
