"""What the recipes for tables reach beside the libraries alone: same rows, same seed, figures of the served answers.

    PYTHONPATH=. python benchmarks/tables.py            # a Markdown table; a minute on one core

Rows are split by seed 0, a quarter to judge by (series: their last quarter). The libraries get the same columns scaled
as is usual for them, and their own defaults.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.training import tables
from threadpoolctl import threadpool_limits

from modelport.training.recipes.anomaly import Anomaly
from modelport.training.recipes.ensemble import Ensemble
from modelport.training.recipes.forecast import Forecast
from modelport.training.recipes.ranking import Ranking
from modelport.training.recipes.tabular import Tabular

Row = tuple[str, str, str, float, float]
CLASSES: dict[str, Any] = {
    "logistic": linear_model.LogisticRegression(max_iter=2000),
    "forest": ensemble.RandomForestClassifier(random_state=0),
    "extra-trees": ensemble.ExtraTreesClassifier(random_state=0),
    "boosting": ensemble.HistGradientBoostingClassifier(random_state=0),
    "svm": CalibratedClassifierCV(svm.SVC(random_state=0), ensemble=False),
    "knn": neighbors.KNeighborsClassifier(),
    "mlp": neural_network.MLPClassifier(max_iter=500, random_state=0),
    "naive-bayes": naive_bayes.GaussianNB(),
}
NUMBERS: dict[str, Any] = {
    "ridge": linear_model.Ridge(random_state=0),
    "forest": ensemble.RandomForestRegressor(random_state=0),
    "boosting": ensemble.HistGradientBoostingRegressor(random_state=0),
    "svm": svm.SVR(),
    "mlp": neural_network.MLPRegressor(max_iter=500, random_state=0),
}


def arrays(given: tables.Case) -> tuple[Any, Any, Any, Any]:
    """Training rows and target, validation rows and truth."""
    frame = given.table.to_pandas()
    target = frame.pop(given.target).to_numpy()
    rows = frame.to_numpy(np.float64)
    return rows[given.training], target[given.training], rows[given.validation], target[given.validation]


def served(recipe: Any, given: tables.Case, **options: Any) -> dict[str, Any]:
    """What the version answers to the validation's raw rows."""
    _, made = given.train(recipe, **options)
    found: dict[str, Any] = made.ask(given.table.take(given.validation))
    return found


def classes(folder: Path) -> Iterator[Row]:
    """Log loss of classifiers."""
    for data in ("iris", "wine", "breast_cancer"):
        for model, alone in CLASSES.items():
            given = tables.case(folder / f"{data}-{model}", *tables.sklearn_table(data))
            rows, target, held, truth = arrays(given)
            own = make_pipeline(StandardScaler(), alone).fit(rows, target).predict_proba(held)
            ours = served(Tabular(), given, model=model, importance=False)["probabilities"].astype(np.float64)
            ours /= ours.sum(axis=1, keepdims=True)
            yield f"tabular {model}", data, "log loss", log_loss(truth, ours), log_loss(truth, own)


def numbers(folder: Path) -> Iterator[Row]:
    """RMSE of regressors."""
    for model, alone in NUMBERS.items():
        given = tables.case(folder / f"diabetes-{model}", *tables.sklearn_table("diabetes"))
        rows, target, held, truth = arrays(given)
        own = make_pipeline(StandardScaler(), alone).fit(rows, target).predict(held)
        ours = served(Tabular(), given, model=model, importance=False)["prediction"]
        name = f"tabular {model}"
        yield name, "diabetes", "RMSE", root_mean_squared_error(truth, ours), root_mean_squared_error(truth, own)


def ensembles(folder: Path) -> Iterator[Row]:
    """Log loss of a soft vote of three."""
    given = tables.case(folder / "vote", *tables.sklearn_table("wine"))
    members = [(name, CLASSES[name]) for name in ("logistic", "forest", "boosting")]
    rows, target, held, truth = arrays(given)
    own = make_pipeline(StandardScaler(), ensemble.VotingClassifier(members, voting="soft")).fit(rows, target)
    ours = served(Ensemble(), given, importance=False)["probabilities"].astype(np.float64)
    ours /= ours.sum(axis=1, keepdims=True)
    yield "ensemble voting", "wine", "log loss", log_loss(truth, ours), log_loss(truth, own.predict_proba(held))


def rankings(folder: Path) -> Iterator[Row]:
    """Area under precision and recall."""
    for model in ("logistic", "boosting"):
        given = tables.case(folder / f"ranking-{model}", tables.fair(), "unfaithful")
        rows, target, held, truth = arrays(given)
        own = make_pipeline(StandardScaler(), CLASSES[model]).fit(rows, target).predict_proba(held)[:, 1]
        ours = served(Ranking(), given, model=model, importance=False)["score"]
        name, scored = f"ranking {model}", average_precision_score
        yield name, "fair", "PR-AUC", scored(truth, ours), scored(truth, own)


def anomalies(folder: Path) -> Iterator[Row]:
    """ROC-AUC of detectors that see no label."""

    def forest(rows: Any, held: Any) -> Any:
        return -ensemble.IsolationForest(random_state=0).fit(rows).score_samples(held)

    def pyod(made: Any) -> Any:
        """Row by row: asked about rows together, some rank them among each other too."""
        return lambda rows, held: (made.fit(rows), np.concatenate([made.decision_function(row[None]) for row in held]))[
            1
        ]

    detectors = {
        "isolation-forest": forest, "lof": pyod(LOF()), "knn": pyod(KNN(n_neighbors=20)), "ecod": pyod(ECOD()),
        "copod": pyod(COPOD()), "hbos": pyod(HBOS()),
    }  # fmt: skip
    for method, alone in detectors.items():
        given = tables.case(folder / method, *tables.sklearn_table("breast_cancer"))
        rows, _, held, truth = arrays(given)
        scaler = StandardScaler().fit(rows)
        own = alone(scaler.transform(rows), scaler.transform(held))
        ours = served(Anomaly(), given, method=method, anomaly="0")["score"]
        unusual = truth == 0
        yield f"anomaly {method}", "breast_cancer", "ROC-AUC", roc_auc_score(unusual, ours), roc_auc_score(unusual, own)


def forecasts(folder: Path) -> Iterator[Row]:
    """Mean absolute error beside the better naive forecast's: the libraries have no default for a series."""
    for name, table, target, options in (
        ("sunspots", tables.sunspots(), "SUNACTIVITY", {"time": "YEAR", "season": 11, "horizon": 5}),
        ("co2", tables.co2(), "co2", {"season": 52, "horizon": 4}),
        ("elnino", tables.elnino(), "temperature", {"season": 12, "horizon": 6}),
    ):
        found = tables.by_time(folder / name, table, target).train(Forecast(), **options)[0].metrics
        naive = min(found["validation_naive_mae"], found["validation_seasonal_naive_mae"])
        yield f"forecast ({options['horizon']} steps)", name, "MAE, naive", found["validation_mae"], naive


def main() -> None:
    """Print all of it."""
    warnings.simplefilter("ignore")
    print("| recipe | data | figure | served version | library alone |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        for part in (classes, numbers, ensembles, rankings, anomalies, forecasts):
            for recipe, data, figure, ours, own in part(Path(folder)):
                print(f"| {recipe} | {data} | {figure} | {ours:.4f} | {own:.4f} |")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
