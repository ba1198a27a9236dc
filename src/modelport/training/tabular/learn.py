"""The recipe ``tabular``: encode, fit one estimator or the best of a few, export, prove, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import skl2onnx
import sklearn
from onnx import ModelProto
from sklearn.metrics import log_loss, mean_squared_error

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.tensors import Array
from modelport.training.encoders.table import Rows, count, taken
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.tabular import estimators, export, update
from modelport.training.tabular.prepared import Known, Prepared, class_weights, prepare

#: What ``auto`` tries; beyond so many rows only the last two.
_TRIED = {"classification": ("forest", "logistic", "boosting"), "regression": ("forest", "ridge", "boosting")}
_FOREST_ROWS = 200_000
_IMPORTANCE_ROWS = 1000
_IMPORTANCE_COLUMNS = 100

#: What a matrix [rows, width] is answered: probabilities [rows, classes], or [rows].
Answer = Callable[[Array], Array]


def train(run: TrainingRun, data: TrainingData, options: Any, task: Task) -> Trained:
    """Learn from the rows."""
    began = time.monotonic()
    if run.start is not None:
        return _go_on(run, data, options, task, began)
    models: tuple[str, ...] = _TRIED[task] if options.model == "auto" else (options.model,)
    for model in models:  # parameters are checked before rows are read
        _make(run, options, task, model)
    run.progress(0, 3, "reading the rows", "steps")
    made = {keep: prepare(run, data, options, task, keep) for keep in sorted({_keeps(model) for model in models})}
    first = next(iter(made.values()))
    if len(models) > 1 and len(first.target) > _FOREST_ROWS:
        models = models[1:]
    tried: dict[str, Any] = {}
    losses: dict[str, float] = {}
    for at, model in enumerate(models):
        run.progress(1 + at / len(models), 3, f"learning: {model}", "steps")
        tried[model] = _fit(run, options, task, model, made[_keeps(model)])
        losses[model] = loss(task, tried[model], made[_keeps(model)])
    best = min(losses, key=lambda name: losses[name])
    prepared = made[_keeps(best)]
    run.progress(2, 3, "writing and proving the model", "steps")
    prepared.report |= {"model": best, "params": _shown(tried[best])}
    if len(models) > 1:
        prepared.report["tried"] = {"by": "log loss" if task == "classification" else "RMSE", **losses}
    trained = finish(run, prepared, tried[best], task, began, options.importance)
    rounds = getattr(tried[best], "n_iter_", None)
    if rounds is not None:
        trained.metrics["rounds"] = float(np.max(rounds))
    update.save(run.out, best, task, prepared, tried[best])
    return trained


def _go_on(run: TrainingRun, data: TrainingData, options: Any, task: Task, began: float) -> Trained:
    """Learn new rows (and those to replay) on top of a version."""
    assert run.start is not None
    if options.calibrate is not None:
        raise InvalidInput("options.calibrate: what is calibrated cannot go on; train anew")
    state = update.load(run.start.folder, task, options.model, options.params)
    run.progress(0, 3, "reading the rows", "steps")
    known = Known(state.types, state.classes, state.encoder)
    prepared = prepare(run, data, options, task, False, known)
    before = loss(task, state.estimator, prepared)
    run.progress(1, 3, f"learning on: {state.model}", "steps")
    estimator = update.go_on(state, prepared, options.class_weight)
    prepared.report |= {
        "model": state.model, "params": _shown(estimator),
        "start": {"by": "log loss" if task == "classification" else "RMSE", "before": before,
                  "after": loss(task, estimator, prepared)},
    }  # fmt: skip
    run.progress(2, 3, "writing and proving the model", "steps")
    trained = finish(run, prepared, estimator, task, began, options.importance)
    update.save(run.out, state.model, task, prepared, estimator)
    return trained


def finish(
    run: TrainingRun, prepared: Prepared, estimator: Any, task: Task, began: float, importance: bool,
    nodes: export.Nodes | None = None,
) -> Trained:  # fmt: skip
    """Write a fitted estimator as the version's file, prove it, and tell of it.

    ``nodes`` is how it is written, where skl2onnx is not asked for all of it.
    """
    nodes = nodes or export.estimator_nodes(estimator, prepared.features.shape[1])
    encoder, classes = prepared.encoder, prepared.classes
    model = export.regressor(encoder, nodes) if classes is None else export.classifier(encoder, nodes, classes)

    def answer(features: Array) -> Array:
        return estimators.predicted(estimator, task, features)

    return told(run, prepared, task, model, answer, began, importance)


def told(
    run: TrainingRun, prepared: Prepared, task: Task, model: ModelProto, answer: Answer, began: float, importance: bool
) -> Trained:
    """Write a model that ``answer`` is the same as, prove that it is, and tell of it."""
    export.write(model, run.out)
    encoder = prepared.encoder

    def asked(rows: Rows) -> Array:
        return answer(encoder.transform(rows))

    parity = export.prove(run.out, prepared.held_rows, asked, run.seed, run.threads)
    figures = run.score(task, prepared.held_target, answer(prepared.held_features))
    for name, value in figures.items():
        run.metric(name, value, None)
    report = {**prepared.report, "parity": parity, "libraries": libraries()}
    if importance:
        report["importance"] = _importance(prepared, answer, run.seed)
    labels = prepared.classes if task == "classification" else None
    return Trained(
        task,
        class_labels=None if labels is None else [str(name) for name in labels],
        sample=sample(encoder.columns, prepared.held_rows),
        metrics={"train_seconds": round(time.monotonic() - began, 3)},
        warnings=prepared.warnings,
        report=report,
    )


def loss(task: str, estimator: Any, prepared: Prepared) -> float:
    """Of the validation rows."""
    return loss_of(prepared.held_target, estimators.predicted(estimator, task, prepared.held_features), prepared)


def loss_of(truth: Array, found: Array, prepared: Prepared) -> float:
    """Log loss where there are classes, else the root of the mean squared error."""
    if prepared.classes is None:
        return float(mean_squared_error(truth, found) ** 0.5)
    chances = found if found.ndim == 2 else np.stack([1 - found, found], axis=1)
    return float(log_loss(truth, chances, labels=range(chances.shape[1])))


def sample(columns: list[str], rows: Rows) -> dict[str, Any]:
    """The first row as V2 tensors; a missing number as 0, which JSON can carry."""
    tensors = []
    for name in columns:
        value = rows[name][0].item() if hasattr(rows[name][0], "item") else rows[name][0]
        datatype = "BOOL" if isinstance(value, bool) else "FP64" if isinstance(value, float) else "BYTES"
        plain = 0.0 if isinstance(value, float) and not np.isfinite(value) else value
        tensors.append({"name": name, "datatype": datatype, "shape": [1, 1], "data": [plain]})
    return {"inputs": tensors}


def libraries() -> dict[str, str]:
    """What made it."""
    return {
        "scikit-learn": sklearn.__version__, "skl2onnx": skl2onnx.__version__, "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__, "numpy": np.__version__,
    }  # fmt: skip


def _keeps(model: str) -> bool:
    return model in estimators.KEEPS_MISSING


def _make(run: TrainingRun, options: Any, task: str, model: str) -> Any:
    made = estimators.make(
        model, task, options.params, seed=run.seed, threads=run.threads, early_stopping=options.early_stopping
    )
    return estimators.calibrated(made, options.calibrate, run.seed)


def _fit(run: TrainingRun, options: Any, task: str, model: str, prepared: Prepared) -> Any:
    estimators.check_size(model, len(prepared.target))
    estimator = _make(run, options, task, model)
    weights = class_weights(options.class_weight, prepared.classes)
    held_out = (prepared.held_features, prepared.held_target)
    prepared.warnings += estimators.fit(estimator, prepared.features, prepared.target, weights, held_out)
    return estimator


def _shown(estimator: Any) -> dict[str, Any]:
    """Parameters as JSON."""
    plain = (str, int, float, bool, type(None))
    return {
        name: value for name, value in estimator.get_params().items() if isinstance(value, plain) and name != "n_jobs"
    }


def _importance(prepared: Prepared, answer: Answer, seed: int) -> dict[str, float]:
    """By how much the validation's loss grows when a column's values are shuffled, the greatest first."""
    random = np.random.default_rng(seed)
    places = np.arange(count(prepared.held_rows))
    if len(places) > _IMPORTANCE_ROWS:
        places = random.choice(places, _IMPORTANCE_ROWS, replace=False)
    rows, truth = taken(prepared.held_rows, places), prepared.held_target[places]
    matrix = prepared.encoder.transform(rows)
    plain = loss_of(truth, answer(matrix), prepared)
    found: dict[str, float] = {}
    for column in prepared.encoder.columns[:_IMPORTANCE_COLUMNS]:
        own = [at for at, (name, _) in enumerate(prepared.encoder.names) if name == column]
        shuffled = matrix.copy()
        shuffled[:, own] = matrix[random.permutation(len(matrix))][:, own]
        found[column] = loss_of(truth, answer(shuffled), prepared) - plain
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))
