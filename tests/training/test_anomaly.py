"""The recipe anomaly: as the libraries' own detectors on the same rows, labels or none, served from raw rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from modelport.training.recipes.anomaly import Anomaly
from tests.training.tables import Case, cars, case, sklearn_table

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Anomaly()
METHODS = ("isolation-forest", "lof", "knn", "ecod", "copod", "hbos")


def tumours(folder: Path) -> Case:
    """breast_cancer with 40 malignant rows among 357 benign ones; 0 is malignant."""
    table, target = sklearn_table("breast_cancer")
    truth = np.array(table[target])
    kept = np.sort(np.concatenate([np.flatnonzero(truth == 0)[:40], np.flatnonzero(truth == 1)]))
    return case(folder, table.take(kept), target)


def matrices(given: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frame = given.table.to_pandas()
    truth = 1 - frame.pop("target").to_numpy()
    rows = frame.to_numpy(np.float64)
    rows = (rows - rows[given.training].mean(axis=0)) / rows[given.training].std(axis=0)
    return rows[given.training].astype(np.float32), rows[given.validation].astype(np.float32), truth[given.validation]


def own(method: str, rows: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Scores of the validation rows by the library itself."""
    if method == "isolation-forest":
        return -IsolationForest(random_state=0).fit(rows).score_samples(held)
    if method == "lof":
        return -LocalOutlierFactor(novelty=True).fit(rows).score_samples(held)
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.hbos import HBOS
    from pyod.models.knn import KNN

    made = {"ecod": ECOD(), "copod": COPOD(), "hbos": HBOS(), "knn": KNN(n_neighbors=20)}[method]
    made.fit(rows.astype(np.float64))
    alone = [made.decision_function(row[None]) for row in held.astype(np.float64)]  # together, answers may differ
    return np.concatenate(alone)


@pytest.mark.parametrize("method", METHODS)
def test_as_good_as_the_librarys_own(tmp_path: Path, method: str) -> None:
    given = tumours(tmp_path)
    rows, held, truth = matrices(given)
    scores = own(method, rows, held)
    trained, served = given.train(RECIPE, method=method, anomaly="0")
    found = served.ask(given.table.take(given.validation))
    assert roc_auc_score(truth, found["score"]) >= roc_auc_score(truth, scores) - 0.01
    assert np.allclose(found["score"], scores, rtol=1e-3, atol=1e-3)
    assert found["is_anomaly"].dtype == bool
    assert (found["is_anomaly"] == (found["score"] > np.float32(trained.report["threshold"]))).all()
    assert trained.report["parity"]["max_difference"] < 1e-3
    assert trained.metrics["validation_roc_auc"] == pytest.approx(roc_auc_score(truth, found["score"]), abs=1e-6)
    assert trained.judged_itself  # 0 is not how an anomaly is written where rows are judged


@pytest.mark.parametrize("method", METHODS)
def test_without_labels_the_wanted_share_is_found(tmp_path: Path, method: str) -> None:
    given = case(tmp_path, cars(), None)
    trained, served = given.train(RECIPE, method=method, contamination=0.05)
    share = served.ask(given.table.take(given.training))["is_anomaly"].mean()
    # a row is its own neighbour when it is asked about, and not when the threshold is found
    assert share <= 0.08 and (share >= 0.02 or method in ("knn", "lof"))
    assert trained.report["contamination"] == 0.05 and not trained.metrics.get("validation_roc_auc")


def test_learnt_from_normal_rows_alone(tmp_path: Path) -> None:
    given = tumours(tmp_path)
    plain, _ = given.train(RECIPE, method="lof", anomaly="0")
    normal, _ = given.train(RECIPE, name="normal", method="lof", anomaly="0", only_normal=True)
    assert normal.metrics["validation_roc_auc"] > max(0.9, plain.metrics["validation_roc_auc"])
