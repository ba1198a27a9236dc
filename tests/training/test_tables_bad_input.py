"""What is wrong with rows and options of tables: told in words, before the work where it can be, nothing half-made."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from modelport.errors import InvalidInput, ModelportError
from modelport.training.recipe import Start, TrainingData, options_of
from modelport.training.recipes.anomaly import Anomaly
from modelport.training.recipes.ensemble import Ensemble
from modelport.training.recipes.forecast import Forecast
from modelport.training.recipes.ranking import Ranking
from modelport.training.recipes.tabular import Tabular
from tests.training.tables import Case, case, elnino, sklearn_table

RECIPES: dict[str, Any] = {
    "tabular": Tabular(), "ensemble": Ensemble(), "ranking": Ranking(), "anomaly": Anomaly(), "forecast": Forecast(),
}  # fmt: skip


def iris() -> pa.Table:
    return sklearn_table("iris")[0]


def with_column(name: str, values: Any) -> pa.Table:
    """Iris and one more column, or another target."""
    table = iris()
    at = table.schema.get_field_index(name)
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return table.append_column(name, column) if at < 0 else table.set_column(at, name, column)


def month_rows(**changed: Any) -> pa.Table:
    table = elnino().slice(0, 120)
    for name, values in changed.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
    return table


ONES = [1] * 150
GAPS = [None if at == 7 else at % 3 for at in range(150)]
TWO = [at % 2 for at in range(150)]


@dataclass
class Wrong:
    """One row of the table."""

    recipe: str
    says: str
    table: Callable[[], pa.Table] = iris
    target: str | None = "target"
    options: dict[str, Any] = field(default_factory=dict)
    late: bool = False
    """Whether only the rows themselves tell."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Of the data that the recipe is given."""


KNOWN_EARLY = [
    Wrong("tabular", "there is no option 'modle'; did you mean 'model'", options={"modle": "tree"}),
    Wrong("tabular", "options.model: Input should be", options={"model": "perceptron"}),
    Wrong("tabular", "say which model they are for", options={"params": {"max_depth": 2}}),
    Wrong("tabular", "ridge learns numbers, and 'target' has classes", options={"model": "ridge"}),
    Wrong("tabular", "logistic learns classes, and 'target' is a number",
          options={"model": "logistic", "task": "regression"}),
    Wrong("tabular", "class_weight is for classes", options={"task": "regression", "class_weight": "balanced"}),
    Wrong("tabular", "calibrate is for classes", options={"task": "regression", "calibrate": "sigmoid"}),
    Wrong("tabular", "no class '9'", options={"class_weight": {"9": 2}}),
    Wrong("tabular", "or a number above 0 for each class", options={"class_weight": {"1": -2}}),
    Wrong("tabular", "or a number above 0 for each class", options={"class_weight": "balancd"}),
    Wrong("ensemble", "options.models.0.model: Input should be", options={"models": ["tre", "knn"]}),
    Wrong("tabular", "target: say which column", target=None),
    Wrong("tabular", "has one value in all rows", lambda: with_column("target", ONES)),
    Wrong("tabular", "lacks 1 of 150 values", lambda: with_column("target", GAPS)),
    Wrong("tabular", "lacks 1 of 150 values", lambda: with_column("target", [float("nan"), *[1.5] * 148, 2.5])),
    Wrong("tabular", "class 'rare' has 1 row", lambda: with_column("target", ["rare", *["a", "b"] * 74, "a"])),
    Wrong("tabular", "regression predicts numbers", lambda: with_column("target", ["a", "b"] * 75),
          options={"task": "regression"}),
    Wrong("tabular", "is list<", lambda: with_column("target", [[1.0]] * 150)),
    Wrong("tabular", "is timestamp", lambda: with_column("target", pa.array(range(150), pa.timestamp("s")))),
    Wrong("tabular", "column 'pixels' is binary", lambda: with_column("pixels", [b"x"] * 150)),
    Wrong("tabular", "is among the features too", changed={"features": {"target": "int64"}}),
    Wrong("tabular", "no column to learn from", changed={"features": {}}),
    Wrong("tabular", "there is no column 'sepal lenght (cm)'; did you mean 'sepal length (cm)'",
          options={"columns": {"sepal lenght (cm)": "ignore"}}),
    Wrong("tabular", "control characters", lambda: with_column("a\tb", TWO)),
    Wrong("ensemble", "at least 2 items", options={"models": ["tree"]}),
    Wrong("ensemble", "ridge learns numbers", options={"models": ["tree", "ridge"]}),
    Wrong("ensemble", "options.final is for kind=stacking", options={"final": "tree"}),
    Wrong("ensemble", "voting is for kind=voting", options={"kind": "stacking", "voting": "hard"}),
    Wrong("ensemble", "greater than 0", options={"models": [{"model": "tree", "weight": 0}, "knn"]}),
    Wrong("ranking", "has 3 values; ranking learns whether or not"),
    Wrong("ranking", "no column 'town'", lambda: with_column("target", TWO), options={"group": "town"}),
    Wrong("ranking", "has no value 'yes'", lambda: with_column("target", TWO), options={"positive": "yes"}),
    Wrong("ranking", "greater than 0", lambda: with_column("target", TWO), options={"negatives": 0}),
    Wrong("anomaly", "less than or equal to 0.5", target=None, options={"contamination": 0.9}),
    Wrong("anomaly", "too few to tell what is usual", lambda: iris().slice(0, 10), target=None),
    Wrong("anomaly", "only_normal needs a target", target=None, options={"only_normal": True}),
    Wrong("anomaly", "has 3 values; it judges anomalies"),
    Wrong("anomaly", "has no value 'odd'", lambda: with_column("target", TWO), options={"anomaly": "odd"}),
    Wrong("forecast", "no column of dates or times"),
    Wrong("forecast", "no column 'mnth'; did you mean 'month'", month_rows, "temperature", {"time": "mnth"}),
    Wrong("forecast", "a forecast predicts numbers", lambda: month_rows(temperature=["a"] * 120), "temperature"),
    Wrong("forecast", "has one value in all rows", lambda: month_rows(temperature=[1.0] * 120), "temperature"),
    Wrong("forecast", "120 rows are too few for a window of 100", month_rows, "temperature",
          {"window": 100, "horizon": 20}),
    Wrong("forecast", "no column 'wind'", month_rows, "temperature", {"covariates": ["wind"]}),
    Wrong("forecast", "is given as group or covariate", month_rows, "temperature", {"group": "month"}),
]  # fmt: skip

KNOWN_LATE = [
    Wrong("tabular", r"tree \(DecisionTreeClassifier\) has no parameter 'max_deph'; did you mean 'max_depth'",
          options={"model": "tree", "params": {"max_deph": 2}}, late=True),
    Wrong("tabular", "'random_state' is settled by the recipe",
          options={"model": "tree", "params": {"random_state": 2}}, late=True),
    Wrong("tabular", "DecisionTreeClassifier refuses: .*max_depth",
          options={"model": "tree", "params": {"max_depth": -2}}, late=True),
    Wrong("tabular", "KNeighborsClassifier cannot weigh rows",
          options={"model": "knn", "class_weight": "balanced"}, late=True),
    Wrong("tabular", "holds numbers, which can be", options={"columns": {"sepal length (cm)": "text"}}, late=True),
    Wrong("tabular", "numbers with fractions", lambda: with_column("target", [0.5, 1.5, 2.5] * 50),
          options={"task": "classification"}, late=True),
    Wrong("tabular", "no column is left to learn from", lambda: pa.table({"a": ONES, "target": TWO}), late=True),
    Wrong("tabular", "no date in ISO 8601", lambda: with_column("day", ["2024-01-02", "yesterday"] * 75),
          options={"columns": {"day": "date"}}, late=True),
    Wrong("ensemble", "has no parameter 'depth'",
          options={"models": [{"model": "tree", "params": {"depth": 2}}, "knn"]}, late=True),
    Wrong("anomaly", "options.neighbours: 500 of", target=None, options={"method": "lof", "neighbours": 500},
          late=True),
    Wrong("forecast", "have the same time", lambda: month_rows(month=[at // 2 for at in range(120)]), "temperature",
          {"time": "month"}, late=True),
    Wrong("forecast", "windows to", month_rows, "temperature", {"window": 90, "horizon": 20}, late=True),
    Wrong("forecast", "has no parameter 'alfa'; did you mean 'alpha'", month_rows, "temperature",
          {"model": "ridge", "params": {"alfa": 1}}, late=True),
]  # fmt: skip


def prepared(folder: Path, wrong: Wrong) -> tuple[Case, TrainingData]:
    given = case(folder, wrong.table(), wrong.target)
    return given, given.data(**wrong.changed)


@pytest.mark.parametrize("wrong", KNOWN_EARLY, ids=lambda wrong: f"{wrong.recipe}: {wrong.says}")
def test_known_before_any_row_is_read(tmp_path: Path, wrong: Wrong) -> None:
    recipe = RECIPES[wrong.recipe]
    _, data = prepared(tmp_path, wrong)
    with pytest.raises(InvalidInput, match=re.escape(wrong.says)):
        recipe.check(data, options_of(recipe, wrong.options))


@pytest.mark.parametrize("wrong", KNOWN_LATE, ids=lambda wrong: f"{wrong.recipe}: {wrong.says}")
def test_known_by_the_rows_alone(tmp_path: Path, wrong: Wrong) -> None:
    recipe = RECIPES[wrong.recipe]
    given, data = prepared(tmp_path, wrong)
    options = options_of(recipe, wrong.options)
    recipe.check(data, options)
    run = given.run()
    with pytest.raises(ModelportError, match=wrong.says) as raised:
        recipe.train(run, data, options)
    assert raised.value.status < 500 and str(tmp_path) not in raised.value.message
    assert not list(run.out.iterdir())


@pytest.mark.parametrize("recipe", ["ensemble", "ranking", "anomaly", "forecast"])
def test_only_tabular_goes_on_from_a_version(tmp_path: Path, recipe: str) -> None:
    given, data = prepared(tmp_path, Wrong(recipe, "", lambda: with_column("target", TWO)))
    run = given.run(start=Start(tmp_path, {}, {}, []))
    with pytest.raises(InvalidInput, match=f"start: recipe {recipe} cannot go on"):
        RECIPES[recipe].train(run, data, options_of(RECIPES[recipe], {}))


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("recipe", ["tabular", "ranking", "anomaly", "forecast"])
def test_an_empty_part(tmp_path: Path, recipe: str, part: str) -> None:
    table = month_rows() if recipe == "forecast" else with_column("target", TWO)
    given = case(tmp_path, table, "temperature" if recipe == "forecast" else "target")
    if part == "train":
        given.validation = np.arange(len(table))
    else:
        given.validation = np.arange(0)
    with pytest.raises(InvalidInput, match="part has no row|part has 0 rows"):
        RECIPES[recipe].train(given.run(), given.data(), options_of(RECIPES[recipe], {}))


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_class_in_one_part_alone(tmp_path: Path, part: str) -> None:
    given = case(tmp_path, iris(), "target")
    ordered = np.arange(150)
    given.validation = ordered[100:] if part == "train" else ordered[50:]
    says = "is not among those that can be learnt" if part == "train" else "have one class, 0"
    with pytest.raises(InvalidInput, match=says):
        RECIPES["tabular"].train(given.run(), given.data(), options_of(RECIPES["tabular"], {}))


@pytest.mark.parametrize("spoilt", ["state.json", "model.skops"])
def test_a_version_whose_training_is_spoilt(tmp_path: Path, spoilt: str) -> None:
    given = case(tmp_path / "first", iris(), "target")
    given.train(RECIPES["tabular"], model="naive-bayes", importance=False)
    out = tmp_path / "first" / "run" / "out"
    (out / "training" / spoilt).write_bytes(b'{"model": 3}')
    then = case(tmp_path / "then", iris(), "target")
    with pytest.raises(InvalidInput, match="cannot be read; train anew|is refused: the skops file"):
        then.go_on(RECIPES["tabular"], Start(out, {}, {}, []))


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        (lambda: iris().drop(["petal width (cm)"]), {}, "has no column 'petal width"),
        (lambda: with_column("petal width (cm)", ["a", "b"] * 75), {}, "holds texts, and held numbers"),
        (lambda: with_column("target", [3, 4] * 75), {}, "is not among those that can be learnt"),
        (iris, {"model": "sgd"}, "goes on from is 'naive-bayes'"),
        (iris, {"model": "naive-bayes", "params": {"var_smoothing": 1}}, "keeps its own"),
        (iris, {"class_weight": "balanced"}, "keeps its own"),
    ],
)
def test_rows_and_options_that_do_not_fit_the_version(
    tmp_path: Path, table: Callable[[], pa.Table], options: dict[str, Any], says: str
) -> None:
    given = case(tmp_path / "first", iris(), "target")
    given.train(RECIPES["tabular"], model="naive-bayes", importance=False)
    then = case(tmp_path / "then", table(), "target")
    with pytest.raises(InvalidInput, match=says):
        then.go_on(RECIPES["tabular"], Start(tmp_path / "first" / "run" / "out", {}, {}, []), **options)
