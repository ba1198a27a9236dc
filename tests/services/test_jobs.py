"""Durable jobs on real servers: what a kill of anything costs, and everything else that callers see."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from modelport import AsyncClient, errors
from modelport.sdk.jobs import JobFailed
from tests.databases import postgres  # noqa: F401
from tests.services.conftest import Server
from tests.services.job_calls import Caller, counted, is_at, workers_of

KILLS = 20 if os.environ.get("MODELPORT_PROVE") else 2


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


def test_a_killed_control_goes_on_with_its_jobs(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server()
    call = Caller(server)
    job_id = call.submit("count", {"to": 60})
    call.wait(job_id, is_at(10))
    workers = workers_of(server)
    next(p for p in server.tree() if "modelport.api.control" in p.cmdline()).kill()
    psutil.wait_procs(workers, timeout=10)
    assert not any(worker.is_running() for worker in workers), "a job's process dies with control"
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", 2, counted(60))


def test_a_killed_tree_goes_on_with_its_jobs(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server()
    call = Caller(server)
    ids = [call.submit("count", {"to": 60}), call.submit("count", {"to": 61}), call.submit("count", {"to": 1})]
    call.wait(ids[0], is_at(10))
    server.kill()
    server.start()
    jobs = [call.wait(job_id) for job_id in ids]
    assert [job["state"] for job in jobs] == ["succeeded"] * 3
    assert [job["result"]["sha256"] for job in jobs] == [counted(60), counted(61), counted(1)]
    assert jobs[0]["attempt"] == 2 and jobs[0]["result"]["begun_at"] >= 10


@pytest.mark.long
def test_a_stopped_server_lets_jobs_go_on_when_it_is_up_again(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server(MODELPORT_JOBS_CORES="1")
    call = Caller(server)
    running = call.submit("count", {"to": 60})
    call.wait(running, is_at(1))
    waiting = call.submit("count", {"to": 2})
    call.wait(running, is_at(10))
    assert call("GET", f"/jobs/{waiting}")["state"] == "queued"
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 20
    server.start()
    job = call.wait(running)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", 2, counted(60))
    assert job["result"]["begun_at"] >= 10
    assert call.wait(waiting)["attempt"] == 1


@pytest.mark.long
def test_many_kills_of_the_tree_cost_nothing_but_time(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server()
    call = Caller(server)
    job_id = call.submit("count", {"to": 50 + 25 * KILLS, "pause_s": 0.04})
    for kill in range(KILLS):
        call.wait(job_id, is_at(5 + 25 * kill))
        server.kill()
        server.start()
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", KILLS + 1, counted(50 + 25 * KILLS))


def test_on_postgresql(own_job_server: Callable[..., Server], postgres: Any) -> None:  # noqa: F811
    server = own_job_server(MODELPORT_DATABASE_URL=postgres.get_uri(database="postgres", driver="psycopg"))
    call = Caller(server)
    job_id = call.submit("count", {"to": 60})
    call.wait(job_id, is_at(10))
    server.kill()
    server.start()
    other = call.submit("count", {"to": 10_000})
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]["sha256"]) == ("succeeded", 2, counted(60))
    call.wait(other, is_at(1))
    call("POST", f"/jobs/{other}/cancel", status=202)
    assert call.wait(other)["state"] == "cancelled"
    assert not (server.home / "jobs.sqlite").exists(), "what is durable is where the other tables are"


# -- ending ---------------------------------------------------------------------------------------------------------


def cancelled(call: Caller, job_id: str) -> dict[str, Any]:
    call("POST", f"/jobs/{job_id}/cancel", status=202)
    return call.wait(job_id, s=20)


def test_a_waiting_job_is_cancelled_at_once(call: Caller) -> None:
    first = call.submit("count", {"to": 10_000}, resources={"cores": 2})
    second = call.submit("count", {"to": 10}, resources={"cores": 2})
    call.wait(first, is_at(1))
    job = cancelled(call, second)
    assert (job["state"], job["attempt"], job["error"]) == ("cancelled", 0, None)
    assert cancelled(call, first)["state"] == "cancelled"
    message = call("POST", f"/jobs/{first}/cancel", status=409)["error"]["message"]
    assert "has cancelled already" in message


@pytest.mark.parametrize("how", ["deaf", "child"])
def test_a_running_job_is_ended_with_all_it_started(call: Caller, job_server: Server, how: str) -> None:
    job_id = call.submit("misbehave", {"how": how})
    child = int(call.wait(job_id, is_at(1))["progress"]["done"])
    workers = workers_of(job_server)
    assert (job_server.home / "jobs" / job_id).is_dir()
    assert cancelled(call, job_id)["state"] == "cancelled"
    assert not (job_server.home / "jobs" / job_id).exists()
    assert not any(worker.is_running() for worker in workers)
    assert how == "deaf" or not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie"


def test_a_job_that_pauses_before_its_next_attempt_is_cancelled(own_job_server: Callable[..., Server]) -> None:
    call = Caller(own_job_server(MODELPORT_JOBS_BACKOFF_S="300"))
    job_id = call.submit("misbehave", {"how": "exit"})
    call.wait(job_id, lambda job: "the next one in 300 s" in str(job.get("message")))
    assert cancelled(call, job_id)["state"] == "cancelled"


# -- failing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "attempts", "words"),
    [
        ("raise", 2, "failed with RuntimeError; `modelport jobs logs "),
        ("refuse", 1, "the data is empty; give some"),
        ("unavailable", 2, "the store does not answer"),
        ("abort", 2, "died (SIGABRT)"),
        ("exit", 2, "ended by itself, with code 3"),
        ("eat", 1, "needs more than its 512 MB of memory; submit it with more: resources.memory_mb, such as 1024"),
        ("eat-natively", 1, "needs more than its 512 MB of memory"),
        ("large", 2, "failed with TypeError"),
    ],
)
def test_a_failure_says_why(call: Caller, how: str, attempts: int, words: str) -> None:
    job_id = call.submit("misbehave", {"how": how}, retries=1, resources={"memory_mb": 512})
    job = call.wait(job_id)
    assert (job["state"], job["attempt"]) == ("failed", attempts)
    assert words in job["error"]["message"]
    assert "/a/path" not in job["error"]["message"]


def test_a_worker_that_dies_is_tried_again(call: Caller) -> None:
    job_id = call.submit("misbehave", {"how": "abort", "times": 2}, retries=2)
    job = call.wait(job_id)
    assert (job["state"], job["attempt"], job["result"]) == ("succeeded", 3, {"attempt": 3})
    events = events_of(call, job_id)
    said = [event["data"]["message"] for event in events if event["event"] == "state" and event["data"]["message"]]
    assert len(said) == 2 and "attempt 1 of 3, the next one in 0.1 s" in said[0] and "in 0.2 s" in said[1]


# -- order ----------------------------------------------------------------------------------------------------------


def test_priority_then_age_decides_and_nothing_slips_past(call: Caller) -> None:
    first = call.submit("count", {"to": 10_000}, resources={"cores": 1.5})
    call.wait(first, is_at(1))
    low = call.submit("count", {"to": 1}, priority=-1, resources={"cores": 2})
    old = call.submit("count", {"to": 1}, resources={"cores": 2})
    new = call.submit("count", {"to": 1}, resources={"cores": 0.1})
    high = call.submit("count", {"to": 1}, priority=5, resources={"cores": 2})
    assert cancelled(call, first)["state"] == "cancelled"  # when all of them wait, however slowly they came
    jobs = {name: call.wait(job_id) for name, job_id in {"low": low, "old": old, "new": new, "high": high}.items()}
    assert jobs["new"]["started_at"] > call.wait(first)["ended_at"], "it would have fitted beside the first"
    assert sorted(jobs, key=lambda name: jobs[name]["started_at"]) == ["high", "old", "new", "low"]


def test_jobs_submitted_in_the_same_instant_begin_by_age(job_server: Server) -> None:
    with job_server.client() as client, ThreadPoolExecutor(5) as pool:
        wish = {"to": 1, "pause_s": 0}
        sent = list(pool.map(lambda _: client.jobs.submit("count", wish, cores=2).id, range(5)))
        began = {job_id: client.jobs.wait(job_id, timeout=60).started_at for job_id in sent}
    assert sorted(sent) == sorted(sent, key=lambda job_id: began[job_id] or datetime.max)


# -- following ------------------------------------------------------------------------------------------------------


def events_of(call: Caller, job_id: str, last: str | None = None) -> list[dict[str, Any]]:
    text = call("GET", f"/jobs/{job_id}/events", headers={"last-event-id": last} if last else {})
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append({"id": fields.get("id"), "event": fields["event"], "data": json.loads(fields["data"])})
    return found


def test_events_are_told_until_the_end_and_again_from_any_of_them(call: Caller) -> None:
    job_id = call.submit("count", {"to": 20})
    events = events_of(call, job_id)
    states = [event["data"]["state"] for event in events if event["event"] == "state"]
    assert states == ["queued", "running", "succeeded"]
    assert [event["data"]["value"] for event in events if event["event"] == "metric"] == list(range(20))
    assert [event for event in events if event["event"] == "progress"][-1]["data"]["done"] == 20
    kept = [event for event in events if event["id"]]
    again = events_of(call, job_id, kept[9]["id"])
    assert [event for event in again if event["id"]] == kept[10:]


def test_a_log_is_followed_to_its_end(call: Caller) -> None:
    job_id = call.submit("misbehave", {"how": "print"})
    text = call("GET", f"/jobs/{job_id}/logs?follow=true")
    assert "printed words" in text
    assert call.wait(job_id)["state"] == "succeeded"
    values = call("GET", f"/jobs/{job_id}/metrics?name=loss")["items"]
    assert [(value["step"], value["value"]) for value in values] == [(1, None), (2, 0.5)]


def test_the_client_does_all_of_it(job_server: Server) -> None:
    with job_server.client() as client:
        seen = []
        job = client.jobs.submit("count", {"to": 5}, priority=1, memory_mb=1000)
        ended = client.jobs.wait(job.id, timeout=60, progress=seen.append)
        assert ended.state == "succeeded" and ended.resources.memory_mb == 1000 and seen[-1] == ended
        assert [event.event for event in client.jobs.events(job.id)][:2] == ["state", "state"]
        assert any("begins at 0" in line for line in client.jobs.logs(job.id))
        assert [metric.value for metric in client.jobs.metrics(job.id)] == [0, 1, 2, 3, 4]
        assert job.id in [one.id for one in client.jobs.list(kind="count", state="succeeded")]
        failing = client.jobs.submit("misbehave", {"how": "refuse"})
        with pytest.raises(JobFailed, match="the data is empty") as caught:
            client.jobs.wait(failing.id)
        assert (caught.value.code, caught.value.job.id) == ("invalid_input", failing.id)
        long = client.jobs.submit("count", {"to": 10_000})
        with pytest.raises(errors.DeadlineExceeded, match="it goes on"):
            client.jobs.wait(long.id, timeout=0.3)
        client.jobs.cancel(long.id)
        assert client.jobs.wait(long.id, raises=False).state == "cancelled"


async def test_the_asynchronous_client_too(job_server: Server) -> None:
    async with AsyncClient(job_server.url, job_server.token) as client:
        job = await client.jobs.submit("count", {"to": 3})
        assert (await client.jobs.wait(job.id)).state == "succeeded"
        assert {event.event async for event in client.jobs.events(job.id)} == {"state", "progress", "metric"}
        assert [line async for line in client.jobs.logs(job.id)]


def test_the_command_line_does_all_of_it(job_server: Server) -> None:
    done = job_server.cli("jobs", "submit", "count", "to=3")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout and counted(3) in done.stdout
    job_id = done.stdout.split()[1]
    assert job_id in job_server.cli("jobs", "list", "--kind", "count", "--state", "succeeded").stdout
    assert "begins at 0" in job_server.cli("jobs", "logs", job_id).stdout
    assert "number" in job_server.cli("jobs", "metrics", job_id).stdout
    failed = job_server.cli("jobs", "submit", "misbehave", "how=refuse")
    assert (failed.returncode, failed.stderr) == (1, "error: the data is empty; give some\n")
    detached = job_server.cli("jobs", "submit", "count", "to=10000", "--detach").stdout.strip()
    assert job_server.cli("jobs", "cancel", detached).stdout == f"{detached} is cancelled\n"
    assert "cancelled" in job_server.cli("jobs", "show", detached).stdout
    made = job_server.cli("jobs", "schedule", "yearly", "count", "--cron", "0 0 1 1 *", "to=3")
    assert "yearly submits count next at 20" in made.stdout, made.stderr
    assert "yearly" in job_server.cli("jobs", "schedules").stdout
    assert job_server.cli("jobs", "unschedule", "yearly").returncode == 0
    assert "yearly" not in job_server.cli("jobs", "schedules").stdout


# -- schedules ------------------------------------------------------------------------------------------------------


def schedule_of(call: Caller, name: str) -> dict[str, Any]:
    return next(item for item in call("GET", "/schedules")["items"] if item["name"] == name)


def test_a_cron_submits_and_never_overlaps_itself(call: Caller) -> None:
    call("PUT", "/schedules/often", {"cron": "* * * * * *", "kind": "count", "params": {"to": 60}})
    deadline = time.monotonic() + 30
    while "skipped: job " not in str((seen := schedule_of(call, "often"))["note"]):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)
    jobs = [job for job in call("GET", "/jobs?kind=count")["items"] if job["schedule"] == "often"]
    assert seen["last_job"] == jobs[0]["id"] and f"{jobs[0]['id']} of the tick before is still" in seen["note"]
    call("DELETE", "/schedules/often", status=204)
    call("DELETE", "/schedules/often", status=404)
    assert call.wait(jobs[0]["id"])["state"] == "succeeded"


@pytest.mark.long
def test_ticks_that_were_missed_count_as_one(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server()
    call = Caller(server)
    call("PUT", "/schedules/often", {"cron": "* * * * * */2", "kind": "count", "params": {"to": 1}})
    deadline = time.monotonic() + 30
    while (first := schedule_of(call, "often")["last_job"]) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    call.wait(first)
    server.kill()
    down = datetime.now(UTC)
    time.sleep(9)  # four ticks
    server.start()
    deadline = time.monotonic() + 30
    while not (made := [job for job in call("GET", "/jobs")["items"] if made_at(job) > down]):
        assert time.monotonic() < deadline, (schedule_of(call, "often"), call("GET", "/jobs")["items"][:2])
        time.sleep(0.05)
    call("DELETE", "/schedules/often", status=204)
    assert made_at(made[-1]) > down + timedelta(seconds=8), "nothing was made up that is not one of now"
    assert len(made) <= 2, "at most one for what was missed, and one for a tick since"


def made_at(job: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(job["created_at"])


# -- keeping --------------------------------------------------------------------------------------------------------


def test_old_jobs_are_forgotten_with_their_logs(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server(MODELPORT_JOBS_KEEP="2", MODELPORT_ARTIFACTS_GC_INTERVAL_S="1")
    call = Caller(server)
    ids = [call.submit("count", {"to": 1, "pause_s": 0}) for _ in range(4)]
    for job_id in ids:
        call.wait(job_id, lambda job: job["state"] in ("succeeded", "nobody answers"))
    deadline = time.monotonic() + 30
    while len(call("GET", "/jobs")["items"]) > 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    kept = [job["id"] for job in call("GET", "/jobs")["items"]]
    assert kept == ids[:1:-1]
    call("GET", f"/jobs/{ids[0]}/logs", status=404)
    wait_until = time.monotonic() + 10
    while sorted(file.stem for file in (server.home / "logs").glob("job-*")) != sorted(f"job-{id}" for id in kept):
        assert time.monotonic() < wait_until
        time.sleep(0.1)


def test_another_projects_jobs_answer_as_missing_ones(own_job_server: Callable[..., Server]) -> None:
    server = own_job_server()
    call = Caller(server)
    mine = call.submit("count", {"to": 1})
    call("PUT", "/schedules/mine", {"cron": "0 0 1 1 *", "kind": "count"})
    body = {"name": "eve", "role": "admin", "project": "acme"}
    stranger = {"x-api-key": call("POST", "/keys", body, 201)["secret"]}
    missing = "01AAAAAAAAAAAAAAAAAAAAAAAA"
    for path in ("", "/events", "/logs", "/metrics"):
        answers = [call("GET", f"/jobs/{id}{path}", status=404, headers=stranger) for id in (mine, missing)]
        assert answers[0]["error"]["message"].replace(mine, missing) == answers[1]["error"]["message"]
    call("POST", f"/jobs/{mine}/cancel", status=404, headers=stranger)
    call("DELETE", "/schedules/mine", status=404, headers=stranger)
    assert call("GET", "/jobs", headers=stranger) == call("GET", "/schedules", headers=stranger) == {"items": []}
    viewer = {"x-api-key": call("POST", "/keys", {"name": "v", "role": "viewer"}, 201)["secret"]}
    call("POST", "/jobs", {"kind": "count"}, 403, headers=viewer)
    call("POST", f"/jobs/{mine}/cancel", status=403, headers=viewer)
    assert call("GET", f"/jobs/{mine}", headers=viewer)["id"] == mine


@pytest.mark.long
def test_what_a_killed_control_could_not_end_ends_before_the_next_attempt(
    own_job_server: Callable[..., Server],
) -> None:
    server = own_job_server()
    call = Caller(server)
    job_id = call.submit("misbehave", {"how": "child", "times": 1})
    child = psutil.Process(int(call.wait(job_id, is_at(1))["progress"]["done"]))
    next(p for p in server.tree() if "modelport.api.control" in p.cmdline()).kill()
    job = call.wait(job_id)
    assert (job["state"], job["result"]) == ("succeeded", {"attempt": 2})
    assert not child.is_running() or child.status() == "zombie"


def test_params_may_be_large(call: Caller) -> None:
    text = "x" * (1 << 20)
    job = call.wait(call.submit("write", {"text": text}))
    assert job["state"] == "failed" and "failed with TypeError" in job["error"]["message"], "its result is too large"
    assert job["params"]["text"] == text
