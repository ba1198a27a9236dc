"""Training by a script of one's own, and tuning, on a real server from the command line; what kills cost there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression

from tests.services.conftest import Server
from tests.services.job_calls import Caller, workers_of
from tests.training import stepping

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs code of its callers, and knows the recipe of the tests."""
    folder = tmp_path_factory.mktemp("learning")
    paths = [*stepping.install(folder / "recipes"), os.environ.get("PYTHONPATH", "")]
    env = {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path), "MODELPORT_JOBS_CORES": "2",
        "MODELPORT_JOBS_BACKOFF_S": "0.1", "MODELPORT_TRUST_PYTHON_PREDICTORS": "true",
        "MODELPORT_SECRET_FOR_TESTS": "secret",
    }  # fmt: skip
    found = Server(folder / "home", ("--gateways", "1"), env).start()
    for name, frame in (
        ("digits", load_digits(as_frame=True).frame.iloc[:400]),
        ("sugar", load_diabetes(as_frame=True).frame),
    ):
        file = folder / f"{name}.csv"
        frame.to_csv(file, index=False)
        done = found.cli("data", "collect", str(file), "--name", name)
        assert done.returncode == 0, done.stderr
    yield found
    found.stop()


LINE = """
import csv, json, os, sys, time
from pathlib import Path
import numpy as np

def rows(place):
    with open(os.environ[place]) as file:
        found = list(csv.DictReader(file))
    names = json.loads(os.environ["MODELPORT_FEATURES"])
    x = np.array([[float(row[name]) for name in names] for row in found])
    return names, x, np.array([float(row[os.environ["MODELPORT_TARGET"]]) for row in found])

names, x, y = rows("MODELPORT_TRAIN")
kept = Path(os.environ["MODELPORT_CHECKPOINTS"]) / "sums.npz"
wide = np.c_[x, np.ones(len(x))]
blocks = np.array_split(np.arange(len(wide)), 20)
begun, a, b = 0, np.zeros((wide.shape[1],) * 2), np.zeros(wide.shape[1])
if kept.exists():
    found = np.load(kept)
    begun, a, b = int(found["begun"]), found["a"], found["b"]
    print(f"goes on at {begun}")
for number in range(begun, 20):
    block = wide[blocks[number]]
    a += block.T @ block
    b += block.T @ y[blocks[number]]
    np.savez(kept.with_name("part.npz"), begun=number + 1, a=a, b=b)
    kept.with_name("part.npz").replace(kept)
    print(f"progress {number + 1}/20 blocks")
    print(f"metric blocks={number + 1} step={number + 1}")
    time.sleep(float(sys.argv[1]))
beta = np.linalg.solve(a, b)
out = Path(os.environ["MODELPORT_OUTPUT"])
inputs = "".join(f"  - {{name: {name}, datatype: FP64, shape: [-1, 1]}}\\n" for name in names)
(out / "modelport.yaml").write_text(f"inputs:\\n{inputs}outputs:\\n  - {{name: prediction, datatype: FP64, shape: [-1]}}\\n")
(out / "predictor.py").write_text(f'''
import numpy as np

class Predictor:
    def predict(self, inputs):
        x = np.column_stack([inputs[name] for name in {names!r}])
        return {{"prediction": x @ np.array({beta[:-1].tolist()!r}) + {float(beta[-1])!r}}}
''')
(out / "modelport.json").write_text(json.dumps({"task": "regression", "metrics": {"begun": begun}}))
"""  # noqa: E501


def test_a_script_of_ones_own_becomes_a_served_version(learning: Server, tmp_path: Path) -> None:
    """Killed in the middle, and gone on with; its figures are scikit-learn's on the same rows."""
    script = tmp_path / "fit.py"
    script.write_text(LINE)
    argv = ["train", "--command", "python fit.py 0.3", "--code", str(script), "--data", "sugar", "--target", "target"]
    done = learning.cli(
        *argv, "--set", "format=csv", "--set", "requirements=[]", "--name", "line", "--detach", "--json"
    )
    assert done.returncode == 0, done.stderr
    call, job_id = Caller(learning), json.loads(done.stdout)["id"]
    call.wait(job_id, lambda job: (job.get("progress") or {}).get("done", 0) >= 4 and _script(learning) != [], s=120)
    (script_process,) = _script(learning)
    assert "secret" not in str(script_process.environ().values())
    (worker,) = workers_of(learning)
    worker.kill()
    psutil.wait_procs([script_process], timeout=10)
    assert not script_process.is_running(), "the script dies with its job"
    job = call.wait(job_id, s=120)
    assert (job["state"], job["attempt"]) == ("succeeded", 2), job
    assert job["result"]["training"]["begun"] >= 4
    assert "goes on at" in call("GET", f"/jobs/{job_id}/logs")
    told = [metric["value"] for metric in call("GET", f"/jobs/{job_id}/metrics?name=blocks")["items"]]
    assert sorted(set(told)) == [float(number) for number in range(1, 21)]
    assert job["result"]["format"] == "predictor" and 0.2 < job["result"]["r2"] < 0.7

    frame = load_diabetes(as_frame=True).frame
    with learning.client() as client:
        client.deploy("line")
        row = {name: [[float(frame[name].iloc[0])]] for name in frame.columns[:-1]}
        answer = client.predict("line", row)
    whole = LinearRegression().fit(frame.iloc[:, :-1], frame["target"]).predict(frame.iloc[:1, :-1])
    assert abs(float(answer[0]) - whole[0]) < 30, "four fifths of the rows teach much the same"


def _script(server: Server) -> list[psutil.Process]:
    found = []
    for process in server.tree():
        try:
            if "fit.py" in process.cmdline() and "launch.py" not in str(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_script_that_is_cancelled_or_refused(learning: Server, tmp_path: Path) -> None:
    script = tmp_path / "fit.py"
    script.write_text(LINE)
    call = Caller(learning)
    argv = ["train", "--command", "python fit.py 5", "--code", str(script), "--data", "sugar", "--target", "target"]
    done = learning.cli(*argv, "--set", "format=csv", "--set", "requirements=[]", "--detach", "--json")
    job_id = json.loads(done.stdout)["id"]
    call.wait(job_id, lambda job: _script(learning) != [], s=120)
    (process,) = _script(learning)
    call("POST", f"/jobs/{job_id}/cancel", status=202)
    assert call.wait(job_id, s=30)["state"] == "cancelled"
    psutil.wait_procs([process], timeout=5)
    assert not process.is_running()
    script.write_text("import sys; sys.exit('no rows that I like')")
    done = learning.cli(*argv, "--set", "requirements=[]")
    assert done.returncode == 1
    assert "the script ended with code 1; its last words:\nno rows that I like" in done.stderr
    assert str(learning.home) not in done.stderr


def test_code_of_callers_runs_where_the_operator_allows_it(call: Caller) -> None:
    submitted = {"kind": "train", "params": {"recipe": "command", "data": "x", "options": {"command": "python x.py"}}}
    message = call("POST", "/jobs", submitted, 403)["error"]["message"]
    assert "MODELPORT_TRUST_PYTHON_PREDICTORS" in message


def test_tuning_from_the_command_line(learning: Server, tmp_path: Path) -> None:
    argv = [
        "tune", "--recipe", "stepping", "--data", "digits", "--target", "target", "--space", "rate=1e-2..10:log",
        "--space", "decay=0|0.01", "--trials", "5", "--set", "epochs=4", "--metric", "log_loss", "--name", "tuned",
    ]  # fmt: skip
    page = tmp_path / "study.html"
    done = learning.cli(*argv, "--html", str(page), "--alias", "best", "--pruner", "none")
    assert done.returncode == 0, done.stderr
    assert "tuned:1 trained on digits:1" in done.stdout
    assert "LOG_LOSS" in done.stdout and "rate" in done.stdout
    text = page.read_text()
    assert text.count("<svg") >= 2 and "<script" not in text and "validation rows (minimize)" in text
    with learning.client() as client:
        (job,) = client.jobs.list(kind="tune")
        assert client.models.version("tuned", "best").manifest.parents == ["dataset:digits:1", f"job:{job.id}"]
    shown = learning.cli("trials", job.id, "--limit", "2")
    assert shown.returncode == 0 and "more; --limit shows them" in shown.stdout
    rows = json.loads(learning.cli("trials", job.id, "--json").stdout)
    assert rows == job.result["study"]["trials"] or len(rows) == len(job.result["study"]["trials"])
    halved = learning.cli(*argv, "--pruner", "asha", "--seed", "3")
    assert halved.returncode == 0 and "pruned" in halved.stdout
    refused = learning.cli(*argv, "--space", "rats=1..2")
    assert refused.returncode == 1 and "did you mean 'rate'" in refused.stderr
    other = learning.cli("trials", "01JZ8Q6W3V2N5Y7X9T4R1K0PQM")
    assert other.returncode == 1 and "there is no job" in other.stderr


CLIMB = """
import csv, json, os
from pathlib import Path
import numpy as np

params = json.loads(os.environ["MODELPORT_PARAMS"])
with open(os.environ["MODELPORT_TRAIN"]) as file:
    found = list(csv.DictReader(file))
names = json.loads(os.environ["MODELPORT_FEATURES"])
x = np.array([[float(row[name]) for name in names] for row in found])
y = np.array([float(row[os.environ["MODELPORT_TARGET"]]) for row in found])
beta, middle = np.zeros(x.shape[1]), y.mean()
for epoch in range(1, 10):
    for _ in range(20):
        beta -= params["rate"] * x.T @ (x @ beta - (y - middle)) / len(x)
    print(f"metric validation_rmse={np.sqrt(np.mean((x @ beta + middle - y) ** 2))} step={epoch}", flush=True)
out = Path(os.environ["MODELPORT_OUTPUT"])
inputs = "".join(f"  - {{name: {name}, datatype: FP64, shape: [-1, 1]}}\\n" for name in names)
(out / "modelport.yaml").write_text(
    f"inputs:\\n{inputs}outputs:\\n  - {{name: prediction, datatype: FP64, shape: [-1]}}\\n"
)
(out / "predictor.py").write_text(f'''
import numpy as np

class Predictor:
    def predict(self, inputs):
        x = np.column_stack([inputs[name] for name in {names!r}])
        return {{"prediction": x @ np.array({beta.tolist()!r}) + {float(middle)!r}}}
''')
"""


def test_a_script_of_ones_own_is_tuned(learning: Server, tmp_path: Path) -> None:
    """Its lines say how it does, so that a trial that does badly is stopped."""
    script = tmp_path / "climb.py"
    script.write_text(CLIMB)
    with learning.client() as client:
        job = client.training.tune(
            "command", "sugar", {"params.rate": "1e-2..100:log"},
            {"command": "python climb.py", "requirements": [], "format": "csv"}, code=[script], target="target",
            metric="rmse", trials=6, sampler="random", name="climbed",
        )  # fmt: skip
    assert job.result is not None
    study = job.result["study"]
    assert study["counts"]["pruned"] >= 1 and study["counts"]["failed"] == 0
    assert all(
        one["steps"] == 9 if one["state"] == "complete" else 1 <= one["steps"] <= 9 for one in study["trials"]
    )  # a script does not wait for a verdict: it may have written more lines by then
    assert job.result["rmse"] == min(one["value"] for one in study["trials"] if one["state"] == "complete")
    assert set(study["options"]) == {"params.rate"}


@pytest.mark.long
def test_a_killed_tuning_job_goes_on(learning: Server) -> None:
    call = Caller(learning)
    params = {
        "recipe": "stepping", "data": "digits", "target": "target", "space": {"rate": "1e-2..10:log"}, "trials": 5,
        "options": {"epochs": 5, "pause_s": 0.4}, "metric": "log_loss", "pruner": "none", "seed": 7,
    }  # fmt: skip
    whole = call.wait(call.submit("tune", {**params, "name": "whole"}), s=120)
    assert whole["state"] == "succeeded", whole
    job_id = call.submit("tune", {**params, "name": "cut"})
    call.wait(
        job_id,
        lambda job: (job.get("progress") or {}).get("done", 0) >= 1 and job["progress"]["unit"] == "trials",
        s=60,
    )
    seen = learning.cli("trials", job_id)
    assert "LOG_LOSS" in seen.stdout and "complete" in seen.stdout, "also while it runs"
    (worker,) = workers_of(learning)
    tries = worker.children()
    worker.kill()
    psutil.wait_procs(tries, timeout=10)
    assert tries and not any(one.is_running() for one in tries)
    job = call.wait(job_id, s=120)
    assert (job["state"], job["attempt"]) == ("succeeded", 2), job
    values = [[(one["options"], one["value"]) for one in found["result"]["study"]["trials"]] for found in (job, whole)]
    assert values[0] == values[1]
    assert job["result"]["log_loss"] == whole["result"]["log_loss"]
