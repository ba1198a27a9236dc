"""kill -9 at random moments of one pipeline run over real images: its versions are an undisturbed run's, bit by bit."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.services.conftest import Server
from tests.services.job_calls import Caller, workers_of

pytest.importorskip("daft")
KILLS = 20 if os.environ.get("MODELPORT_PROVE") else 3
STAGES = ("raw", "clean", "both", "once", "parts")
_WEIGHTS = {"job": 12, "control": 5, "tree": 3}


def write_digits(folder: Path) -> int:
    """The 1797 scanned digits of UCI, as PNG files in folders named after their class."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).resize((32, 32)).save(place / f"{number:04}.png")
    return len(digits.target)


def pipeline(source: str) -> dict[str, Any]:
    def stage(name: str, kind: str, **params: Any) -> dict[str, Any]:
        return {"name": name, "kind": kind, "params": {"name": name, **params}, "retries": 100}

    rules = [{"rule": "duplicates", "columns": ["image"]}, {"rule": "balance", "column": "label", "how": "down"}]
    return {
        "name": "digits",
        "stages": [
            stage("raw", "collect", source=source, format="images"),
            stage("clean", "clean", dataset="${stages.raw.result.dataset}", recipe={"rules": rules})
            | {"require": ["rows >= 1000"]},
            stage("both", "concat", datasets=["${stages.raw.result.dataset}", "${stages.clean.result.dataset}"]),
            stage("once", "clean", dataset="${stages.both.result.dataset}", recipe={"rules": rules[:1]}),
            stage("parts", "split", dataset="${stages.once.result.dataset}", stratify="label", seed=7),
        ],
    }


def kill(server: Server, what: str) -> str:
    """Do it, and see that nothing of it is left; what was really hit."""
    workers = workers_of(server)
    if what == "job":
        if not workers:
            return "no job"
        workers[0].kill()
        return "job"
    if what == "control":
        for process in server.tree():
            if "modelport.api.control" in process.cmdline():
                process.kill()
        psutil.wait_procs(workers, timeout=10)
        return "control"
    server.kill()
    server.start()
    return "tree"


@pytest.mark.prove
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_a_run_that_is_killed_makes_what_an_undisturbed_one_makes(
    own_job_server: Callable[..., Server], tmp_path: Path
) -> None:
    count = write_digits(tmp_path / "digits")
    source = f"file://{tmp_path / 'digits'}"
    server = own_job_server(MODELPORT_DATA_ALLOW=json.dumps([source]), MODELPORT_JOBS_BACKOFF_S="0.05")
    call, what = Caller(server), pipeline(source)
    calm = call.wait(call.submit("pipeline", {"pipeline": what, "cache": False}), s=240)
    assert calm["state"] == "succeeded", calm
    assert calm["result"]["stages"]["raw"]["rows"] == count

    rng, table = random.Random(11), Counter[tuple[str, str]]()
    run = call.submit("pipeline", {"pipeline": what, "cache": False})
    began, killed = time.monotonic(), 0
    while killed < KILLS:
        time.sleep(rng.uniform(0.1, 3.0))
        (victim,) = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        seen = call.wait(run, lambda job: job["state"] != "nobody answers")
        assert seen["state"] in ("queued", "running"), f"it ended after {killed} kills: {seen}"
        stages = {job["stage"]: job["state"] for job in call("GET", f"/jobs?run={run}")["items"]}
        at = next((name for name in STAGES if stages.get(name) != "succeeded"), "end")
        hit = kill(server, victim)
        if hit != "no job":
            killed += 1
            table[(hit, at)] += 1
    disturbed = call.wait(run, s=300)
    for (hit, at), number in sorted(table.items()):
        print(f"kill -9 of {hit:8} during {at:6} {number:3} times")
    print(f"{killed} kills in one run of {time.monotonic() - began:.0f} s")
    assert disturbed["state"] == "succeeded", disturbed
    for name in STAGES:
        before, after = (one["result"]["stages"][name] for one in (calm, disturbed))
        print(f"{name:6} {before['digest']} {after['digest']} {after['rows']} rows")
        assert after["digest"] == before["digest"]
        assert after["dataset"] == f"{name}:2", "each stage made one version, whatever killed it"
        assert len(call("GET", f"/datasets/{name}/versions")["items"]) == 2
