"""What tests of jobs share: plain HTTP to one server, and its jobs' processes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from tests.services.conftest import Server

API = "/api/v1"


class Caller:
    """Plain HTTP to one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # one client, for each costs 20 ms; no connection is kept, for the server may be another one by the next call
        self._client = httpx.Client(timeout=30, limits=httpx.Limits(max_keepalive_connections=0))

    def __call__(self, method: str, path: str, body: Any = None, status: int = 200, **rest: Any) -> Any:
        headers = {"x-api-key": self.server.token, **rest.pop("headers", {})}
        answer = self._client.request(method, self.server.url + API + path, json=body, headers=headers, **rest)
        assert answer.status_code == status, answer.text
        is_json = answer.content and answer.headers.get("content-type") == "application/json"
        return answer.json() if is_json else answer.text

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
            if "modelport.control.jobs.worker" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def counted(to: int) -> str:
    return hashlib.sha256("".join(f"{n}\n" for n in range(to)).encode()).hexdigest()


def is_at(number: int) -> Callable[[dict[str, Any]], bool]:
    return lambda job: (job.get("progress") or {}).get("done", 0) >= number
