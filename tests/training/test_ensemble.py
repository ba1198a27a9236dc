"""The recipe ensemble: votes and stacks as scikit-learn's own on the same rows, served as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier, VotingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, log_loss, root_mean_squared_error
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelport.training.recipes.ensemble import Ensemble
from tests.training.tables import Case, cars, case, sklearn_table

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Ensemble()
FOREST: dict[str, Any] = {"model": "forest", "params": {"n_estimators": 20}}


def arrays(given: Case) -> tuple[Any, Any, Any, Any]:
    frame = given.table.to_pandas()
    target = frame.pop(given.target).to_numpy()
    rows = frame.to_numpy(np.float64)
    return rows[given.training], target[given.training], rows[given.validation], target[given.validation]


@pytest.mark.parametrize("kind", ["voting", "stacking"])
def test_as_good_as_the_librarys_own(tmp_path: Path, kind: str) -> None:
    given = case(tmp_path, *sklearn_table("wine"))
    members = [
        ("logistic", LogisticRegression(max_iter=2000, random_state=0)),
        ("forest", RandomForestClassifier(n_estimators=20, random_state=0)),
    ]
    own: Any = VotingClassifier(members, voting="soft")
    if kind == "stacking":
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        own = StackingClassifier(members, LogisticRegression(max_iter=2000), cv=folds, stack_method="predict_proba")
    rows, target, held, truth = arrays(given)
    alone = make_pipeline(StandardScaler(), own).fit(rows, target)
    trained, served = given.train(RECIPE, kind=kind, models=["logistic", FOREST], importance=False)
    chances = served.ask(given.table.take(given.validation))["probabilities"].astype(np.float64)
    ours = log_loss(truth, chances / chances.sum(axis=1, keepdims=True))
    assert ours <= log_loss(truth, alone.predict_proba(held)) + 0.005
    assert accuracy_score(truth, chances.argmax(axis=1)) >= accuracy_score(truth, alone.predict(held))
    assert set(trained.report["members"]) == {"1-logistic", "2-forest"}
    assert len(list((tmp_path / "run" / "out").iterdir())) == 1


def test_numbers_are_averaged_as_by_the_library(tmp_path: Path) -> None:
    given = case(tmp_path, *sklearn_table("diabetes"))
    rows, target, held, truth = arrays(given)
    own = VotingRegressor([("ridge", Ridge()), ("knn", KNeighborsRegressor())], weights=[2, 1])
    alone = make_pipeline(StandardScaler(), own).fit(rows, target)
    _, served = given.train(RECIPE, models=[{"model": "ridge", "weight": 2}, "knn"], importance=False)
    found = served.ask(given.table.take(given.validation))["prediction"]
    assert root_mean_squared_error(truth, found) <= 1.001 * root_mean_squared_error(truth, alone.predict(held))


@pytest.mark.parametrize("options", [{"voting": "hard"}, {"kind": "stacking", "final": "boosting"}])
def test_mixed_columns_with_gaps(tmp_path: Path, options: dict[str, Any]) -> None:
    given = case(tmp_path, cars(), "Origin")
    trained, served = given.train(RECIPE, models=["logistic", FOREST, "knn"], folds=3, **options)
    assert trained.report["parity"]["max_difference"] < 1e-3
    held = given.table.take(given.validation)
    found = [label.decode() for label in served.ask(held)["label"].tolist()]
    assert np.mean([a == b for a, b in zip(found, held["Origin"].to_pylist(), strict=True)]) > 0.75


def test_it_says_when_one_alone_is_better(tmp_path: Path) -> None:
    given = case(tmp_path, *sklearn_table("diabetes"))
    trained, _ = given.train(RECIPE, models=["ridge", "tree"], importance=False)
    best = min(trained.report["members"].values())
    told = [text for text in trained.warnings if "alone is better" in text]
    assert bool(told) == (best < trained.report["ensemble"]) and told
