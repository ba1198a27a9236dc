"""The recipe ``ranking``: learns from thinned negatives, sets the probabilities right, measures order and calibration.

With a share ``kept`` of the negatives, odds come out ``1 / kept`` times too high: ``p / (p + (1 - p) / kept)`` is
right again (Dal Pozzolo, Caelen, Johnson, Bontempi: "Calibrating probability with undersampling", 2015).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, ndcg_score, roc_auc_score

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import read_rows
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.tabular import estimators, export, learn
from modelport.training.tabular.prepared import Prepared, prepare

_BINS = 10


class Corrected:
    """An estimator that learnt from a share of the negatives, with its probabilities set right."""

    def __init__(self, estimator: Any, positive: int, kept: float) -> None:
        self.estimator, self.positive, self.kept = estimator, positive, kept

    def predict_proba(self, features: Array) -> Array:
        """[rows, 2]."""
        chances = np.asarray(self.estimator.predict_proba(features), np.float64)
        raised = chances[:, self.positive] / (chances[:, self.positive] + chances[:, 1 - self.positive] / self.kept)
        found = np.empty_like(chances)
        found[:, self.positive], found[:, 1 - self.positive] = raised, 1 - raised
        return found

    def nodes(self, width: int) -> export.Nodes:
        """The same as ONNX."""
        inner = export.estimator_nodes(self.estimator, width)
        weights = np.full((1, 2), 1 / self.kept, np.float32)
        weights[0, self.positive] = 1

        def build(graph: Graph, tensor: str) -> list[str]:
            weighed = graph.add("Mul", graph.cast(inner(graph, tensor)[-1], "FP32"), graph.constant(weights))
            total = graph.add("ReduceSum", weighed, graph.constant([1], np.int64), keepdims=1)
            return [graph.add("Div", weighed, total)]

        return build


def train(run: TrainingRun, data: TrainingData, options: Any) -> Trained:
    """Learn from the rows."""
    began = time.monotonic()
    models = ("logistic", "boosting") if options.model == "auto" else (options.model,)
    for model in models:
        _make(run, options, model)
    groups = _groups(data, options.group)
    seen = replace(data, features={name: kind for name, kind in data.features.items() if name != options.group})
    run.progress(0, 3, "reading the rows", "steps")
    prepared = prepare(run, seen, options, "classification", keep_missing=False)
    positive = _positive(prepared, options.positive)
    kept_rows, kept = _thinned(prepared.target, positive, options.negatives, run.seed)
    tried: dict[str, Corrected] = {}
    losses: dict[str, float] = {}
    for at, model in enumerate(models):
        run.progress(1 + at / len(models), 3, f"learning: {model}", "steps")
        estimator = _make(run, options, model)
        prepared.warnings += estimators.fit(
            estimator, prepared.features[kept_rows], prepared.target[kept_rows], None, None
        )
        tried[model] = Corrected(estimator, positive, kept)
        losses[model] = learn.loss("classification", tried[model], prepared)
    best = min(losses, key=lambda name: losses[name])
    classes = [str(name) for name in prepared.classes or ()]
    run.progress(2, 3, "writing and proving the model", "steps")

    def answer(features: Array) -> Array:
        found: Array = tried[best].predict_proba(features)[:, positive]
        return found

    model = export.ranker(prepared.encoder, tried[best].nodes(prepared.features.shape[1]), positive)
    prepared.held_target = (prepared.held_target == positive).astype(np.int64)
    figures, curve = _figures(prepared.held_target, answer(prepared.held_features), groups, options.k)
    prepared.report |= {
        "model": best, "tried": {"by": "log loss", **losses}, "positive": classes[positive], "negatives_kept": kept,
        "figures": figures, "calibration": curve,
    }  # fmt: skip
    trained = learn.told(run, prepared, "ranking", model, answer, began, options.importance)
    trained.metrics |= {f"validation_{name}": value for name, value in figures.items()}
    trained.judged_itself = classes != ["0", "1"] or positive != 1
    return trained


def _make(run: TrainingRun, options: Any, model: str) -> Any:
    made = estimators.make(model, "classification", options.params, seed=run.seed, threads=run.threads)
    return estimators.calibrated(made, options.calibrate, run.seed)


def _groups(data: TrainingData, group: str | None) -> Array | None:
    """The candidates' group of each validation row, as a number."""
    if group is None:
        return None
    return np.unique(read_rows(data.validation, [group])[group].astype(str), return_inverse=True)[1]


def _positive(prepared: Prepared, wanted: str | None) -> int:
    """The code of the class that is looked for."""
    names = [str(name) for name in prepared.classes or ()]
    if len(names) != 2:
        raise InvalidInput(f"target: the training rows have {len(names)} classes; ranking learns whether or not")
    if wanted is not None:
        if wanted not in names:
            raise InvalidInput(f"options.positive: there is no class {wanted!r}; there are {', '.join(names)}")
        return names.index(wanted)
    for name in ("1", "true", "yes"):
        if name in names:
            return names.index(name)
    return int(np.bincount(prepared.target, minlength=2).argmin())


def _thinned(target: Array, positive: int, negatives: float | None, seed: int) -> tuple[Array, float]:
    """The rows to learn from, and the share of the negatives among them."""
    yes, no = np.flatnonzero(target == positive), np.flatnonzero(target != positive)
    wanted = len(no) if negatives is None else min(len(no), max(1, round(negatives * len(yes))))
    if wanted == len(no):
        return np.arange(len(target)), 1.0
    drawn = np.random.default_rng(seed).choice(no, wanted, replace=False)
    return np.sort(np.concatenate([yes, drawn])), wanted / len(no)


def _figures(truth: Array, chances: Array, groups: Array | None, k: int) -> tuple[dict[str, float], list[list[float]]]:
    """What tells how good order and probabilities are; and the curve of calibration: said, happened."""
    if truth.min() == truth.max():
        raise InvalidInput("the validation rows have one class; split by strata, so that there are both")
    order = np.argsort(-chances, kind="stable")
    bins = min(_BINS, len(np.unique(chances)))
    happened, said = calibration_curve(truth, chances, n_bins=max(bins, 1), strategy="quantile")
    weights = [len(part) / len(chances) for part in np.array_split(np.arange(len(chances)), len(said))]
    found = {
        "pr_auc": float(average_precision_score(truth, chances)),
        "roc_auc": float(roc_auc_score(truth, chances)),
        "log_loss": float(log_loss(truth, np.clip(chances, 1e-15, 1 - 1e-15))),
        "brier": float(brier_score_loss(truth, chances)),
        "calibration_error": float(np.sum(np.abs(happened - said) * weights)),
        f"precision_at_{k}": float(truth[order[:k]].mean()),
        "positive_share": float(truth.mean()),
    }
    if groups is not None:
        found[f"grouped_ndcg_at_{k}"] = _ndcg(truth, chances, groups, k)
    return found, [[float(a), float(b)] for a, b in zip(said, happened, strict=True)]


def _ndcg(truth: Array, chances: Array, groups: Array, k: int) -> float:
    """The mean over groups with several candidates and at least one positive; 0 where there is none."""
    found = [
        ndcg_score(truth[None, own], chances[None, own], k=k)
        for own in (np.flatnonzero(groups == group) for group in np.unique(groups))
        if len(own) > 1 and truth[own].any()
    ]
    return float(np.mean(found)) if found else 0.0
