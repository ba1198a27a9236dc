"""The job that judges a version as it is served: real replicas, real rows, what a server would say of bad ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from modelport.control.actors import Actor
from modelport.control.jobs.run import fingerprint_of
from modelport.errors import InvalidInput, ModelportError, NotAllowed, NotFound
from tests.data.digits import digits_onnx, digits_table
from tests.data.lab import Lab, csv_of

PIXELS = [f"p{index}" for index in range(64)]
X = {"inputs": {"X": ["p*"]}}


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def worse_onnx() -> bytes:
    """A classifier of digits that learnt from 60 of them."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    classifier = LogisticRegression(max_iter=200).fit(images[:60], labels[:60])
    converted = to_onnx(
        classifier, images[:1].astype("float32"), options={"zipmap": False}, target_opset={"": 18, "ai.onnx.ml": 3}
    )
    return bytes(converted.SerializeToString())


def line_onnx() -> bytes:
    """A number from four: FP32 ``X`` [-1, 4] to [-1, 1]."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    features = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    fitted = LinearRegression().fit(features, features @ [1.0, -2.0, 0.5, 0.0])
    return bytes(to_onnx(fitted, features[:1], target_opset={"": 18, "ai.onnx.ml": 3}).SerializeToString())


def silent_onnx() -> bytes:
    """Digits as a label, and nothing else."""
    model = onnx.load_from_string(digits_onnx())
    del model.graph.output[1]
    return bytes(model.SerializeToString())


@pytest.fixture
def digits(lab: Lab) -> Any:
    """The lab, with digits split into parts, and a model; the test part as a table."""
    lab.push("digits", digits_onnx())
    table = digits_table().append_column("half", pa.array(["left" if n % 3 else "right" for n in range(1797)]))
    lab.collect("all", {"digits.parquet": parquet(table)}, label="label")
    lab.run("split", dataset="all", name="digits", seed=3, ratios={"train": 0.6, "validation": 0.2, "test": 0.2})
    return lab


def test_figures_are_those_of_scikit_learn(digits: Lab) -> None:
    result = digits.run("evaluate", model="digits", data="digits/test", slices=["half", "p20"], intervals=200, **X)
    table = digits.table("digits/test")
    images = np.stack([table.column(name).to_numpy() for name in PIXELS], axis=1).astype(np.float32)
    labels, chances = onnxruntime.InferenceSession(digits_onnx()).run(None, {"X": images})
    truth = table.column("label").to_numpy()
    assert result["rows"] == len(truth) and result["accuracy"] == metrics.accuracy_score(truth, labels)
    assert result["log_loss"] == pytest.approx(metrics.log_loss(truth, chances), rel=1e-6)
    assert result["f1_macro"] == pytest.approx(metrics.f1_score(truth, labels, average="macro"))
    found = digits.services.evaluations.get(digits.actor, result["evaluation"])
    report = found.report
    assert report is not None and report.confusion is not None
    assert report.confusion.counts == metrics.confusion_matrix(truth, labels).tolist()
    assert report.intervals["accuracy"].low <= result["accuracy"] <= report.intervals["accuracy"].high
    left = next(one for one in report.slices if one.value == "left")
    mask = np.array(table.column("half").to_pylist()) == "left"
    assert left.figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth[mask], labels[mask]))
    assert sum(one.rows for one in report.slices if one.column == "p20") == len(truth)
    assert (found.model, found.version, found.data, found.purpose) == ("digits", 1, "digits:1/test", "evaluate")
    assert found.about["slices"] == ["half", "p20"] and found.openings == []


def test_a_part_that_was_opened_before_is_told(digits: Lab) -> None:
    digits.push("worse", worse_onnx())
    first = digits.run("evaluate", "one", model="digits", data="digits/test", intervals=0, **X)
    assert first["opened_before"] == 0 and not any("opened" in text for text in first["warnings"])
    again = digits.run("evaluate", "one", model="digits", data="digits/test", intervals=0, **X)
    assert again["opened_before"] == 0, "the same job's next attempt opens nothing"
    assert again["evaluation"] == first["evaluation"]
    second = digits.run("evaluate", "two", model="worse", data="digits/test", intervals=0, **X)
    assert second["opened_before"] == 1
    assert any("digits:1/test was opened once before (evaluate of digits:1)" in text for text in second["warnings"])
    third = digits.run("evaluate", "three", model="worse", data="digits", intervals=0, **X)
    assert third["opened_before"] == 2, "the whole holds the part"
    chosen = [digits.run("evaluate", model="worse", data="digits/validation", intervals=0, **X) for _ in range(2)]
    assert chosen[1]["opened_before"] == 2 and not any("opened" in text for text in chosen[1]["warnings"])
    listed = digits.services.evaluations.list(digits.actor, model="worse")
    assert [one.data for one in listed] == ["digits:1/validation"] * 2 + ["digits:1", "digits:1/test"]
    assert len(digits.services.evaluations.list(digits.actor, data="digits:1/test")) == 2
    assert len(digits.services.evaluations.list(digits.actor, data="digits")) == 5
    shown = digits.services.evaluations.get(digits.actor, third["evaluation"])
    assert [(one.model, one.job) for one in shown.openings] == [("worse:1", "two"), ("digits:1", "one")]


def test_two_versions_on_the_same_rows(digits: Lab) -> None:
    digits.push("worse", worse_onnx())
    result = digits.run(
        "evaluate", model="digits", data="digits/test", against="worse", intervals=300, stratified=True, **X
    )
    assert result["verdict"].startswith("digits:1 is better than worse:1: accuracy")
    report = digits.services.evaluations.get(digits.actor, result["evaluation"]).report
    assert report is not None and report.comparison is not None
    found = report.comparison
    accuracy = next(one for one in found.differences if one.figure == "accuracy")
    rows = report.rows
    assert accuracy.difference == pytest.approx((found.only_this_right - found.only_other_right) / rows)
    assert 0 < accuracy.low < accuracy.difference < accuracy.high
    both = digits.services.evaluations.list(digits.actor, data="digits:1/test")
    assert digits.services.evaluations.list(digits.actor, model="worse")[0].figures["accuracy"] == accuracy.other
    assert [(one.model, one.opened_before) for one in both] == [("worse", 0), ("digits", 0)], "one job opens once"
    same = digits.run("evaluate", model="digits", data="digits/test", against="digits:1", intervals=100, **X)
    assert same["verdict"].startswith("no difference")


def test_a_figure_of_ones_own(make_lab: Callable[..., Lab], digits: Lab, tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "def low(truth, predicted, rows):\n"
        "    return {'low': float(np.mean(predicted[truth < '5'] == truth[truth < '5'])), 'rows': len(rows['half'])}\n"
        "def raises(truth, predicted, rows):\n    return 1 / 0\n"
        "def nothing(truth, predicted, rows):\n    return float('nan')\n"
    )
    params: dict[str, Any] = {"model": "digits", "data": "digits/test", "files": digits.send({"mine_v.py": code}), **X}
    with pytest.raises(NotAllowed, match="PYTHON_PREDICTORS"):
        digits.run("evaluate", metrics=["mine_v:low"], **params)
    digits.services.settings.trust.python_predictors = True
    result = digits.run("evaluate", metrics=["mine_v:low"], intervals=50, **params)
    table = digits.table("digits/test")
    assert result["low"] > 0.9 and result["figures"]["rows"] == len(table)
    report = digits.services.evaluations.get(digits.actor, result["evaluation"]).report
    assert report is not None and report.intervals["low"].low <= result["low"] <= report.intervals["low"].high
    for name, said in (
        ("mine_v:raises", "'mine_v:raises' failed: ZeroDivisionError: division by zero (line 5 of mine_v.py)"),
        ("mine_v:nothing", "'mine_v:nothing' gave 'nan'"),
        ("mine_v:away", "'mine_v:away' cannot be loaded: AttributeError"),
        ("nowhere_v:f", "'nowhere_v:f' cannot be loaded: ModuleNotFoundError"),
    ):
        with pytest.raises(InvalidInput) as caught:
            digits.run("evaluate", metrics=[name], intervals=0, **params)
        assert said in caught.value.message


def test_numbers_are_judged(lab: Lab) -> None:
    rng = np.random.default_rng(0)
    features, noise = rng.normal(size=(300, 4)).astype(np.float32), rng.normal(size=300)
    model, name = line_onnx(), "X"
    lab.push("tall", model)
    answers = onnxruntime.InferenceSession(model).run(None, {name: features})[0].reshape(-1)
    table = pa.table({**{f"f{n}": features[:, n] for n in range(4)}, "y": answers + noise})
    lab.collect("rows", {"rows.parquet": parquet(table)})
    result = lab.run("evaluate", model="tall", data="rows", target="y", inputs={name: ["f*"]}, intervals=100)
    assert result["mae"] == pytest.approx(metrics.mean_absolute_error(answers + noise, answers), rel=1e-6)
    assert result["r2"] == pytest.approx(metrics.r2_score(answers + noise, answers), rel=1e-6)
    report = lab.services.evaluations.get(lab.actor, result["evaluation"]).report
    assert report is not None and report.task == "regression" and report.main == "r2"
    assert set(report.error_quantiles) == {"0.05", "0.25", "0.5", "0.75", "0.95"}


def test_what_a_version_is_for_is_in_its_manifest(lab: Lab) -> None:
    """The same answers as a ranking, and as numbers; a forecast takes lists."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 4)).astype(np.float32)
    table = pa.table(
        {
            **{f"f{n}": features[:, n] for n in range(4)}, "click": rng.random(200) < 0.2,
            "past": list(features), "next": rng.normal(size=200),
        }
    )  # fmt: skip
    lab.collect("rows", {"t.parquet": parquet(table)}, label="click")
    columns = {"X": ["f0", "f1", "f2", "f3"]}
    with pytest.raises(InvalidInput, match="columns: the model has no input 'Y'; it has X"):
        lab.push("ads", line_onnx(), columns={"Y": ["f0"]})
    lab.push("ads", line_onnx(), task="ranking", columns=columns)
    ranked = lab.run("evaluate", model="ads", data="rows", intervals=0)
    assert lab.run("predict", model="ads", data="rows")["rows"] == 200
    answers = features @ np.array([1.0, -2.0, 0.5, 0.0])
    clicks = table.column("click").to_numpy()
    assert ranked["roc_auc"] == pytest.approx(metrics.roc_auc_score(clicks, answers), abs=1e-6)
    told = lab.run(
        "evaluate", model="ads", data="rows", target="next", task="forecast", inputs={"X": ["past"]}, intervals=0
    )
    assert told["mae"] == pytest.approx(np.abs(answers - table.column("next").to_numpy()).mean(), rel=1e-5)


def test_a_model_may_not_see_the_truth(lab: Lab) -> None:
    lab.push("line", line_onnx())
    lab.collect("rows", {"t.csv": csv_of({"X": [1.0, 2.0], "a": [1.0, 2.0]})})
    with pytest.raises(InvalidInput, match="input 'X' has the name of the column that holds the truth"):
        lab.run("evaluate", model="line", data="rows", target="X")


BAD: list[tuple[str, dict[str, Any], type[ModelportError], str]] = [
    ("no label", {"data": "plain"}, InvalidInput, "target: dataset plain:1 has no label"),
    ("no such column", {"target": "nothing"}, NotFound, "target: the data has no column 'nothing'"),
    ("no such part", {"data": "digits/exam"}, NotFound, "has no part 'exam'"),
    ("no such model", {"model": "nobody"}, NotFound, "no model 'nobody'"),
    ("no such version", {"model": "digits:7"}, NotFound, "'7'"),
    ("no such other", {"against": "nobody"}, NotFound, "no model 'nobody'"),
    ("no such slice", {"slices": ["nothing"]}, NotFound, "slices: dataset digits:1 has no column 'nothing'"),
    ("no such weight", {"weight": "nothing"}, NotFound, "weight"),
    ("other classes", {"target": "half"}, InvalidInput, "target: column 'half' holds left, right; digits:1 knows 0, 1"),
    ("no such output", {"output": "nothing"}, InvalidInput, "output: the model has no output 'nothing'"),
    ("no such input", {"inputs": {"Y": ["p0"]}}, InvalidInput, "no input 'Y'"),
    ("too few columns", {"inputs": {"X": ["p1", "p2"]}}, InvalidInput, "not 2 columns"),
]


def test_what_is_wrong_is_said_before_work_starts(digits: Lab) -> None:
    digits.collect("plain", {"t.csv": csv_of({"a": [1, 2], "b": [3, 4]})})
    for what, params, error, said in BAD:
        with pytest.raises(error) as caught:
            digits.run("evaluate", "bad", **{"model": "digits", "data": "digits/test", **X, **params})
        assert said in caught.value.message, (what, caught.value.message)
    assert not (digits.folder / "jobs" / "bad").exists(), "work had begun"
    assert digits.services.evaluations.list(digits.actor) == []


def test_rows_that_cannot_be_judged(digits: Lab) -> None:
    table = digits_table().slice(0, 60)
    labels = table.column("label").to_pylist()

    def judged(name: str, values: list[Any], **params: Any) -> dict[str, Any]:
        at = table.schema.get_field_index("label")
        digits.collect(name, {"t.parquet": parquet(table.set_column(at, "label", pa.array(values)))}, label="label")
        return digits.run("evaluate", **{"model": "digits", "data": name, "intervals": 20, **X, **params})

    with pytest.raises(InvalidInput, match="column 'label' has no value in 1 rows"):
        judged("holes", [None, *labels[1:]])
    with pytest.raises(InvalidInput, match="has no value in 1 rows"):
        judged("nan", [float("nan"), *map(float, labels[1:])])
    with pytest.raises(InvalidInput, match="column 'label' holds cat, dog; digits:1 knows 0, 1"):
        judged("strange", ["cat", "dog"] * 30)
    with pytest.raises(InvalidInput, match="none of the classes in the truth"):
        judged("numbers", [77, 88] * 30)
    with pytest.raises(InvalidInput, match="'positive'|positive: there is no class 'cat'"):
        judged("same", labels, positive="cat")
    some = judged("some", ["eleven", *map(str, labels[1:])])
    assert any("1 rows have classes that the model does not know" in text for text in some["warnings"])
    floats = judged("floats", [float(label) for label in labels])
    assert floats["accuracy"] == judged("ints", labels)["accuracy"]
    one = judged("one", [3] * 60)
    assert "roc_auc_macro" not in one and any("no row is of class" in text for text in one["warnings"])


def test_a_model_without_probabilities(lab: Lab) -> None:
    lab.push("digits", silent_onnx())
    lab.collect("rows", {"t.parquet": parquet(digits_table().slice(0, 200))}, label="label")
    result = lab.run("evaluate", model="digits", data="rows", task="classification", intervals=0, **X)
    assert result["accuracy"] > 0.9 and "log_loss" not in result and "roc_auc_macro" not in result
    assert any("there are no probabilities" in text for text in result["warnings"])


def test_many_values_of_a_slice(lab: Lab) -> None:
    lab.push("digits", digits_onnx())
    table = digits_table().append_column("id", pa.array([f"row {n}" for n in range(1797)]))
    lab.collect("ids", {"t.parquet": parquet(table)}, label="label")
    result = lab.run("evaluate", model="digits", data="ids", slices=["id"], intervals=0, **X)
    assert any("'id' has 1797 values; the 50 most frequent are shown" in text for text in result["warnings"])
    report = lab.services.evaluations.get(lab.actor, result["evaluation"]).report
    assert report is not None and len(report.slices) == 51
    assert report.slices[-1].value == "(1747 other values)" and report.slices[-1].rows == 1747


def test_another_projects_things_are_not_there(digits: Lab) -> None:
    result = digits.run("evaluate", model="digits", data="digits/test", intervals=0, **X)
    with digits.services.database.session() as session:
        from modelport.storage import tables

        session.add(tables.Project(id=2, name="acme"))
    stranger = Actor(2, "acme", "eve", "admin")
    with pytest.raises(NotFound, match="there is no evaluation"):
        digits.services.evaluations.get(stranger, result["evaluation"])
    assert digits.services.evaluations.list(stranger) == []


def test_a_stage_that_was_done_is_not_done_again(digits: Lab) -> None:
    params = {"model": "digits", "data": "digits/test", **X}
    services, actor = digits.services, digits.actor
    from modelport import plugins
    from modelport.control.work.evaluate import Evaluate

    kept = plugins.names, plugins.load
    plugins.names, plugins.load = lambda group: ("evaluate",), lambda group, name: Evaluate
    try:
        one = fingerprint_of(services, actor, "evaluate", params)
        assert one == fingerprint_of(services, actor, "evaluate", params) != None  # noqa: E711
        digits.push("digits", worse_onnx())
        assert fingerprint_of(services, actor, "evaluate", params) != one
    finally:
        plugins.names, plugins.load = kept
    result = digits.run("evaluate", intervals=0, **params)
    assert Evaluate().still_there(services, actor, result)
    assert not Evaluate().still_there(services, actor, {"evaluation": 999})
