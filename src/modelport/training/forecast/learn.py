"""The recipe ``forecast``: estimators on scaled windows, one ONNX file, figures beside those of doing nothing.

Inputs are the last values by column, ``[rows, window]`` each under the column's name; ``forecast`` is
``[rows, horizon]``. The naive forecast repeats the last value, the seasonal naive one the last season.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from onnx import ModelProto

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.forecast import windows
from modelport.training.forecast.windows import Windows
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.tabular import estimators, export, learn
from modelport.training.tabular.settle import settle

_TRIED = ("ridge", "boosting")


class PerStep:
    """One estimator for each value of the horizon, where an estimator predicts one number."""

    def __init__(self, estimators_: list[Any]) -> None:
        self.estimators = estimators_

    def fit(self, features: Array, target: Array) -> None:
        """``target`` [rows, horizon]."""
        for step, estimator in enumerate(self.estimators):
            estimator.fit(features, target[:, step])

    def predict(self, features: Array) -> Array:
        """[rows, horizon]."""
        return np.stack([estimator.predict(features) for estimator in self.estimators], axis=1)


class Scaled:
    """Windows to features and back: differences to the last value, in units of the training's deviation."""

    def __init__(self, seen: Windows, difference: bool) -> None:
        last = seen.past[:, :1, -1:] if difference else np.zeros((1, 1, 1))
        shifted = seen.past[:, :1] - last
        self.difference = difference
        self.middle = 0.0 if difference else float(shifted.mean())
        self.scale = float(shifted.std()) or 1.0
        rest = seen.past[:, 1:]
        self.means = rest.mean(axis=(0, 2)).tolist()
        self.scales = [float(value) or 1.0 for value in rest.std(axis=(0, 2))]

    def features(self, past: Array) -> Array:
        """[rows, width] float32 of [rows, columns, window]."""
        own = (past[:, 0] - self._base(past) - self.middle) / self.scale
        rest = (past[:, 1:] - np.array(self.means).reshape(1, -1, 1)) / np.array(self.scales).reshape(1, -1, 1)
        return np.concatenate([own, rest.reshape(len(past), -1)], axis=1).astype(np.float32)

    def target(self, seen: Windows) -> Array:
        """What is learnt, [rows, horizon]."""
        return (seen.future - self._base(seen.past) - self.middle) / self.scale

    def values(self, found: Array, past: Array) -> Array:
        """The series' own values again."""
        return found * self.scale + self.middle + self._base(past)

    def _base(self, past: Array) -> Array:
        return past[:, 0, -1:] if self.difference else np.zeros((1, 1))

    def nodes(self, graph: Graph, columns: list[str], window: int, inner: export.Nodes) -> str:
        """All of it as ONNX: [rows, horizon] FP32."""
        inputs = [graph.input(name, "FP64", window) for name in columns]
        base = graph.columns(inputs[0], window - 1, window) if self.difference else graph.constant([[0.0]])
        base = graph.add("Add", base, graph.constant([[self.middle]]))
        parts = [graph.add("Div", graph.add("Sub", inputs[0], base), graph.constant([[self.scale]]))]
        for name, mean, scale in zip(inputs[1:], self.means, self.scales, strict=True):
            parts.append(graph.add("Div", graph.add("Sub", name, graph.constant([[mean]])), graph.constant([[scale]])))
        features = graph.cast(graph.add("Concat", *parts, axis=1), "FP32")
        found = graph.cast(inner(graph, features)[-1], "FP64")
        return graph.cast(graph.add("Add", graph.add("Mul", found, graph.constant([[self.scale]])), base), "FP32")


def train(run: TrainingRun, data: TrainingData, options: Any) -> Trained:
    """Learn from the rows."""
    began = time.monotonic()
    models = _TRIED if options.model == "auto" else (options.model,)
    for model in models:
        _make(run, options, model)
    run.progress(0, 3, "reading the rows", "steps")
    series = windows.read(data, options)
    scaled = Scaled(series.before, options.difference)
    features, target = scaled.features(series.before.past), scaled.target(series.before)
    tried: dict[str, Any] = {}
    errors: dict[str, float] = {}
    for at, model in enumerate(models):
        run.progress(1 + at / len(models), 3, f"learning: {model}", "steps")
        tried[model] = _fit(_make(run, options, model), features, target)
        found = _answer(tried[model], scaled, series.after.past)
        errors[model] = float(np.abs(found - series.after.future).mean())
    best = min(errors, key=lambda name: errors[name])
    run.progress(2, 3, "writing and proving the model", "steps")
    width, window = features.shape[1], series.before.past.shape[2]
    inner = _nodes(tried[best], width, options.horizon)
    export.write(_model(scaled, series.columns, window, options.horizon, inner), run.out)
    after = series.after
    feed = {name: after.past[:, at] for at, name in enumerate(series.columns)}

    def answer(asked: Any) -> Array:
        past = np.stack([asked[name] for name in series.columns], axis=1)
        return _answer(tried[best], scaled, past)

    parity = export.prove(run.out, feed, answer, run.seed, run.threads)
    figures = _figures(run, series, answer(feed), options.season)
    report = series.report | {
        "model": best, "tried": {"by": "mean absolute error", **errors}, "parity": parity, "figures": figures,
        "libraries": learn.libraries(),
    }  # fmt: skip
    return Trained(
        "forecast",
        sample=_sample(feed),
        metrics={
            "train_seconds": round(time.monotonic() - began, 3),
            **{f"validation_{name}": value for name, value in figures.items()},
        },
        judged_itself=True,
        warnings=series.notes + _beaten(figures),
        report=report,
    )


def _answer(estimator: Any, scaled: Scaled, past: Array) -> Array:
    """What follows windows, [rows, horizon]."""
    return scaled.values(np.asarray(estimator.predict(scaled.features(past))).reshape(len(past), -1), past)


def _make(run: TrainingRun, options: Any, model: str) -> Any:
    def one() -> Any:
        return estimators.make(model, "regression", options.params, seed=run.seed, threads=run.threads)

    return PerStep([one() for _ in range(options.horizon)]) if model == "boosting" else one()


def _fit(estimator: Any, features: Array, target: Array) -> Any:
    try:
        estimator.fit(features, target[:, 0] if target.shape[1] == 1 and not isinstance(estimator, PerStep) else target)
    except (ValueError, TypeError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidInput(f"options.params: {type(estimator).__name__} refuses: {said[:400]}") from None
    for each in estimator.estimators if isinstance(estimator, PerStep) else [estimator]:
        settle(each)
    return estimator


def _nodes(estimator: Any, width: int, horizon: int) -> export.Nodes:
    if not isinstance(estimator, PerStep):
        inner = export.estimator_nodes(estimator, width)
        return lambda graph, tensor: [graph.shaped(inner(graph, tensor)[-1], -1, horizon)]
    steps = [export.estimator_nodes(each, width) for each in estimator.estimators]

    def build(graph: Graph, tensor: str) -> list[str]:
        parts = [graph.shaped(step(graph, tensor)[-1], -1, 1) for step in steps]
        return [graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]]

    return build


def _model(scaled: Scaled, columns: list[str], window: int, horizon: int, inner: export.Nodes) -> ModelProto:
    graph = Graph()
    found = scaled.nodes(graph, columns, window, inner)
    return graph.model({export.free("forecast", set(columns)): (found, "FP32", ["rows", horizon])})


def _figures(run: TrainingRun, series: windows.Series, found: Array, season: int | None) -> dict[str, float]:
    """Errors of the time after, beside the naive ones; MASE is by the naive step of the time before."""
    past, truth = series.after.past[:, 0], series.after.future
    error = np.abs(found - truth)
    before = series.before
    step = float(np.abs(before.future[:, 0] - before.past[:, 0, -1]).mean()) or 1.0
    figures = {
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mase": float(error.mean() / step),
        "naive_mae": float(np.abs(past[:, -1:] - truth).mean()),
    }
    if season is not None and season <= past.shape[1]:
        places = [past.shape[1] - season + step_ % season for step_ in range(truth.shape[1])]
        figures["seasonal_naive_mae"] = float(np.abs(past[:, places] - truth).mean())
    for name, value in figures.items():
        run.metric(name, value, None)
    return figures


def _beaten(figures: dict[str, float]) -> list[str]:
    names = {"naive_mae": "repeating the last value", "seasonal_naive_mae": "repeating the last season"}
    return [
        f"{what} is as good or better on the time after (mean absolute error {figures[name]:.4g} against "
        f"{figures['mae']:.4g})"
        for name, what in names.items()
        if name in figures and figures[name] <= figures["mae"]
    ]


def _sample(feed: dict[str, Array]) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": name, "datatype": "FP64", "shape": [1, values.shape[1]], "data": values[0].tolist()}
            for name, values in feed.items()
        ]
    }
