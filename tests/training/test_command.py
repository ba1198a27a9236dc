"""The recipe ``command``: real scripts in a real environment, on real rows."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from modelport.control.environments import Environments
from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.runtime import Trust
from modelport.errors import InvalidInput, ModelportError, RunFailed
from modelport.training.recipe import Start, TrainingData, options_of
from modelport.training.recipes.command import Command
from tests.training.attempts import attempt, data_of, halves, trained

LEAST_SQUARES = """
import json, os
from pathlib import Path
import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto

target = os.environ["MODELPORT_TARGET"]
def rows(place):
    lines = [json.loads(line) for line in Path(os.environ[place]).read_text().splitlines()]
    x = np.array([[line[name] for name in names] for line in lines])
    return x, np.array([line[target] for line in lines])
names = json.loads(os.environ["MODELPORT_FEATURES"])
x, y = rows("MODELPORT_TRAIN")
beta, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)
x, y = rows("MODELPORT_VALIDATION")
left = y - np.c_[x, np.ones(len(x))] @ beta
print("progress 1/1 fitted")
print(f"metric r2={1 - (left ** 2).sum() / ((y - y.mean()) ** 2).sum()} step=1")
inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in names]
nodes = [
    helper.make_node("Concat", names, ["x"], axis=1),
    helper.make_node("Gemm", ["x", "w", "b"], ["prediction"]),
]
weights = [numpy_helper.from_array(beta[:-1, None].astype("f4"), "w"), numpy_helper.from_array(beta[-1:].astype("f4"), "b")]
graph = helper.make_graph(nodes, "line", inputs, [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, [None, 1])], weights)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), os.environ["MODELPORT_OUTPUT"] + "/model.onnx")
with open(os.environ["MODELPORT_OUTPUT"] + "/modelport.json", "w") as file:
    json.dump({"task": "regression", "metrics": {"rows": len(x)}}, file)
"""  # noqa: E501
ENDS_WELL = "import os; open(os.environ['MODELPORT_OUTPUT'] + '/model.bin', 'w').write('x')\n"


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """With onnx and numpy from the index, built once for all tests here."""
    return Environments(tmp_path_factory.mktemp("environments"))


@pytest.fixture
def run(environments: Environments, tmp_path: Path) -> Callable[..., Any]:
    return partial(attempt, tmp_path / "run", environments)


@pytest.fixture(scope="module")
def diabetes() -> pa.Table:
    found = load_diabetes(as_frame=True)
    return pa.table({**{name: found.data[name].to_numpy() for name in found.data}, "progression": found.target})


@pytest.fixture
def data(tmp_path: Path, diabetes: pa.Table) -> TrainingData:
    return data_of(tmp_path / "data", *halves(diabetes), "progression")


REQUIREMENTS = ["numpy", "onnx"]


def test_a_script_learns_and_leaves_a_model(run: Any, data: TrainingData, diabetes: pa.Table) -> None:
    attempted, told = run({"train.py": LEAST_SQUARES})
    options = {"command": "python train.py", "requirements": REQUIREMENTS, "format": "jsonl"}
    found = trained(Command(), attempted, data, **options)
    assert (found.task, found.warnings) == ("regression", [])
    train, validation = halves(diabetes)
    x = np.column_stack([train[name] for name in data.features])
    reference = LinearRegression().fit(x, train["progression"])
    x = np.column_stack([validation[name] for name in data.features])
    expected = r2_score(validation["progression"], reference.predict(x))
    assert told.metrics == [("r2", pytest.approx(expected, abs=1e-9), 1)]
    assert found.metrics["r2"] == pytest.approx(expected, abs=1e-9)
    assert found.metrics["rows"] == len(validation)
    assert (1, 1, "fitted", "") in told.progress
    assert any(package.startswith("onnx==") for package in found.report["packages"])
    assert [path.name for path in attempted.out.iterdir()] == ["model.onnx"], "what it told is not part of the model"

    import onnxruntime

    files = ("model.onnx",)
    inspected = OnnxFormat().inspect(attempted.out, files, Trust())
    assert [spec.name for spec in inspected.signature.inputs] == list(data.features)
    session = onnxruntime.InferenceSession(attempted.out / "model.onnx")
    feed = {name: x[:, [index]].astype("f4") for index, name in enumerate(data.features)}
    (answers,) = session.run(None, feed)
    assert r2_score(validation["progression"], answers[:, 0]) == pytest.approx(expected, abs=1e-5)


BOOSTING = """
import json, os
import numpy as np
import pandas as pd
import lightgbm
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

params, target = json.loads(os.environ["MODELPORT_PARAMS"]), os.environ["MODELPORT_TARGET"]
train, validation = (pd.read_parquet(os.environ[f"MODELPORT_{part}"]) for part in ("TRAIN", "VALIDATION"))
x, y = train.drop(columns=target).to_numpy("f4"), train[target]
def told(state):
    for _, name, value, _ in state.evaluation_result_list:
        print(f"metric {name}={value} step={state.iteration + 1}", flush=True)
model = lightgbm.LGBMClassifier(random_state=int(os.environ["MODELPORT_SEED"]), n_jobs=1, verbose=-1, **params)
model.fit(x, y, eval_set=[(validation.drop(columns=target).to_numpy("f4"), validation[target])], callbacks=[told])
types = [("features", FloatTensorType([None, x.shape[1]]))]
found = convert_lightgbm(model, initial_types=types, zipmap=False, target_opset=15)
out = os.environ["MODELPORT_OUTPUT"]
open(f"{out}/model.onnx", "wb").write(found.SerializeToString())
columns = list(train.drop(columns=target))
told = {"class_labels": [str(name) for name in model.classes_], "inputs": {"features": columns}}
json.dump(told, open(f"{out}/modelport.json", "w"))
"""


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.skipif(not os.environ.get("MODELPORT_PROVE"), reason="an environment of 600 MB: make prove")
def test_a_framework_that_is_not_installed_here(run: Any, tmp_path: Path) -> None:
    """LightGBM, from the index: as good as the same rows and seed give in that environment without Modelport."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import HistGradientBoostingClassifier

    assert importlib.util.find_spec("lightgbm") is None
    found = load_breast_cancer(as_frame=True)
    table = pa.table({**{name: found.data[name].to_numpy() for name in found.data}, "benign": found.target})
    train, validation = halves(table)
    attempted, told = run(
        {"train.py": BOOSTING, "requirements.txt": "lightgbm\nonnxmltools\npackaging\nskl2onnx\npandas\npyarrow\n"}
    )
    params = {"n_estimators": 40, "num_leaves": 15}
    data = data_of(tmp_path / "data", train, validation, "benign")
    made = trained(Command(), attempted, data, command="python train.py", params=params)
    losses = [value for name, value, _ in told.metrics if name == "binary_logloss"]
    assert len(losses) == 40 and losses[-1] < losses[0]
    assert made.class_labels == ["0", "1"]

    import onnxruntime

    session = onnxruntime.InferenceSession(attempted.out / "model.onnx")
    x = np.column_stack([validation[name] for name in data.features]).astype("f4")
    labels, _ = session.run(None, {"features": x})
    accuracy = float((labels == validation["benign"].to_numpy()).mean())
    rows = np.column_stack([train[name] for name in data.features])
    reference = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, random_state=0).fit(
        rows, train["benign"]
    )
    assert accuracy >= reference.score(x, validation["benign"]) - 0.02
    print(f"LightGBM {accuracy:.4f}, scikit-learn's boosting {reference.score(x, validation['benign']):.4f}")


# -- what it is given -------------------------------------------------------------------------------------------------

LOOK = """
import csv, json, os, sys
from pathlib import Path
found = {name: value for name, value in os.environ.items()}
train = Path(found["MODELPORT_TRAIN"])
listed = sorted(str(p.relative_to(train)) for p in train.rglob("*") if p.is_file()) if train.is_dir() else []
first = train.read_text().splitlines()[:2] if train.is_file() else []
out = Path(found["MODELPORT_OUTPUT"])
(out / "seen.json").write_text(json.dumps({"env": found, "cwd": os.getcwd(), "files": listed, "first": first,
    "python": sys.prefix, "beside": sorted(os.listdir())}))
"""


def look(run: Any, data: TrainingData, **options: Any) -> dict[str, Any]:
    attempted, _ = run({"look.py": LOOK, "lib/own.py": "x = 1\n"})
    trained(Command(), attempted, data, command="python look.py", requirements=REQUIREMENTS, **options)
    seen: dict[str, Any] = json.loads((attempted.out / "seen.json").read_text())
    return seen


def test_it_knows_what_it_needs_and_none_of_the_servers_secrets(
    run: Any, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MODELPORT_DATABASE_URL", "MODELPORT_KEY", "AWS_SECRET_ACCESS_KEY", "PIP_INDEX_URL", "SOME_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("MODELPORT_JOB_ID", "j1")
    seen = look(run, data, params={"depth": 3, "names": ["a"]})
    assert "secret" not in seen["env"].values()
    env = {name: value for name, value in seen["env"].items() if name.startswith("MODELPORT_")}
    assert json.loads(env["MODELPORT_PARAMS"]) == {"depth": 3, "names": ["a"]}
    assert (env["MODELPORT_TARGET"], env["MODELPORT_SEED"], env["MODELPORT_JOB_ID"]) == ("progression", "0", "j1")
    assert set(env) == {
        f"MODELPORT_{name}"
        for name in ("TRAIN", "VALIDATION", "OUTPUT", "CHECKPOINTS", "PARAMS", "SEED", "TARGET", "FEATURES", "THREADS",
                     "ATTEMPT", "JOB_ID")
    }  # fmt: skip
    assert seen["python"] == seen["env"]["VIRTUAL_ENV"] != sys.prefix
    assert seen["beside"] == ["lib", "look.py"]
    assert "PYTHONPATH" not in seen["env"]
    assert seen["env"]["OMP_NUM_THREADS"] == "1"
    assert Path(seen["env"]["HOME"]).parent == Path(seen["cwd"]).parent


def test_it_may_go_on_from_a_version_with_older_rows(run: Any, data: TrainingData, tmp_path: Path) -> None:
    attempted, _ = run({"look.py": LOOK})
    attempted.start = Start(tmp_path / "version", {}, {}, [])
    older = replace(data, replay=data.validation)
    trained(Command(), attempted, older, command="python look.py", requirements=REQUIREMENTS, format="csv")
    seen = json.loads((attempted.out / "seen.json").read_text())["env"]
    assert seen["MODELPORT_START"] == str(tmp_path / "version")
    assert Path(seen["MODELPORT_REPLAY"]).read_text() == Path(seen["MODELPORT_VALIDATION"]).read_text()


def test_rows_lie_there_in_the_form_that_is_asked_for(run: Any, tmp_path: Path, diabetes: pa.Table) -> None:
    train, validation = halves(diabetes)
    some = data_of(tmp_path / "data", train, validation, "progression", features=["bmi", "age"])
    whole = data_of(tmp_path / "whole", train, validation, "progression")
    assert look(run, some, format="csv")["first"][0] == '"bmi","age","progression"'
    assert set(json.loads(look(run, some, format="jsonl")["first"][0])) == {"bmi", "age", "progression"}
    assert look(run, some)["files"] == ["part-00000.parquet"]
    kept = pq.read_table(tmp_path / "run" / "kept" / "data" / "train")
    assert kept.column_names == ["age", "bmi", "progression"], "a column that was left out is not there"
    assert kept["bmi"].to_pylist() == train["bmi"].to_pylist()
    shutil.rmtree(tmp_path / "run" / "kept" / "data")
    assert look(run, whole)["files"] == ["part-00000.parquet", "part-00001.parquet"]
    assert pq.read_table(tmp_path / "run" / "kept" / "data" / "train").to_pylist() == train.to_pylist()


def test_images_lie_in_folders_by_label(run: Any, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = []
    for image in digits.images[:40]:
        stream = BytesIO()
        Image.fromarray((image * 15).astype("u1")).save(stream, "PNG")
        pictures.append(stream.getvalue())
    labels = [*map(str, digits.target[:39]), None]
    table = pa.table({"image": pictures, "label": pa.array(labels, pa.string()), "path": ["x"] * 40})
    found = data_of(tmp_path / "data", table.slice(0, 30), table.slice(30), "label")
    seen = look(run, found, format="images")
    assert [name.rpartition("/")[0] for name in seen["files"]] == sorted(labels[:30])
    place = tmp_path / "run" / "kept" / "data"
    assert (place / "train" / seen["files"][0]).read_bytes() == pictures[int(Path(seen["files"][0]).stem)]
    assert [path.parent.name for path in (place / "validation").rglob("*.png")].count("unlabelled") == 1


# -- how it ends ------------------------------------------------------------------------------------------------------


def fails(run: Any, data: TrainingData, script: str, **options: Any) -> str:
    attempted, _ = run({"train.py": script})
    with pytest.raises(ModelportError) as caught:
        trained(Command(), attempted, data, **{"command": "python train.py", "requirements": REQUIREMENTS, **options})
    message = caught.value.message
    assert str(attempted.folder) not in message and "/tmp" not in message and str(Path.home()) not in message, message
    assert isinstance(caught.value, RunFailed) == ("died" in message)
    return message


OUT = "import os, json; from pathlib import Path; out = Path(os.environ['MODELPORT_OUTPUT'])\n"
BAD_ENDS = [
    ("a = 1\nraise ValueError('no such colour: blau')", ["code 1", 'File "train.py", line 2', "ValueError: no such"]),
    ("import json; json.loads('{')", ["code 1", 'File "…/decoder.py"', "JSONDecodeError"]),
    ("def f(:\n", ["code 1", 'File "train.py", line 1', "SyntaxError"]),
    ("import torch_that_is_not_there", ["ModuleNotFoundError: No module named 'torch_that_is_not_there'"]),
    ("import os; open(os.getcwd() + '/../secret.txt')", ["FileNotFoundError", "'../secret.txt'"]),
    ("import sys; sys.exit('the data has no rows for 1999')", ["code 1", "no rows for 1999"]),
    ("import sys; sys.exit(7)", ["code 7; it said nothing"]),
    ("import sys; print('only said this'); sys.exit(2)", ["code 2", "only said this"]),
    ("import os; os.kill(os.getpid(), 9)", ["died (SIGKILL); it said nothing"]),
    ("import os; os.abort()", ["died (SIGABRT)"]),
    ("pass", ["left no model in the folder MODELPORT_OUTPUT", "ONNX", "predictor.py"]),
    (OUT + "(out / 'modelport.json').write_text('{}')", ["left no model"]),
    (OUT + "(out / 'empty').mkdir()", ["left no model"]),
    (OUT + "(out / 'm').symlink_to('/etc/passwd')", ["'m' is a link or a device"]),
    (OUT + "(out / 'm').write_text('x'); (out / 'modelport.json').write_text('{\"')", ["modelport.json: Invalid JSON"]),
    (
        OUT + "(out / 'm').write_text('x'); (out / 'modelport.json').write_text('{\"labels\": []}')",
        ["modelport.json: labels: Extra inputs", "class_labels"],
    ),
    (
        OUT + "(out / 'm').write_text('x'); (out / 'modelport.json').write_text('{\"metrics\": {\"a\": \"b\"}}')",
        ["modelport.json: metrics.a: Input should be a valid number"],
    ),
    (
        OUT + "(out / 'm').write_text('x'); (out / 'modelport.json').write_text('{\"task\": \"guessing\"}')",
        ["modelport.json: task: Input should be 'classification'"],
    ),
    (
        OUT + "(out / 'm').write_text('x'); (out / 'modelport.json').write_text('{\"preprocessing\": [{}]}')",
        ["modelport.json: preprocessing.0"],
    ),
]


@pytest.mark.parametrize(("script", "says"), BAD_ENDS, ids=[str(number) for number in range(len(BAD_ENDS))])
def test_a_bad_end_is_said_in_the_scripts_own_words(run: Any, data: TrainingData, script: str, says: list[str]) -> None:
    message = fails(run, data, script)
    assert all(part in message for part in says), message


def test_its_time_is_up(run: Any, data: TrainingData) -> None:
    began = time.monotonic()
    script = "import time; print('begun', flush=True); time.sleep(600)"
    message = fails(run, data, script, timeout_s=1)
    assert "did not end within 1 s (options.timeout_s); its last words:\nbegun" in message
    assert time.monotonic() - began < 60


BAD_OPTIONS = [
    ({}, "options.command: Field required"),
    ({"command": "python 'x"}, "options.command: Value error, it cannot be read as a command line: no closing"),
    ({"command": "  "}, "options.command: Value error"),
    ({"command": "x", "requirement": []}, "no option 'requirement'; did you mean 'requirements'"),
    ({"command": "x", "requirements": ["--index-url http://x"]}, "options belong to the server"),
    ({"command": "x", "requirements": ["./here"]}, "is no requirement"),
    ({"command": "x", "requirements": ["a @ http://h/a.whl"]}, "only https:// addresses"),
    ({"command": "x", "format": "tsv"}, "options.format: Input should be 'parquet'"),
    ({"command": "x", "timeout_s": 0}, "options.timeout_s: Input should be greater than 0"),
    ({"command": "x", "params": {"a": "x" * 200_000}}, "more than 100000 characters; put them into a file"),
    ({"command": "x", "format": "images"}, "images need one column of bytes"),
    ({"command": "no-such-program x"}, "there is no program 'no-such-program'; the files given are train.py"),
    ({"command": "./run.sh"}, "there is no program './run.sh'"),
    ({"command": "python trian.py"}, "there is no file 'trian.py'; the files given are train.py"),
]


@pytest.mark.parametrize(("options", "says"), BAD_OPTIONS, ids=[says for _, says in BAD_OPTIONS])
def test_bad_options(run: Any, data: TrainingData, options: dict[str, Any], says: str) -> None:
    attempted, _ = run({"train.py": "pass"})
    with pytest.raises(InvalidInput) as caught:
        trained(Command(), attempted, data, **{"requirements": REQUIREMENTS, **options} if options else {})
    assert says in caught.value.message


# -- what it says meanwhile -------------------------------------------------------------------------------------------

SAYS = OUT + (
    "import sys\nprint('metric loss=0.5 accuracy=0.25 step=3')\nprint('metric loss=nan')\nprint('progress 3')\n"
    "print('progress 2/8 halfway there')\nprint('metric of the day')\nprint('metricloss=1')\nprint('x' * 300_000)\n"
    "sys.stdout.write('metric last=1e-3')\nprint('progress 9/9', file=sys.stderr)\nos.write(1, bytes([255, 10]))\n"
    "(out / 'm').write_text('x')\n"
)


def test_lines_become_figures_and_progress(run: Any, data: TrainingData, capfd: pytest.CaptureFixture[str]) -> None:
    attempted, told = run({"train.py": SAYS})
    found = trained(Command(), attempted, data, command="python -u train.py", requirements=REQUIREMENTS)
    assert told.metrics[:2] == [("loss", 0.5, 3), ("accuracy", 0.25, 3)]
    assert told.metrics[2][0] == "loss" and np.isnan(told.metrics[2][1])
    assert [one[:3] for one in told.progress[2:]] == [(3.0, None, ""), (2.0, 8.0, "halfway there")]
    assert found.warnings == [
        "a line was not understood: 'metric of the day'; the form is 'metric NAME=NUMBER step=NUMBER'"
    ]
    assert "loss" not in found.metrics and found.metrics["accuracy"] == 0.25, "a version's figures are numbers"
    logged = capfd.readouterr()
    assert "metric of the day" in logged.out and "progress 9/9" in logged.err, "all of it is in the log"


def test_a_process_that_it_left_behind_does_not_hold_it_up(run: Any, data: TrainingData) -> None:
    script = OUT + (
        "import subprocess, sys\nchild = subprocess.Popen(['sleep', '60'])\nprint(f'metric child={child.pid}')\n"
        "(out / 'm').write_text('x')\n"
    )
    attempted, told = run({"train.py": script})
    began = time.monotonic()
    trained(Command(), attempted, data, command="python train.py", requirements=REQUIREMENTS)
    psutil.Process(int(told.metrics[0][1])).kill()
    assert time.monotonic() - began < 45


# -- kills ------------------------------------------------------------------------------------------------------------

COUNTS = """
import os, time
from pathlib import Path
kept = Path(os.environ["MODELPORT_CHECKPOINTS"]) / "numbers"
begun = len(kept.read_text().split()) if kept.exists() else 0
for number in range(begun, 30):
    with kept.open("a") as file:
        file.write(f"{number}\\n")
    print(f"metric number={number} step={number}", flush=True)
    time.sleep(0.05)
(Path(os.environ["MODELPORT_OUTPUT"]) / "m").write_text(f"{begun} {kept.read_text()}")
"""
OUTSIDE = """
import sys
from pathlib import Path
from modelport.control.environments import Environments
from modelport.training.recipes.command import Command
from tests.training.attempts import attempt, data_of, halves, trained
import pyarrow.parquet as pq
folder = Path(sys.argv[1])
run, _ = attempt(folder / "run", Environments(Path(sys.argv[2])), {"train.py": Path(sys.argv[3]).read_text()}, int(sys.argv[4]))
table = pq.read_table(folder / "data")
trained(Command(), run, data_of(folder / "rows", *halves(table), "progression"), command="python train.py", requirements=["numpy", "onnx"])
"""  # noqa: E501


def test_a_killed_run_takes_its_script_along_and_goes_on(
    environments: Environments, tmp_path: Path, diabetes: pa.Table
) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(diabetes, tmp_path / "data" / "rows.parquet")
    (tmp_path / "script.py").write_text(COUNTS)
    numbers = tmp_path / "run" / "kept" / "checkpoints" / "numbers"

    def start(number: int) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", OUTSIDE, str(tmp_path), str(environments._folder), str(tmp_path / "script.py")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        return subprocess.Popen([*argv, str(number)], env=env)

    def count() -> int:
        return len(numbers.read_text().split()) if numbers.exists() else 0

    process = start(1)
    deadline = time.monotonic() + 90
    while count() < 5 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    assert count() >= 5
    (script,) = psutil.Process(process.pid).children()
    assert script.cmdline()[-1] == "train.py"
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs([script], timeout=10)
    assert not script.is_running(), "the script dies with its job"
    begun = count()
    assert begun < 30
    assert start(2).wait(timeout=90) == 0
    first, *rest = (tmp_path / "run" / "out" / "m").read_text().split()
    assert int(first) == begun, "it went on where it was"
    assert rest == [str(number) for number in range(30)]


def test_what_is_told_to_end_ends_its_script(run: Any, data: TrainingData) -> None:
    class Stopped(BaseException):
        pass

    attempted, _ = run({"train.py": COUNTS})
    pids: list[int] = []

    def stop(name: str, value: float, step: int | None) -> None:
        pids.extend(child.pid for child in psutil.Process().children() if child.cmdline()[-1:] == ["train.py"])
        if value >= 3:
            raise Stopped

    attempted.metric = stop
    with pytest.raises(Stopped):
        trained(Command(), attempted, data, command="python train.py", requirements=REQUIREMENTS)
    assert pids and not psutil.pid_exists(pids[0])


def test_what_its_models_are_for(data: TrainingData) -> None:
    recipe = Command()
    options = options_of(recipe, {"command": "x"})
    assert recipe.task(data, options) == "regression"
    assert recipe.task(data, options_of(recipe, {"command": "x", "task": "ranking"})) == "ranking"
