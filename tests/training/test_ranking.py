"""The recipe ranking on rare positives: real tumours, thinned until 1 row in 20 is malignant, and real answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelport.training.recipes.ranking import Ranking
from tests.training.tables import Case, case, fair, sklearn_table

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Ranking()


def rare(folder: Path) -> Case:
    """breast_cancer with malignant (1) in one row of nearly twenty, the same share in both parts."""
    table, _ = sklearn_table("breast_cancer")
    malignant = 1 - np.array(table["target"])
    random = np.random.default_rng(0)
    yes, no = random.permutation(np.flatnonzero(malignant == 1))[:20], np.flatnonzero(malignant == 0)
    kept = np.sort(np.concatenate([yes, no]))
    thinned = table.drop(["target"]).append_column("malignant", pa.array(malignant)).take(kept)
    given = case(folder, thinned, "malignant")
    truth = np.array(thinned["malignant"])
    held = [random.permutation(np.flatnonzero(truth == code)) for code in (0, 1)]
    given.validation = np.sort(np.concatenate([each[: len(each) // 4] for each in held]))
    return given


def test_as_good_as_the_librarys_own(tmp_path: Path) -> None:
    given = rare(tmp_path)
    frame = given.table.to_pandas()
    target = frame.pop("malignant").to_numpy()
    rows = frame.to_numpy(np.float64)
    own = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        rows[given.training], target[given.training]
    )
    chances = own.predict_proba(rows[given.validation])[:, 1]
    truth = target[given.validation]
    trained, served = given.train(RECIPE, model="logistic", importance=False)
    found = served.ask(given.table.take(given.validation))["score"].astype(np.float64)
    assert average_precision_score(truth, found) >= average_precision_score(truth, chances) - 1e-6
    assert log_loss(truth, found) <= log_loss(truth, chances) + 0.001
    assert trained.metrics["validation_pr_auc"] == pytest.approx(average_precision_score(truth, found), abs=1e-6)
    assert not trained.judged_itself and trained.task == "ranking"


@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_thinned_negatives_leave_probabilities_right(tmp_path: Path, model: str) -> None:
    given = case(tmp_path, fair(), "unfaithful")
    options: dict[str, Any] = {"model": model, "importance": False}
    plain, _ = given.train(RECIPE, **options)
    thinned, served = given.train(RECIPE, name="thinned", negatives=1, **options)
    assert 0.3 < thinned.report["negatives_kept"] < 0.6
    found = served.ask(given.table.take(given.validation))["score"]
    truth = np.array(given.table["unfaithful"].take(given.validation))
    assert abs(found.mean() - truth.mean()) < 0.03
    before, after = plain.report["figures"], thinned.report["figures"]
    assert after["log_loss"] < before["log_loss"] + 0.03 and after["calibration_error"] < 0.08


def test_candidates_of_a_group_are_put_in_order(tmp_path: Path) -> None:
    table = fair()
    couples = pa.array([f"town {at % 400}" for at in range(len(table))])
    given = case(tmp_path, table.append_column("town", couples), "unfaithful")
    trained, served = given.train(RECIPE, model="logistic", group="town", k=5)
    assert "town" not in [spec.name for spec in served.found.signature.inputs]
    ordered = trained.metrics["validation_grouped_ndcg_at_5"]
    held = given.table.take(given.validation)
    scores, towns, truth = served.ask(held)["score"], np.array(held["town"]), np.array(held["unfaithful"])
    by_chance = np.mean([truth[towns == town].mean() for town in np.unique(towns)])
    assert by_chance + 0.2 < ordered <= 1 and len(scores) == len(truth)


def test_ids_are_hashed_and_new_ones_have_a_place(tmp_path: Path) -> None:
    table = fair()
    random = np.random.default_rng(0)
    ids = pa.array([f"id-{number}" for number in random.integers(0, 900, len(table))])
    given = case(tmp_path, table.append_column("page", ids), "unfaithful")
    _, served = given.train(RECIPE, model="logistic", high_cardinality="hash", importance=False)
    held = given.table.take(given.validation)
    renamed = held.set_column(held.schema.get_field_index("page"), "page", pa.array(["never seen"] * len(held)))
    assert np.isfinite(served.ask(renamed)["score"]).all()


def test_a_target_of_words_is_judged_by_the_recipe(tmp_path: Path) -> None:
    table, _ = sklearn_table("breast_cancer")
    named = pa.array(["benign" if value else "malignant" for value in table["target"].to_pylist()])
    given = case(tmp_path, table.drop(["target"]).append_column("tumour", named), "tumour")
    trained, served = given.train(RECIPE, model="logistic", importance=False)
    assert trained.judged_itself and trained.report["positive"] == "malignant"
    held = given.table.take(given.validation)
    score = served.ask(held)["score"]
    truth = np.array(held["tumour"]) == "malignant"
    assert score[truth].mean() > 0.85 and score[~truth].mean() < 0.15
