"""Durable jobs on real servers: what a kill of anything costs, and everything else that callers see."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import job_kinds
from tests.services.conftest import Server

API = "/api/v1"


class Caller:
    """Plain HTTP to one server."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **rest: Any) -> Any:
        headers = {"x-api-key": self.server.token, **rest.pop("headers", {})}
        answer = httpx.request(method, self.server.url + API + path, json=body, headers=headers, timeout=30, **rest)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.headers.get("content-type") == "application/json" else answer.text

    def submit(self, kind: str, params: dict[str, Any] | None = None, **more: Any) -> str:
        return self("POST", "/jobs", {"kind": kind, "params": params or {}, **more}, 202)["id"]

    def wait(self, job_id: str, until: Callable[[dict[str, Any]], bool] | None = None, s: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + s
        while True:
            try:
                job = self("GET", f"/jobs/{job_id}")
            except (httpx.TransportError, AssertionError, FileNotFoundError):
                job = {"state": "nobody answers"}
            if (until or (lambda job: job["state"] in ("succeeded", "failed", "cancelled")))(job):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.05)


def workers_of(server: Server) -> list[psutil.Process]:
    found = []
    for process in server.tree():
        try:
            if "modelport.control.worker" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def counted(to: int) -> str:
    return hashlib.sha256("".join(f"{n}\n" for n in range(to)).encode()).hexdigest()


def is_at(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda job: (job.get("progress") or {}).get("done", 0) >= number


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with the kinds of the tests, shared."""
    folder = tmp_path_factory.mktemp("jobs")
    env = {**job_kinds.install(folder / "kinds"), "MODELPORT_JOBS_CORES": "2", "MODELPORT_JOBS_BACKOFF_S": "0.1"}
    found = Server(folder / "home", ("--gateways", "1"), {**env, "MODELPORT_JOBS_GRACE_S": "1"}).start()
    yield found
    found.stop()


@pytest.fixture
def call(job_server: Server) -> Caller:
    return Caller(job_server)


@pytest.fixture
def own(own_server: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """Servers with the kinds of the tests that one test may kill."""

    def start(**env: str) -> Server:
        return own_server(
            "--gateways", "1", **job_kinds.install(tmp_path / "kinds"), MODELPORT_JOBS_BACKOFF_S="0.1", **env
        )

    return start


def test_a_job_from_submission_to_result(call: Caller, job_server: Server) -> None:
    job_id = call.submit("count", {"to": 30})
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", 1, counted(30))
    assert job["progress"]["done"] == job["progress"]["total"] == 30
    assert "begins at 0" in call("GET", f"/jobs/{job_id}/logs")
    assert [m["value"] for m in call("GET", f"/jobs/{job_id}/metrics")["items"]] == list(range(30))
    assert not (job_server.home / "jobs" / job_id).exists()
    assert job_id in [item["object"] for item in call("GET", "/audit")["items"]]


def test_a_killed_process_is_started_again_and_goes_on(call: Caller, job_server: Server) -> None:
    job_id = call.submit("count", {"to": 40})
    call.wait(job_id, is_at(10))
    (worker,) = workers_of(job_server)
    worker.kill()
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", 2, counted(40))
    assert job["result"]["begun_at"] >= 10


def test_a_killed_control_goes_on_with_its_jobs(own: Callable[..., Server]) -> None:
    server = own()
    call = Caller(server)
    job_id = call.submit("count", {"to": 60})
    call.wait(job_id, is_at(10))
    workers = workers_of(server)
    next(p for p in server.tree() if "modelport.api.control" in p.cmdline()).kill()
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers), "a job's process dies with control"
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", 2, counted(60))


def test_a_killed_tree_goes_on_with_its_jobs(own: Callable[..., Server]) -> None:
    server = own()
    call = Caller(server)
    ids = [call.submit("count", {"to": 60}), call.submit("count", {"to": 61}), call.submit("count", {"to": 1})]
    call.wait(ids[0], is_at(10))
    server.kill()
    server.start()
    jobs = [call.wait(job_id) for job_id in ids]
    assert [job["state"] for job in jobs] == ["succeeded"] * 3
    assert [job["result"]["sha256"] for job in jobs] == [counted(60), counted(61), counted(1)]
    assert jobs[0]["attempt"] == 2 and jobs[0]["result"]["begun_at"] >= 10
