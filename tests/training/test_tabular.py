"""The recipe tabular on real tables: as good as scikit-learn alone on the same rows, and served from raw ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelport.errors import InvalidInput, ModelRejectedInput
from modelport.training.recipe import Start
from modelport.training.recipes.tabular import Tabular
from modelport.training.tabular.estimators import _CLASSES, _NUMBERS
from tests.training.tables import Case, cars, case, sklearn_table, weather

RECIPE = Tabular()
pytestmark = pytest.mark.usefixtures("one_thread")


def arrays(given: Case) -> tuple[Any, Any, Any, Any]:
    """Numbers of training and validation as scikit-learn takes them."""
    frame = given.table.to_pandas()
    target = frame.pop(given.target).to_numpy()
    rows = frame.to_numpy(np.float64)
    return rows[given.training], target[given.training], rows[given.validation], target[given.validation]


@pytest.mark.parametrize(
    ("data", "model", "alone"),
    [
        ("iris", "logistic", make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))),
        ("wine", "forest", RandomForestClassifier(random_state=0)),
        ("breast_cancer", "logistic", make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))),
        ("breast_cancer", "boosting", HistGradientBoostingClassifier(random_state=0)),
    ],
)
def test_classes_are_as_good_as_the_librarys_own(tmp_path: Path, data: str, model: str, alone: Any) -> None:
    given = case(tmp_path, *sklearn_table(data))
    trained, served = given.train(RECIPE, model=model, importance=False)
    rows, target, held, truth = arrays(given)
    own = log_loss(truth, alone.fit(rows, target).predict_proba(held))
    found = served.ask(given.table.take(given.validation))
    chances = found["probabilities"].astype(np.float64)
    ours = log_loss(truth, chances / chances.sum(axis=1, keepdims=True))
    assert ours <= own + 0.005
    assert (found["label"] == truth).mean() >= (alone.predict(held) == truth).mean() - 1e-9
    assert served.found.labels["probabilities"] == [str(name) for name in np.unique(target)]
    assert trained.class_labels == served.found.labels["probabilities"]
    assert trained.report["parity"]["label_agreement"] == 1 and trained.report["parity"]["max_difference"] < 1e-3


@pytest.mark.parametrize(
    ("model", "alone"),
    [
        ("ridge", make_pipeline(StandardScaler(), Ridge(random_state=0))),
        ("boosting", HistGradientBoostingRegressor(random_state=0)),
    ],
)
def test_numbers_are_as_good_as_the_librarys_own(tmp_path: Path, model: str, alone: Any) -> None:
    given = case(tmp_path, *sklearn_table("diabetes"))
    _, served = given.train(RECIPE, model=model, importance=False)
    rows, target, held, truth = arrays(given)
    own = root_mean_squared_error(truth, alone.fit(rows, target).predict(held))
    ours = root_mean_squared_error(truth, served.ask(given.table.take(given.validation))["prediction"])
    assert ours <= own * 1.005


@pytest.mark.parametrize("model", sorted(_CLASSES))
def test_every_classifier_is_served_as_it_was_learnt(tmp_path: Path, model: str) -> None:
    given = case(tmp_path, cars(), "Origin")
    small = {"forest": {"n_estimators": 10}, "extra-trees": {"n_estimators": 10}, "boosting": {"max_iter": 15}}
    trained, served = given.train(RECIPE, model=model, importance=False, params=small.get(model, {}))
    assert trained.report["parity"]["max_difference"] < 1e-3
    found = served.ask(given.table.take(given.validation))
    truth = given.table["Origin"].take(given.validation).to_pylist()
    assert np.mean([a.decode() == b for a, b in zip(found["label"].tolist(), truth, strict=True)]) > 0.6
    assert served.found.labels["probabilities"] == ["Europe", "Japan", "USA"]


@pytest.mark.parametrize("model", sorted(_NUMBERS))
def test_every_regressor_is_served_as_it_was_learnt(tmp_path: Path, model: str) -> None:
    given = case(tmp_path, cars(), "Acceleration")
    small = {"forest": {"n_estimators": 10}, "extra-trees": {"n_estimators": 10}, "boosting": {"max_iter": 15}}
    trained, served = given.train(RECIPE, model=model, importance=False, params=small.get(model, {}))
    assert trained.report["parity"]["max_difference"] < 1e-3
    assert np.isfinite(served.ask(given.table.take(given.validation))["prediction"]).all()


def test_raw_rows_of_every_type_go_in(tmp_path: Path) -> None:
    table = cars()
    rows = len(table)
    more = {
        "heavy": pa.array([w > 3000 for w in table["Weight_in_lbs"].to_pylist()]),
        "sold": pa.array([None if at % 9 == 0 else at % 2 == 0 for at in range(rows)]),
        "seen": pa.array([None if at % 7 == 0 else 86_400 * 331 * at for at in range(rows)], pa.timestamp("s", "UTC")),
        "words": pa.array([None if at % 11 == 0 else f"Great car, {name}!" for at, name in enumerate(table["Name"])]),
        "number": pa.array(range(rows)),
        "same": pa.array(["x"] * rows),
    }
    for name, column in more.items():
        table = table.append_column(name, column)
    given = case(tmp_path, table, "Origin")
    trained, served = given.train(RECIPE, model="logistic", columns={"Cylinders": "category"})
    assert trained.report["left_out"] == [
        "column 'number' was left out: it seems to number the rows (columns: {NAME: number} takes it nevertheless)",
        "column 'same' was left out: it has one value in all rows",
    ]
    inputs = {spec.name: spec.datatype for spec in served.found.signature.inputs}
    assert inputs["heavy"] == "BOOL" and inputs["sold"] == "FP64" and inputs["seen"] == inputs["words"] == "BYTES"
    held = given.table.take(given.validation)
    truth = held["Origin"].to_pylist()
    found = [label.decode() for label in served.ask(held)["label"].tolist()]
    assert np.mean([a == b for a, b in zip(found, truth, strict=True)]) > 0.85
    assert next(iter(trained.report["importance"])) in {"Name", "words", "Displacement", "Cylinders"}


def test_auto_keeps_the_best_of_three(tmp_path: Path) -> None:
    given = case(tmp_path, weather(), "weather")
    trained, served = given.train(RECIPE)
    tried = trained.report["tried"]
    models = {name: value for name, value in tried.items() if name != "by"}
    assert tried["by"] == "log loss" and len(models) == 3
    assert trained.report["model"] == min(models, key=lambda name: models[name])
    truth = given.table["weather"].take(given.validation).to_pylist()
    found = [label.decode() for label in served.ask(given.table.take(given.validation))["label"].tolist()]
    most = max(truth.count(name) for name in set(truth)) / len(truth)
    assert np.mean([a == b for a, b in zip(found, truth, strict=True)]) > most + 0.2


@pytest.mark.parametrize("how", ["sigmoid", "isotonic"])
def test_probabilities_are_calibrated_in_the_file_too(tmp_path: Path, how: str) -> None:
    given = case(tmp_path, *sklearn_table("breast_cancer"))
    options = {"model": "forest", "params": {"n_estimators": 20}, "class_weight": "balanced", "importance": False}
    trained, _ = given.train(RECIPE, calibrate=how, **options)
    assert trained.report["parity"]["max_difference"] < 1e-3


def test_boosting_stops_early_by_the_validation_rows(tmp_path: Path) -> None:
    given = case(tmp_path, *sklearn_table("wine"))
    options: dict[str, Any] = {"model": "boosting", "params": {"max_iter": 300}, "importance": False}
    stopped, _ = given.train(RECIPE, early_stopping=True, **options)
    whole, _ = given.train(RECIPE, name="whole", early_stopping=False, **options)
    assert stopped.metrics["rounds"] < whole.metrics["rounds"] == 300


def test_a_text_that_is_no_date_is_refused_by_name(tmp_path: Path) -> None:
    given = case(tmp_path, weather(), "weather")
    _, served = given.train(RECIPE, model="naive-bayes", importance=False)
    row = given.table.slice(0, 1).drop(["date"])
    for text in ("next year", "2012-13-01", "2012-01-01T00:00:00+02:00"):
        with pytest.raises(ModelRejectedInput, match="date is no date in ISO 8601"):
            served.ask(row.append_column("date", pa.array([text])))
    texts = ("2012-01-01", "2012-01-01T00:00", "2012-01-01 00:00:00", "2012-01-01T00:00:00.5Z")
    same = [served.ask(row.append_column("date", pa.array([text])))["probabilities"] for text in texts]
    assert all(np.array_equal(same[0], other) for other in same)
    assert np.isfinite(served.ask(row.append_column("date", pa.array([""])))["probabilities"]).all()


def test_class_weights_move_the_answers(tmp_path: Path) -> None:
    given = case(tmp_path, *sklearn_table("breast_cancer"))
    _, plain = given.train(RECIPE, model="logistic", importance=False)
    _, weighed = given.train(RECIPE, name="weighed", model="logistic", importance=False, class_weight={"0": 50.0})
    held = given.table.take(given.validation)
    assert weighed.ask(held)["probabilities"][:, 0].mean() > plain.ask(held)["probabilities"][:, 0].mean() + 0.01


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    given = case(tmp_path, cars(), "Origin")
    options: dict[str, Any] = {"model": "forest", "params": {"n_estimators": 5}, "importance": False}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        given.train(RECIPE, name=name, seed=seed, **options)
    files = {name: (tmp_path / name / "out" / "model.onnx").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_a_leaking_column_is_named(tmp_path: Path) -> None:
    table, target = sklearn_table("breast_cancer")
    leak = pa.array([f"{'benign' if value else 'malignant'}" for value in table[target].to_pylist()])
    given = case(tmp_path, table.append_column("diagnosis", leak), target)
    trained, _ = given.train(RECIPE, model="tree", importance=False)
    assert list(trained.report["leaks"]) == ["diagnosis"]
    assert any("'diagnosis' alone predicts the target almost perfectly" in text for text in trained.warnings)


def test_a_leak_of_numbers_is_named(tmp_path: Path) -> None:
    table, target = sklearn_table("diabetes")
    double = pa.array([2 * value + 1 for value in table[target].to_pylist()])
    given = case(tmp_path, table.append_column("twice", double), target)
    trained, _ = given.train(RECIPE, model="ridge", importance=False)
    assert list(trained.report["leaks"]) == ["twice"]


@pytest.mark.parametrize("model", ["sgd", "mlp", "naive-bayes"])
def test_training_goes_on_from_a_version(tmp_path: Path, model: str) -> None:
    table, target = sklearn_table("breast_cancer")
    table = table.select([*table.column_names[:8], target])
    first = case(tmp_path / "first", table.slice(0, 250), target)
    first.train(RECIPE, model=model, importance=False)
    start = Start(tmp_path / "first" / "run" / "out", {}, {}, [])
    then = case(tmp_path / "then", table.slice(250), target)
    trained, served = then.go_on(RECIPE, start, importance=False)
    begun = trained.report["start"]
    assert begun["after"] != begun["before"]
    held = then.table.take(then.validation)
    assert (served.ask(held)["label"] == np.array(held[target])).mean() > 0.88
    again = case(tmp_path / "again", table.slice(100, 200), target)
    again.go_on(RECIPE, Start(tmp_path / "then" / "on" / "out", {}, {}, []), importance=False)


@pytest.mark.parametrize("model", ["sgd", "mlp"])
def test_numbers_go_on_from_a_version(tmp_path: Path, model: str) -> None:
    table, target = sklearn_table("diabetes")
    given = case(tmp_path / "first", table.slice(0, 200), target)
    given.train(RECIPE, model=model, importance=False)
    then = case(tmp_path / "then", table.slice(200), target)
    trained, _ = then.go_on(RECIPE, Start(tmp_path / "first" / "run" / "out", {}, {}, []), importance=False)
    assert trained.report["start"]["after"] < trained.report["start"]["before"] * 1.02


def test_what_cannot_go_on_says_so(tmp_path: Path) -> None:
    table, target = sklearn_table("breast_cancer")
    given = case(tmp_path / "first", table, target)
    given.train(RECIPE, model="boosting", params={"max_iter": 5}, importance=False)
    with pytest.raises(InvalidInput, match="nothing that training could go on from"):
        given.go_on(RECIPE, Start(tmp_path / "first" / "run" / "out", {}, {}, []))


def test_columns_may_be_called_anything(tmp_path: Path) -> None:
    table, target = sklearn_table("iris")
    names = ["label", "probabilities", 'it\'s "ünï" /t0.0 {x}', "X"]
    odd = table.select(table.column_names[:4]).rename_columns(names).append_column("class", table[target])
    given = case(tmp_path, odd, "class")
    _, served = given.train(RECIPE, model="forest", params={"n_estimators": 5}, importance=False)
    assert [spec.name for spec in served.found.signature.inputs] == names
    found = served.ask(given.table.take(given.validation))
    assert list(found) == ["predicted_label", "predicted_probabilities"]
    assert served.found.labels == {"predicted_probabilities": ["0", "1", "2"]}
    assert (found["predicted_label"] == np.array(odd["class"].take(given.validation))).mean() > 0.85


def test_few_rows_and_rare_classes_are_told(tmp_path: Path) -> None:
    table, target = sklearn_table("iris")
    places = [*range(60), 100, 101, 102, 103]
    given = case(tmp_path, table.take(places), target)
    given.validation = np.array([0, 1, 50, 51, 63])
    trained, _ = given.train(RECIPE, model="boosting", importance=False)
    assert any("class '2' has 3 rows to learn from" in text for text in trained.warnings)
