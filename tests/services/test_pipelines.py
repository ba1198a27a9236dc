"""Pipelines on a real server: order, references, gates, cache, resume, kills, and what is refused before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import onnx_models
from tests.services.conftest import Server
from tests.services.job_calls import Caller

pytestmark = pytest.mark.timeout(240)


def stage(name: str, **more: Any) -> dict[str, Any]:
    params = more.pop("params", {"text": name})
    return {"name": name, "kind": "write", "params": params, **more}


def pipeline(*stages: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    return {"name": "p", "parameters": parameters, "stages": list(stages)}


def start(call: Caller, what: dict[str, Any], given: dict[str, Any] | None = None, **more: Any) -> str:
    return call.submit("pipeline", {"pipeline": what, "parameters": given or {}, **more})


def stages_of(call: Caller, run: str) -> dict[str, dict[str, Any]]:
    return {job["stage"]: job for job in call("GET", f"/jobs?run={run}")["items"]}


def written(server: Server) -> list[str]:
    file = server.home / "written.txt"
    return file.read_text().split() if file.exists() else []


def test_stages_pass_their_results_on(call: Caller) -> None:
    run = start(
        call,
        pipeline(
            stage("a", params={"text": "${parameters.word}", "value": "${parameters.number}"}),
            stage("b", params={"text": "after-${stages.a.result.text}-$${x}", "value": "${stages.a.result.value}"}),
            stage("c", params={"text": "${stages.b.result.nested.list.0}"}, needs=["a"]),
            word={"type": "string"},
            number=1,
        ),
        {"word": "given", "number": "7"},
        cache=False,
    )
    done = call.wait(run)
    assert done["state"] == "succeeded", done
    assert done["result"]["stages"]["b"]["text"] == done["result"]["stages"]["c"]["text"] == "after-given-${x}"
    assert done["result"]["stages"]["b"]["value"] == 7
    stages = stages_of(call, run)
    assert [stages[name]["id"] for name in "abc"] == [f"{run}.a", f"{run}.b", f"{run}.c"]
    assert stages["a"]["ended_at"] <= stages["b"]["created_at"] and stages["b"]["ended_at"] <= stages["c"]["created_at"]
    assert done["progress"]["done"] == done["progress"]["total"] == 3


def test_independent_stages_run_side_by_side(call: Caller) -> None:
    slow = {"pause_s": 2}
    run = start(call, pipeline(*(stage(n, params={"text": n, **slow}) for n in "ab")), cache=False)
    assert call.wait(run)["state"] == "succeeded"
    a, b = stages_of(call, run).values()
    assert max(a["started_at"], b["started_at"]) < min(a["ended_at"], b["ended_at"])


def test_gates_and_conditions(call: Caller) -> None:
    what = pipeline(
        stage("score", params={"text": "s", "value": "${parameters.value}"}, require="value >= parameters.least"),
        stage("publish", when="parameters.publish and stages.score.result.value > 0.9", params={"text": "published"}),
        stage("tell", needs=["publish"]),
        stage("other", needs=["score"]),
        value=0.98, least=0.97, publish=True,
    )  # fmt: skip
    done = call.wait(start(call, what, cache=False))
    assert (done["state"], done["result"]["skipped"]) == ("succeeded", [])
    done = call.wait(start(call, what, {"publish": False}, cache=False))
    assert (done["state"], done["result"]["skipped"]) == ("succeeded", ["publish", "tell"])
    assert set(done["result"]["stages"]) == {"score", "other"}
    run = start(call, what, {"value": 0.93}, cache=False)
    failed = call.wait(run)
    assert failed["state"] == "failed" and set(stages_of(call, run)) == {"score"}
    assert (
        "stage 'score' does not pass: it requires value >= parameters.least, "
        "and value is 0.93, parameters.least is 0.97; put it right" in failed["error"]["message"]
    )


def test_unchanged_stages_are_taken_from_earlier_runs(call: Caller, job_server: Server) -> None:
    what = pipeline(
        stage("first", params={"text": "cached-1"}),
        stage("second", params={"text": "cached-2-${stages.first.result.text}-${parameters.x}"}),
        stage("never", params={"text": "never-cached", "version": 0}),
        x="1",
    )
    body = {"pipeline": what}
    before = call("POST", "/pipelines/plan", body)
    assert [one["taken_from"] for one in before["stages"]] == [None] * 3
    first = start(call, what)
    assert call.wait(first)["state"] == "succeeded"
    plan = call("POST", "/pipelines/plan", body)
    assert {one["name"]: one["taken_from"] for one in plan["stages"]} == {
        "first": f"{first}.first", "never": None, "second": f"{first}.second",
    }  # fmt: skip
    again = start(call, what)
    assert call.wait(again)["state"] == "succeeded"
    stages = stages_of(call, again)
    assert stages["second"]["message"] == f"taken from {first}.second" and stages["second"]["attempt"] == 0
    changed = start(call, what, {"x": "2"})
    assert call.wait(changed)["state"] == "succeeded"
    assert call.wait(start(call, what, cache=False))["state"] == "succeeded"
    counts = {text: written(job_server).count(text) for text in ("cached-1", "never-cached")}
    assert counts == {"cached-1": 2, "never-cached": 4}
    assert (
        written(job_server).count("cached-2-cached-1-1") == 2 and written(job_server).count("cached-2-cached-1-2") == 1
    )
    (job_server.home / "gone").touch()
    try:
        plan = call("POST", "/pipelines/plan", body)
    finally:
        (job_server.home / "gone").unlink()
    assert [one["taken_from"] for one in plan["stages"]] == [None] * 3, "what was made is not there any more"


def test_a_failed_stage_names_itself_and_the_run_is_gone_on_with(
    call: Caller,
    job_server: Server,
    tmp_path: Path,
) -> None:
    needed = tmp_path / "needed"
    what = pipeline(
        stage("one", params={"text": "resume-1", "version": 0}),
        stage("two", params={"text": "resume-2", "fail_unless": str(needed)}, needs=["one"]),
        stage("three", params={"text": "resume-3"}, needs=["two"]),
    )
    run = start(call, what)
    message = call.wait(run)["error"]["message"]
    assert message == (
        "stage 'two' failed: the file is not there; make it; "
        f"put it right and go on with `modelport run --resume {run}`"
    )
    needed.touch()
    done = job_server.cli("run", "--resume", run)
    assert done.returncode == 0, done.stderr
    resumed = call("GET", "/jobs?kind=pipeline&limit=1")["items"][0]
    assert resumed["state"] == "succeeded" and resumed["id"] != run
    assert stages_of(call, resumed["id"])["one"]["message"] == f"taken from {run}.one"
    assert [written(job_server).count(f"resume-{n}") for n in (1, 2, 3)] == [1, 2, 1]


def test_cancelling_a_run_cancels_its_stages(call: Caller) -> None:
    what = pipeline({"name": "long", "kind": "count", "params": {"to": 10_000}}, stage("after", needs=["long"]))
    run = start(call, what)
    call.wait(f"{run}.long", lambda job: job["state"] == "running")
    call("POST", f"/jobs/{run}/cancel", status=202)
    assert call.wait(run)["state"] == call.wait(f"{run}.long")["state"] == "cancelled"
    assert set(stages_of(call, run)) == {"long"}


def test_a_pipeline_deploys(call: Caller, job_server: Server) -> None:
    job_server.push("piped", onnx_models.mlp((3, 8, 2)))
    deploy = {"name": "serve", "kind": "deploy", "params": {"model": "piped:${stages.pick.result.value}"}}
    what = pipeline(stage("pick", params={"value": 1}), deploy)
    run = start(call, what, cache=False)
    failed = call.wait(run)
    assert failed["state"] == "failed"
    assert "stage 'serve' cannot begin: model: '1.0' is no version" in failed["error"]["message"]
    deploy["params"] = {"model": "piped", "spec": {"replicas": 1}}
    done = call.wait(start(call, pipeline(stage("pick"), deploy | {"needs": ["pick"]}), cache=False))
    assert done["result"]["stages"]["serve"] == {
        "deployment": "piped", "model": "piped:1", "version": 1, "revision": 1,
    }  # fmt: skip
    with job_server.client() as client:
        assert client.predict("piped", [[1.0, 2.0, 3.0]]).shape == (1, 2)


@pytest.mark.long
def test_a_killed_tree_goes_on_with_a_run(own_job_server: Any) -> None:
    server = own_job_server()
    call = Caller(server)
    what = pipeline(
        stage("a", params={"text": "a", "version": 0}),
        {"name": "b", "kind": "count", "params": {"to": 40}, "needs": ["a"]},
        stage("c", params={"text": "${stages.b.result.sha256}"}),
    )
    run = start(call, what)
    call.wait(f"{run}.b", lambda job: (job.get("progress") or {}).get("done", 0) >= 5)
    server.kill()
    server.start()
    done = call.wait(run)
    assert done["state"] == "succeeded", done
    assert written(server) == ["a", done["result"]["stages"]["b"]["sha256"]], "no finished stage was done again"


def test_the_graph_is_drawn(job_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    stages = [stage("raw"), stage("left", needs=["raw"]), stage("right", needs=["raw"], when="parameters.x"),
              stage("end", needs=["left", "right"], require=["value == 0"])]  # fmt: skip
    file.write_text(yaml.safe_dump(pipeline(*stages, x=False)))
    done = job_server.cli("run", str(file), "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("─ left ─" in line and "─ right ─" in line for line in lines), done.stdout
    assert [line.strip() for line in lines].count("▼") == 2
    assert "requires value == 0" in done.stdout and "after left, right" in done.stdout and "left out" in done.stdout
    plan = json.loads(job_server.cli("run", str(file), "--dry-run", "--json", "--set", "x=true").stdout)
    assert [one["skipped"] for one in plan["stages"]] == [False] * 4
    assert "p is" not in job_server.cli("jobs", "list", "--kind", "pipeline", "--state", "running").stdout
    schema = json.loads(job_server.cli("run", "--schema").stdout)
    assert schema["title"] == "Pipeline"


def test_the_client_runs_pipelines(job_server: Server) -> None:
    with job_server.client() as client:
        what = pipeline(stage("only", params={"text": "by-client", "version": 0}))
        assert [one.name for one in client.pipelines.plan(what).stages] == ["only"]
        run = client.pipelines.run(what)
        assert client.jobs.wait(run.id).state == "succeeded"
        assert [job.stage for job in client.jobs.list(run=run.id)] == ["only"]
        again = client.pipelines.resume(run.id)
        client.jobs.wait(again.id)
        assert client.jobs.list(run=again.id)[0].message == f"taken from {run.id}.only"
