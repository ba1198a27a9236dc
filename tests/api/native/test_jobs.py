"""Bad input of jobs, schedules and pipelines: each a 4xx that names the cause, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from modelport import plugins
from modelport.api.app import create_app
from modelport.api.native import jobs as job_routes
from modelport.api.native import pipelines as pipeline_routes
from modelport.api.native import schedules as schedule_routes
from modelport.api.native.context import Context
from modelport.control.assembly import build_services
from modelport.control.deployments import Deployments
from modelport.control.jobs.schedules import Schedules
from modelport.control.jobs.service import Jobs
from modelport.control.pipelines.service import PipelineWork
from modelport.control.work.deploy import Deploy
from modelport.settings import JobSettings, Settings
from tests.api.native.conftest import AS_OWNER, OWNER, KeyOf
from tests.job_kinds import Count, Write

KINDS = {"count": Count, "deploy": Deploy, "pipeline": PipelineWork, "write": Write}
MISSING = "01AAAAAAAAAAAAAAAAAAAAAAAA"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """The management API with jobs that nobody runs."""
    monkeypatch.setattr(plugins, "names", lambda group: tuple(sorted(KINDS)))
    monkeypatch.setattr(plugins, "load", lambda group, name: KINDS[name])
    settings = Settings(home=tmp_path, jobs=JobSettings(cores=2, memory_mb=1000))
    services = build_services(settings, owner_token=OWNER, keys_required=False)
    jobs = Jobs(services, settings)
    deployments = Deployments(services.database, services.registry.resolve)
    context = Context(
        settings, services.registry, services.identity, services.database, deployments,
        jobs=jobs, schedules=Schedules(jobs),
    )  # fmt: skip
    yield create_app(context, [module.router for module in (job_routes, schedule_routes, pipeline_routes)])
    services.database.close()


def run(*stages: Any, given: Any = None, **parameters: Any) -> dict[str, Any]:
    params = {"pipeline": {"name": "p", "parameters": parameters, "stages": list(stages)}}
    return {"kind": "pipeline", "params": params | ({"parameters": given} if given is not None else {})}


def stage(name: str = "a", kind: str = "count", **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": kind, **more}


def job(kind: Any = "count", **more: Any) -> dict[str, Any]:
    return {"kind": kind, **more}


DEEP: Any = 1
for _ in range(60):
    DEEP = [DEEP]

SUBMISSIONS = [
    # what a submission is
    ([], 422, "body: "),
    ("x", 422, "body: "),
    ({}, 422, "kind: Field required"),
    (job(None), 422, "kind: "),
    (job(""), 422, "kind: "),
    (job("no/such"), 422, "kind: "),
    (job("nothing"), 400, "kind: there is no kind of job 'nothing'; there are count, deploy, pipeline, write"),
    (job(extra=1), 422, "extra: Extra inputs are not permitted"),
    (job(params=[]), 422, "params: "),
    (job(params=None), 422, "params: "),
    (job(priority="high"), 422, "priority: "),
    (job(priority=1001), 422, "priority: "),
    (job(priority=1.5), 422, "priority: "),
    (job(retries=-1), 422, "retries: "),
    (job(retries=101), 422, "retries: "),
    (job(resources=4), 422, "resources: "),
    (job(resources={"cpus": 4}), 422, "resources.cpus: Extra inputs are not permitted"),
    (job(resources={"cores": -1}), 422, "resources.cores: "),
    (job(resources={"cores": "many"}), 422, "resources.cores: "),
    (job(resources={"memory_mb": 1}), 422, "resources.memory_mb: "),
    (job(resources={"memory_mb": 10**12}), 422, "resources.memory_mb: "),
    (job(resources={"gpus": 65}), 422, "resources.gpus: "),
    (job(resources={"cores": 3}), 400, "resources.cores: 3 asked, jobs have 2 here; ask for less"),
    (job(resources={"memory_mb": 2000}), 400, "resources.memory_mb: 2000 asked, jobs have 1000 here"),
    (job(resources={"gpus": 64}), 400, "resources.gpus: 64 asked, jobs have "),
    # what a kind takes
    (job(params={"to": "far"}), 400, "params.to: Input should be a valid integer"),
    (job(params={"to": -1}), 400, "params.to: Input should be greater than or equal to 0"),
    (job(params={"too": 1}), 400, "params.too: Extra inputs are not permitted; it takes to, pause_s, refuse"),
    (job(params={"refuse": True}), 400, "params.refuse: you asked for it"),
    (job("deploy"), 400, "params.model: Field required"),
    (job("deploy", params={"model": "nowhere"}), 404, "there is no model 'nowhere'"),
    (job("deploy", params={"model": "a:b:c"}), 400, "params.model: "),
    (job("deploy", params={"model": "a:0"}), 400, "model: '0' is no version; say NAME, NAME:NUMBER or NAME@ALIAS"),
    (job("deploy", params={"model": "a", "spec": {"replicas": -1}}), 400, "params.spec.replicas: "),
    # what a pipeline is
    (job("pipeline"), 400, "params.pipeline: Field required"),
    (run(), 400, "params.pipeline.stages: "),
    (run(*[stage(f"s{n}") for n in range(201)]), 400, "params.pipeline.stages: "),
    (run(stage("a b")), 400, "params.pipeline.stages.0.name: "),
    (run(stage("a.b")), 400, "params.pipeline.stages.0.name: "),
    (run(stage(), stage()), 400, "stage 'a' is there twice"),
    (run(stage(kind="nothing")), 400, "stage 'a': kind: there is no kind of job 'nothing'"),
    (run(stage(kind="pipeline")), 400, "stage 'a': kind: a stage cannot be a pipeline"),
    (run(stage(needs=["b"])), 400, "stage 'a': there is no stage 'b'; there are a"),
    (run(stage("a", needs=["b"]), stage("b", needs=["c"]), stage("c", needs=["a"])), 400, "in a circle: "),
    (run(stage(params={"to": "${stages.a.result.x}"})), 400, "in a circle: a -> a"),
    (run(stage(params={"to": "far"})), 400, "stage 'a': params.to: Input should be a valid integer"),
    (run(stage(params={"refuse": True})), 400, "stage 'a': params.refuse: you asked for it"),
    (run(stage(params={"to": "${parameters.n}"}), n="far"), 400, "stage 'a': params.to: "),
    (run(stage(params={"to": "${parameters.m}"}), n=1), 400, "there is no parameter 'm'; there are n"),
    (run(stage(params={"to": "${parameters.n"}), n=1), 400, "has a ${ without a }"),
    (run(stage(params={"to": "${n}"}), n=1), 400, "${n} is no reference"),
    (run(stage("b"), stage(params={"too": "${stages.b.result.x}"})), 400, "stage 'a': params.too: count takes to, "),
    (run(stage(params={"to": DEEP})), 400, "nested more than 50 deep"),
    (run(stage(), given={"n": 1}), 400, "parameter 'n': the pipeline has none of that name"),
    (run(stage(), n={"type": "integer"}), 400, "parameter 'n' has no default; give it: --set n=VALUE"),
    (run(stage(), n={"type": "date"}), 400, "params.pipeline.parameters.n.type: "),
    (run(stage(), n=[1]), 400, "params.pipeline.parameters.n: "),
    (run(stage(), given={"n": "x"}, n=1), 400, "parameter 'n': 'x' is no integer"),
    (run(stage(), given={"n": {}}, n=1), 400, "params.parameters.n"),
    (run(stage(require="__import__('os')")), 400, "stage 'a': condition \"__import__('os')\": \"__import__('os')\" is"),
    (run(stage(require="a > ")), 400, "stage 'a': condition 'a >'"),
    (run(stage(when="x > 1")), 400, "stage 'a': when: 'x' is unknown"),
    (run(stage(resources={"cores": 9})), 400, "stage 'a': resources.cores: 9 asked"),
    (run(stage(retries=-1)), 400, "params.pipeline.stages.0.retries: "),
    (job("pipeline", params={**run(stage())["params"], "resume": MISSING}), 404, "there is no pipeline run '01A"),
    (job("pipeline", params={**run(stage())["params"], "resume": "x"}), 400, "params.resume: "),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), SUBMISSIONS)
def test_a_bad_submission_is_refused_and_leaves_nothing(client: TestClient, body: Any, status: int, words: str) -> None:
    answer = client.post("/api/v1/jobs", json=body, headers=AS_OWNER)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]
    assert client.get("/api/v1/jobs", headers=AS_OWNER).json() == {"items": []}
    if isinstance(body, dict) and body.get("kind") == "pipeline" and status == 400:
        planned = client.post("/api/v1/pipelines/plan", json=body.get("params", {}), headers=AS_OWNER)
        assert planned.status_code in (400, 422), planned.text


EVERY_DAY = {"kind": "count", "cron": "0 3 * * *"}


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("s", {}, 422, "kind: Field required"),
        ("s", {"kind": "count"}, 422, "cron: Field required"),
        ("a b", EVERY_DAY, 422, "name: "),
        ("s", EVERY_DAY | {"cron": "every day"}, 400, "cron: 'every day' is not like '0 3 * * *'"),
        ("s", EVERY_DAY | {"cron": "61 * * * *"}, 400, "cron: '61 * * * *' is not like"),
        ("s", EVERY_DAY | {"cron": "0 0 31 2 *"}, 400, "cron: "),
        ("s", EVERY_DAY | {"cron": "*" * 201}, 422, "cron: "),
        ("s", EVERY_DAY | {"timezone": "Moon"}, 400, "timezone: 'Moon' is unknown"),
        ("s", EVERY_DAY | {"kind": "nothing"}, 400, "kind: there is no kind of job"),
        ("s", EVERY_DAY | {"params": {"to": "far"}}, 400, "params.to: "),
        ("s", EVERY_DAY | {"params": {"refuse": True}}, 400, "params.refuse: you asked for it"),
        ("s", EVERY_DAY | {"resources": {"cores": 5}}, 400, "resources.cores: 5 asked"),
        ("s", EVERY_DAY | {"x": 1}, 422, "x: Extra inputs are not permitted"),
    ],
)
def test_a_bad_schedule_is_refused(client: TestClient, name: str, body: Any, status: int, words: str) -> None:
    answer = client.put(f"/api/v1/schedules/{name}", json=body, headers=AS_OWNER)
    assert answer.status_code == status and words in answer.json()["error"]["message"], answer.text
    assert client.get("/api/v1/schedules", headers=AS_OWNER).json() == {"items": []}


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", f"/jobs/{MISSING}", 404, f"there is no job '{MISSING}'; `modelport jobs list` shows them"),
        ("GET", f"/jobs/{MISSING}.stage", 404, "there is no job"),
        ("POST", f"/jobs/{MISSING}/cancel", 404, "there is no job"),
        ("GET", f"/jobs/{MISSING}/events", 404, "there is no job"),
        ("GET", f"/jobs/{MISSING}/logs", 404, "there is no job"),
        ("GET", f"/jobs/{MISSING}/metrics", 404, "there is no job"),
        ("GET", "/jobs/../../etc", 404, ""),
        ("GET", "/jobs/x", 422, "id: "),
        ("GET", f"/jobs/{MISSING.lower()}", 422, "id: "),
        ("GET", f"/jobs/{MISSING}.%2e%2e", 422, "id: "),
        ("GET", "/jobs/%00", 422, "id: "),
        ("GET", "/jobs?state=done", 422, "state: "),
        ("GET", "/jobs?limit=0", 422, "limit: "),
        ("GET", "/jobs?limit=1001", 422, "limit: "),
        ("GET", "/jobs?after=x", 422, "after: "),
        ("GET", "/jobs?kind=a/b", 422, "kind: "),
        ("GET", f"/jobs/{MISSING}/logs?tail=-1", 422, "tail: "),
        ("GET", f"/jobs/{MISSING}/metrics?limit=0", 422, "limit: "),
        ("DELETE", "/schedules/none", 404, "there is no schedule 'none'; `modelport jobs schedules` lists them"),
        ("DELETE", f"/jobs/{MISSING}", 405, ""),
    ],
)
def test_a_bad_question_is_refused(client: TestClient, method: str, path: str, status: int, words: str) -> None:
    answer = client.request(method, f"/api/v1{path}", headers=AS_OWNER)
    assert answer.status_code == status and words in answer.json()["error"]["message"], answer.text


def test_who_may_what(client: TestClient, key_of: KeyOf) -> None:
    for role, read, write in (("caller", 403, 403), ("viewer", 200, 403), ("developer", 200, 202)):
        headers = key_of(role)
        assert client.get("/api/v1/jobs", headers=headers).status_code == read
        assert client.get("/api/v1/schedules", headers=headers).status_code == read
        made = client.post("/api/v1/jobs", json={"kind": "count"}, headers=headers)
        assert made.status_code == write
        assert client.put("/api/v1/schedules/s", json=EVERY_DAY, headers=headers).status_code == (
            200 if write == 202 else write
        )
    assert client.get("/api/v1/jobs").status_code == 401
