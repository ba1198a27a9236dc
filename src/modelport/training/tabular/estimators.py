"""scikit-learn's estimators by the names that recipes use, with its parameters checked before any row is read."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn import ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_sample_weight
from sklearn.utils.validation import has_fit_parameter

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.tensors import Array
from modelport.training.tabular.calibration import IsotonicCalibrated
from modelport.training.tabular.settle import settle

_CLASSES: dict[str, Any] = {
    "logistic": linear_model.LogisticRegression,
    "sgd": linear_model.SGDClassifier,
    "tree": tree.DecisionTreeClassifier,
    "forest": ensemble.RandomForestClassifier,
    "extra-trees": ensemble.ExtraTreesClassifier,
    "boosting": ensemble.HistGradientBoostingClassifier,
    "svm": svm.SVC,
    "knn": neighbors.KNeighborsClassifier,
    "mlp": neural_network.MLPClassifier,
    "naive-bayes": naive_bayes.GaussianNB,
}
_NUMBERS: dict[str, Any] = {
    "linear": linear_model.LinearRegression,
    "ridge": linear_model.Ridge,
    "sgd": linear_model.SGDRegressor,
    "tree": tree.DecisionTreeRegressor,
    "forest": ensemble.RandomForestRegressor,
    "extra-trees": ensemble.ExtraTreesRegressor,
    "boosting": ensemble.HistGradientBoostingRegressor,
    "svm": svm.SVR,
    "knn": neighbors.KNeighborsRegressor,
    "mlp": neural_network.MLPRegressor,
}
#: Where scikit-learn's own default is seldom what is wanted.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "logistic": {"max_iter": 2000},
    "mlp": {"max_iter": 500},
}
_CLASS_DEFAULTS: dict[str, dict[str, Any]] = {"sgd": {"loss": "log_loss"}}
#: Ours to say: the seed, the threads, what is printed, and what would make the file depend on more than this run.
_OURS = ("random_state", "n_jobs", "verbose", "warm_start", "class_weight", "probability", "early_stopping")
_UNSETTLED = "{} ended before it had settled; more rounds (options.params: max_iter) may be better"
#: Those that learn what a missing value means.
KEEPS_MISSING = ("boosting",)
#: Beyond so many rows a kernel's matrix takes hours and gigabytes.
_MOST_ROWS = {"svm": 50_000}


def make(
    model: str, task: str, params: Mapping[str, Any], *, seed: int, threads: int, early_stopping: bool | None = None
) -> Any:
    """An estimator that has learnt nothing; raises InvalidInput for a parameter that it does not have."""
    known = _CLASSES if task == "classification" else _NUMBERS
    if model not in known:
        raise InvalidInput(f"options.model: {model!r} is not for {task}; there are {', '.join(known)}")
    made = known[model]
    takes = [name for name in inspect.signature(made).parameters if name not in ("args", "kwargs")]
    for name in params:
        if name in _OURS:
            raise InvalidInput(f"options.params: {name!r} is settled by the recipe; see its options and --seed")
        if name not in takes:
            hint = nearest(name, [each for each in takes if each not in _OURS])
            raise InvalidInput(f"options.params: {model} ({made.__name__}) has no parameter {name[:100]!r}{hint}")
    chosen = {**_DEFAULTS.get(model, {}), **(_CLASS_DEFAULTS.get(model, {}) if task == "classification" else {})}
    chosen |= {name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}
    if "random_state" in takes:
        chosen["random_state"] = seed
    if "n_jobs" in takes and model != "logistic":
        chosen["n_jobs"] = threads
    if early_stopping is not None and "early_stopping" in takes:
        chosen["early_stopping"] = early_stopping
    estimator = made(**chosen)
    if model == "svm" and task == "classification":
        return CalibratedClassifierCV(estimator, ensemble=False)
    if model == "sgd" and task == "classification" and chosen["loss"] not in ("log_loss", "modified_huber"):
        return CalibratedClassifierCV(estimator, ensemble=False)
    return estimator


def calibrated(estimator: Any, how: str | None, seed: int) -> Any:
    """The estimator whose probabilities are corrected on folds of the training rows."""
    if how == "isotonic":
        return IsotonicCalibrated(estimator, seed)
    return estimator if how is None else CalibratedClassifierCV(estimator, method=how, ensemble=False)


def check_size(model: str, rows: int) -> None:
    """Raise InvalidInput for more rows than the estimator can take."""
    most = _MOST_ROWS.get(model, rows)
    if rows > most:
        raise InvalidInput(
            f"options.model: {model} looks at each pair of rows, and {rows} rows are more than {most}; take boosting, "
            "sgd, or fewer rows"
        )


def fit(
    estimator: Any, features: Array, target: Array, weights: Any, held_out: tuple[Array, Array] | None
) -> list[str]:
    """Learn; what there is to say about it. ``weights`` is ``balanced`` or a number by class code; ``held_out`` stops
    boosting early.

    Raises InvalidInput for parameters that scikit-learn refuses, and for estimators that cannot weigh rows.
    """
    given: dict[str, Any] = {}
    if weights is not None:
        if not has_fit_parameter(estimator, "sample_weight"):
            raise InvalidInput(
                f"options.class_weight: {type(estimator).__name__} cannot weigh rows; take another model"
            )
        given["sample_weight"] = compute_sample_weight(weights, target)
    stops = getattr(estimator, "early_stopping", False) is True
    if held_out is not None and stops and "X_val" in inspect.signature(estimator.fit).parameters:
        given |= {"X_val": held_out[0], "y_val": held_out[1]}
    try:
        with warnings.catch_warnings(record=True) as said_before:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", ConvergenceWarning)
            estimator.fit(features, target, **given)
    except (ValueError, TypeError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidInput(f"{type(estimator).__name__} refuses: {said[:400]}") from None
    settle(estimator)
    return [_UNSETTLED.format(type(estimator).__name__)] if said_before else []


def predicted(estimator: Any, task: str, features: Array) -> Array:
    """[rows, classes] probabilities, or [rows] numbers, float64."""
    if task in ("classification", "ranking"):
        chances = np.asarray(estimator.predict_proba(features), np.float64)
        scaled: Array = chances / chances.sum(axis=1, keepdims=True)  # some compute in float32
        return scaled
    return np.asarray(estimator.predict(features), np.float64).reshape(-1)
