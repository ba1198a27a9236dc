"""The recipe ``ensemble``: scikit-learn's voting and stacking, its members' nodes side by side in one ONNX file."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.model_selection import KFold, StratifiedKFold

from modelport.schemas.training import Task
from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.tabular import estimators, export, learn
from modelport.training.tabular.prepared import class_weights, prepare


class HardVotes:
    """Shares of the members' votes, as probabilities."""

    def __init__(self, voting: Any) -> None:
        self.members, self.classes = list(voting.estimators_), len(voting.classes_)
        weights = np.ones(len(self.members)) if voting.weights is None else np.asarray(voting.weights, np.float64)
        self.weights = weights / weights.sum()

    def predict_proba(self, features: Array) -> Array:
        """[rows, classes]."""
        votes = np.stack([member.predict_proba(features).argmax(axis=1) for member in self.members])
        shares: Array = ((votes[:, :, None] == np.arange(self.classes)) * self.weights[:, None, None]).sum(axis=0)
        return shares


def train(run: TrainingRun, data: TrainingData, options: Any, task: Task) -> Trained:
    """Learn from the rows."""
    began = time.monotonic()
    members = options.members(task)
    made = [
        (f"{at + 1}-{member.model}", _make(run, member.model, task, member.params)) for at, member in enumerate(members)
    ]
    ensemble = _ensemble(run, options, task, made, [member.weight for member in members])
    run.progress(0, 3, "reading the rows", "steps")
    prepared = prepare(run, data, options, task, keep_missing=False)
    for member in members:
        estimators.check_size(member.model, len(prepared.target))
    run.progress(1, 3, f"learning: {options.kind} of {', '.join(member.model for member in members)}", "steps")
    weights = class_weights(options.class_weight, prepared.classes)
    prepared.warnings += estimators.fit(ensemble, prepared.features, prepared.target, weights, None)
    own = {
        name: learn.loss(task, member, prepared)
        for (name, _), member in zip(made, ensemble.estimators_, strict=True)
    }  # fmt: skip
    answering = HardVotes(ensemble) if options.kind == "voting" and options.voting == "hard" else ensemble
    prepared.report |= {
        "kind": options.kind,
        "by": "log loss" if task == "classification" else "RMSE",
        "members": own,
        "ensemble": learn.loss(task, answering, prepared),
    }
    best = min(own, key=lambda name: own[name])
    if own[best] < prepared.report["ensemble"]:
        prepared.warnings.append(
            f"{best} alone is better on the validation rows than all together ({own[best]:.4g} against "
            f"{prepared.report['ensemble']:.4g}, {prepared.report['by']})"
        )
    run.progress(2, 3, "writing and proving the model", "steps")
    return learn.finish(run, prepared, answering, task, began, options.importance, nodes(answering, prepared.features))


def nodes(ensemble: Any, features: Array) -> export.Nodes:
    """What combines the members' nodes."""
    members = ensemble.members if isinstance(ensemble, HardVotes) else ensemble.estimators_
    parts = [export.estimator_nodes(member, features.shape[1]) for member in members]
    if isinstance(ensemble, StackingClassifier | StackingRegressor):
        return _stacked(ensemble, parts)
    weights = ensemble.weights if ensemble.weights is not None else np.ones(len(parts))
    weights = np.asarray(weights, np.float64) / np.sum(weights)

    def build(graph: Graph, tensor: str) -> list[str]:
        weighted = []
        for part, weight in zip(parts, weights, strict=True):
            answer = graph.cast(part(graph, tensor)[-1], "FP32")
            if isinstance(ensemble, HardVotes):
                best = graph.add("ArgMax", answer, axis=1, keepdims=1)
                answer = graph.cast(
                    graph.add("Equal", best, graph.constant([range(ensemble.classes)], np.int64)), "FP32"
                )
            weighted.append(graph.add("Mul", answer, graph.constant(np.float32(weight))))
        return [graph.add("Sum", *weighted)]

    return build


def _stacked(ensemble: Any, parts: list[export.Nodes]) -> export.Nodes:
    two = len(getattr(ensemble, "classes_", ())) == 2
    width = ensemble.final_estimator_.n_features_in_
    final = export.estimator_nodes(ensemble.final_estimator_, width)

    def build(graph: Graph, tensor: str) -> list[str]:
        answers = []
        for part in parts:
            answer = graph.cast(part(graph, tensor)[-1], "FP32")
            answers.append(graph.columns(answer, 1, 2) if two else graph.shaped(answer, 0, -1))
        return final(graph, graph.add("Concat", *answers, axis=1))

    return build


def _make(run: TrainingRun, model: str, task: str, params: dict[str, Any]) -> Any:
    return estimators.make(model, task, params, seed=run.seed, threads=run.threads)


def _ensemble(run: TrainingRun, options: Any, task: str, made: list[tuple[str, Any]], weights: list[float]) -> Any:
    classes = task == "classification"
    if options.kind == "voting":
        if classes:
            return VotingClassifier(made, voting=options.voting, weights=weights)
        return VotingRegressor(made, weights=weights)
    final = _make(run, options.final or ("logistic" if classes else "ridge"), task, {})
    folds = (StratifiedKFold if classes else KFold)(options.folds, shuffle=True, random_state=run.seed)
    if classes:
        return StackingClassifier(made, final_estimator=final, cv=folds, stack_method="predict_proba")
    return StackingRegressor(made, final_estimator=final, cv=folds)
