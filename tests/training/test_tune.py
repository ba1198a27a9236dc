"""The job ``tune``, with real trials in real processes on real rows: what it finds, and what kills cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from sklearn.datasets import load_digits, load_wine

from modelport import plugins
from modelport.control.jobs.run import params_of
from modelport.control.work.train import Train
from modelport.control.work.tune import Tune
from modelport.errors import InvalidInput, ModelportError, NotFound
from tests.data.conftest import make_lab  # noqa: F401
from tests.data.lab import KINDS, Lab
from tests.training import stepping

KINDS |= {"train": Train, "tune": Tune}
LONG = pytest.mark.skipif(not os.environ.get("MODELPORT_PROVE"), reason="make prove")
RATES = {"rate": "1e-3..30:log"}


@pytest.fixture
def lab(make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """A lab whose processes know the recipe of the tests."""
    entries = stepping.install(tmp_path / "recipes")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
    monkeypatch.syspath_prepend(entries[0])
    plugins.names.cache_clear()
    yield make_lab()
    plugins.names.cache_clear()
    assert not [one for one in psutil.Process().children(recursive=True) if "control.work.trial" in str(one.cmdline())]


def digits(lab: Lab) -> None:
    frame = load_digits(as_frame=True).frame.iloc[:400]
    lab.run("collect", name="digits", files=lab.send({"digits.csv": frame.to_csv(index=False)}))


def wine(lab: Lab) -> None:
    frame = load_wine(as_frame=True).frame.rename(columns=lambda name: name.replace("/", "_"))
    lab.run("collect", name="wine", files=lab.send({"wine.csv": frame.to_csv(index=False)}))


def tune(lab: Lab, job: str = "study", **params: Any) -> dict[str, Any]:
    given = {"recipe": "stepping", "data": "digits", "target": "target", "space": RATES, "metric": "log_loss", **params}
    work = Tune()
    checked = params_of(work, given)
    work.check(lab.services, lab.actor, checked)
    return work.run(lab.job(job), checked)


def told(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The trials, without what a clock says."""
    return [{name: value for name, value in one.items() if name != "seconds"} for one in result["study"]["trials"]]


@pytest.mark.long
def test_it_beats_the_default_and_registers_the_best(lab: Lab) -> None:
    wine(lab)
    options = {"model": "tree", "importance": False}
    plain = lab.run("train", recipe="tabular", data="wine", target="target", options=options)
    found = tune(lab, recipe="tabular", data="wine", options=options, space={"model": "tree|logistic|forest"}, trials=3)
    study = found["study"]
    first = study["trials"][0]
    assert first["options"] == {"model": "tree"}, "it begins with what was given"
    assert first["value"] == pytest.approx(plain["log_loss"], abs=1e-12), "equal options, equal figures"
    assert found["log_loss"] == min(one["value"] for one in study["trials"]) < plain["log_loss"]
    assert study["options"] == study["trials"][study["best"]]["options"]
    version = lab.services.registry.version(lab.actor, "wine", found["version"])
    assert version.manifest.parents == ["dataset:wine:1", "job:study"]
    assert version.manifest.metrics["validation_log_loss"] == found["log_loss"]
    assert version.manifest.metrics["trials"] == 3
    files = {entry.path: entry for entry in version.manifest.files}
    folder = lab.services.artifacts.materialize(lab.actor.project_id, version.digest, version.manifest.files)
    whole = json.loads((folder / "training" / "study.json").read_text())
    assert "training/study.json" in files and whole["trials"] == study["trials"]
    story = json.loads((folder / "training" / "training.json").read_text())
    assert story["params"]["options"]["model"] == study["options"]["model"]
    again = lab.run("train", recipe="tabular", data="wine", target="target", options={**options, **study["options"]})
    assert again["log_loss"] == found["log_loss"], "the options that were found give the same when they are trained by"


@pytest.mark.prove
@LONG
def test_the_first_trial_shows_which_figure_there_is(lab: Lab) -> None:
    """Rows to be ranked that belong to no lists have no NDCG."""
    frame = load_wine(as_frame=True).frame.rename(columns=lambda name: name.replace("/", "_"))
    frame["target"] = (frame["target"] == 2).astype(int)
    lab.run("collect", name="rare", files=lab.send({"rare.csv": frame.to_csv(index=False)}))
    space = {"model": "logistic|boosting"}
    found = tune(lab, recipe="ranking", data="rare", options={}, space=space, metric=None, sampler="grid")
    study = found["study"]
    assert (study["metric"], study["direction"]) == ("roc_auc", "maximize")
    assert found["roc_auc"] == max(one["value"] for one in study["trials"])


def test_pruning_stops_trials_early(lab: Lab, tmp_path: Path) -> None:
    digits(lab)
    notes = tmp_path / "epochs.txt"
    found = tune(lab, options={"notes": str(notes), "epochs": 9}, trials=8, sampler="random", seed=1)
    counts = found["study"]["counts"]
    assert counts["pruned"] >= 3 and counts["complete"] >= 1 and counts["failed"] == 0
    made: dict[float, int] = {}
    for line in notes.read_text().splitlines():
        made[float(line.split()[0])] = made.get(float(line.split()[0]), 0) + 1
    for trial in found["study"]["trials"]:
        epochs = made[trial["options"]["rate"]]
        assert epochs == trial["steps"], "no epoch is learnt after a trial was stopped"
        assert (epochs == 9) if trial["state"] == "complete" else (epochs in (1, 3, 9))
    assert sum(made.values()) < 8 * 9 * 0.7
    assert not list((lab.folder / "jobs" / "study" / "trials").glob("*/model"))[1:], "only the best trial's files stay"


@pytest.mark.long
def test_killed_processes_of_trials_cost_nothing_but_time(lab: Lab, tmp_path: Path) -> None:
    digits(lab)
    options = {"notes": str(tmp_path / "a.txt"), "die": ""}
    whole = tune(lab, "whole", options=options, trials=4, seed=2)
    notes = tmp_path / "b.txt"
    cut = tune(lab, "cut", options={"notes": str(notes), "die": str(tmp_path / "died")}, trials=4, seed=2)
    assert (tmp_path / "died").exists()
    assert told(cut) == told(whole)
    assert cut["digest"] != "" and cut["log_loss"] == whole["log_loss"]
    assert notes.read_text() == (tmp_path / "a.txt").read_text(), "it went on from its checkpoint"


SCRIPT = """
import sys
from pathlib import Path
from modelport.control.actors import Actor
from modelport.control.assembly import build_services
from modelport.settings import Settings
from tests.data.lab import Lab
from tests.training.test_tune import tune
folder = Path(sys.argv[1])
services = build_services(Settings(home=folder / "home"), owner_token=None, keys_required=False, migrate=False)
lab = Lab(services, Actor(1, "default", "tester", "admin"), folder)
tune(lab, "cut", options={"notes": sys.argv[2], "pause_s": 0.05}, trials=5, seed=2)
"""


@pytest.mark.prove
@LONG
def test_a_killed_job_goes_on_with_its_study(lab: Lab, tmp_path: Path) -> None:
    digits(lab)
    whole = tune(lab, "whole", options={"notes": str(tmp_path / "a.txt"), "pause_s": 0.05}, trials=5, seed=2)
    notes = tmp_path / "b.txt"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), str(notes)])
    expected = (tmp_path / "a.txt").read_text().splitlines()
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and process.poll() is None:
        if notes.exists() and len(notes.read_text().splitlines()) >= 12:
            break
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(children, timeout=10)
    assert children and not any(child.is_running() for child in children), "trials die with their job"
    assert 12 <= len(notes.read_text().splitlines()) < len(expected), "it was killed in the middle"
    found = tune(lab, "cut", options={"notes": str(notes), "pause_s": 0.05}, trials=5, seed=2)
    assert told(found) == told(whole)
    assert found["log_loss"] == whole["log_loss"]
    made = notes.read_text().splitlines()
    assert sorted(set(made)) == sorted(expected) and len(made) <= len(expected) + 1, "nothing is learnt twice"
    again = tune(lab, "cut", options={"notes": str(notes), "pause_s": 0.05}, trials=5, seed=2)
    assert again == found and len(lab.services.registry.versions(lab.actor, "digits")) == 2, "one version each"


@pytest.mark.long
def test_several_at_once(lab: Lab) -> None:
    digits(lab)
    found = tune(
        lab, trials=6, workers=2, sampler="grid", space={"rate": "0.1|1.0|10.0", "epochs": "3|6"}, pruner="none"
    )
    trials = found["study"]["trials"]
    assert [one["options"] for one in trials][::2] == [{"rate": rate, "epochs": 3} for rate in (0.1, 1.0, 10.0)]
    assert {one["state"] for one in trials} == {"complete"}
    assert found["log_loss"] == min(one["value"] for one in trials)


@pytest.mark.prove
@LONG
def test_equal_options_are_trained_once(lab: Lab, tmp_path: Path) -> None:
    digits(lab)
    notes = tmp_path / "epochs.txt"
    found = tune(lab, options={"notes": str(notes), "epochs": 3}, space={"rate": "0.1|1.0"}, trials=9, pruner="none")
    trials = found["study"]["trials"]
    assert len(notes.read_text().splitlines()) == 2 * 3
    repeated = [one for one in trials if "same_as" in one]
    assert all(one["value"] == trials[one["same_as"]]["value"] for one in repeated)
    assert len(trials) - len(repeated) == 2


@pytest.mark.prove
@LONG
def test_time_that_is_up(lab: Lab) -> None:
    digits(lab)
    options = {"pause_s": 0.2, "epochs": 3}
    found = tune(lab, options=options, trials=1000, timeout_s=40.0, pruner="none")
    assert found["study"]["trials"][-1]["message"] == "the study's time was up (timeout_s)"
    with pytest.raises(InvalidInput, match=r"no trial ended within 0.5 s \(timeout_s\); give more time"):
        tune(lab, "short", options=options, timeout_s=0.5)


def test_failed_trials_do_not_end_the_study(lab: Lab) -> None:
    digits(lab)
    found = tune(lab, options={"refuse": "odd", "epochs": 3}, space={"kind": "softmax|odd"}, sampler="grid")
    assert [one["state"] for one in found["study"]["trials"]] == ["complete", "failed"]
    assert found["study"]["trials"][1]["message"] == "options.refuse: odd is not liked"
    with pytest.raises(InvalidInput, match="none of 2 trials ended well; the last one: options.refuse"):
        tune(lab, "none", options={"refuse": "always"}, space={"kind": "softmax|odd"}, sampler="grid")
    with pytest.raises(InvalidInput, match="none of 2 trials ended well; all were stopped early"):
        tune(lab, "broken", options={"broken": True}, space={"epochs": "3|4"}, sampler="grid")
    assert len(lab.services.registry.versions(lab.actor, "digits")) == 1, "nothing half-made"


@pytest.mark.prove
@LONG
def test_it_is_told_to_end(lab: Lab) -> None:
    digits(lab)

    class Stopped(BaseException):
        pass

    def stop(signum: int, frame: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(8, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Stopped):
            tune(lab, options={"pause_s": 0.5, "epochs": 1000}, pruner="none")
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


BAD = [
    ({"space": {"rates": "1..2"}}, "space: there is no option 'rates'; did you mean 'rate'"),
    ({"space": {}}, "params.space: Dictionary should have at least 1 item"),
    ({"space": {"rate": "2..1"}}, "low (2) has to be less than high (1)"),
    ({"space": {"rate": "0..1:log"}}, "has to begin above 0"),
    ({"space": {"rate": {"choices": []}}}, "at least 1 item"),
    ({"space": {"rate": "fast|slow"}}, "space.rate: 'fast' is not possible: options.rate: Input should be a valid"),
    ({"trials": 10_001}, "params.trials: Input should be less than or equal to 10000"),
    ({"trials": 0}, "params.trials"),
    ({"workers": 65}, "params.workers"),
    ({"sampler": "grid"}, "space.rate: the sampler 'grid' needs choices, or a range with a step"),
    ({"sampler": "genetic"}, "params.sampler: Input should be 'tpe', 'random' or 'grid'"),
    ({"metric": None, "direction": "minimize"}, "direction: say of which metric"),
    ({"folds": 3}, "folds: tuning chooses by the validation rows"),
    ({"options": {"epoch": 3}}, "options: there is no option 'epoch'; did you mean 'epochs'"),
    ({"target": "label"}, "has no column 'label'"),
    ({"data": "nothing"}, "nothing"),
    ({"recipe": "steping"}, "did you mean 'stepping'"),
    ({"trails": 3}, "params.trails: Extra inputs"),
]


def test_what_is_wrong_is_said_before_the_work_begins(lab: Lab) -> None:
    digits(lab)
    for params, says in BAD:
        with pytest.raises(ModelportError) as caught:
            tune(lab, **params)
        assert isinstance(caught.value, InvalidInput | NotFound)
        assert says in caught.value.message, caught.value.message
    assert not (lab.folder / "jobs" / "study").exists()


def test_a_figure_that_is_not_there(lab: Lab) -> None:
    digits(lab)
    with pytest.raises(InvalidInput, match="metric: 'acuracy' is none of the figures that 'stepping' has here; did"):
        tune(lab, metric="acuracy", options={"epochs": 2})
