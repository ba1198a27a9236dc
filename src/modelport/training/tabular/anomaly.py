"""The recipe ``anomaly``: fit a detector, set its threshold, write ``is_anomaly`` and ``score``, judge by labels."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from onnx import ModelProto
from sklearn.metrics import average_precision_score, roc_auc_score

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders import encoder
from modelport.training.encoders.encoder import Encoder
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import Rows, count, read_rows, taken
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.tabular import detectors, export, learn
from modelport.training.tabular.prepared import classes_of, codes_of, types_of, wishes_of


def train(run: TrainingRun, data: TrainingData, options: Any) -> Trained:
    """Learn from the rows."""
    began = time.monotonic()
    run.progress(0, 3, "reading the rows", "steps")
    rows, held, truth, held_truth, unusual = _read(data, options)
    if options.only_normal:
        rows = taken(rows, np.flatnonzero(truth == 0))
    if count(rows) < 2:
        raise InvalidInput(f"the training part has {count(rows)} rows that can be learnt from; give more")
    if not count(held):
        raise InvalidInput("the validation part has no row; give one, or a share of the training rows")
    names = [name for name in data.features if options.columns.get(name) != "ignore"]
    wishes = wishes_of(options, False, run.seed)
    encoded, matrix = encoder.fit(rows, types_of(data, names, rows, held), None, wishes)
    run.progress(1, 3, f"learning: {options.method}", "steps")
    detector = detectors.fitted(options, matrix, run.seed, run.threads)
    share = options.contamination or _share(truth, options.only_normal)
    threshold = float(np.float32(np.quantile(detector.training_scores(matrix), 1 - share)))
    run.progress(2, 3, "writing and proving the model", "steps")
    export.write(_model(encoded, detector, threshold), run.out)

    def answer(asked: Rows) -> Array:
        return detector.score(encoded.transform(asked))

    parity = export.prove(run.out, held, answer, run.seed, run.threads)
    scores = answer(held)
    report: dict[str, Any] = {
        "rows": count(rows), "validation_rows": count(held), "columns": encoded.columns, "left_out": encoded.notes,
        "method": options.method, "contamination": share, "threshold": threshold,
        "validation_share": float((scores > threshold).mean()), "parity": parity, "libraries": learn.libraries(),
    }  # fmt: skip
    warnings = list(encoded.notes)
    if held_truth is not None:
        report |= {"anomaly": unusual, "figures": _figures(run, held_truth, scores, scores > threshold, warnings)}
    return Trained(
        "anomaly",
        sample=learn.sample(encoded.columns, held),
        metrics={
            "train_seconds": round(time.monotonic() - began, 3),
            **{f"validation_{name}": value for name, value in report.get("figures", {}).items()},
        },
        judged_itself=unusual != "1",
        warnings=warnings,
        report=report,
    )


def _read(
    data: TrainingData, options: Any
) -> tuple[dict[str, Array], dict[str, Array], Array | None, Array | None, str | None]:
    """Training and validation rows, and where there is a target 1 for each that is anomalous; what it is called."""
    names = [name for name in data.features if options.columns.get(name) != "ignore"]
    wanted = [*names, *([data.target] if data.target else [])]
    rows, held = read_rows([*data.train, *data.replay], wanted), read_rows(data.validation, wanted)
    if data.target is None:
        return rows, held, None, None, None
    truth, held_truth = rows.pop(data.target), held.pop(data.target)
    classes = [str(name) for name in classes_of(np.concatenate([truth, held_truth]), data.target)]
    if len(classes) != 2:
        raise InvalidInput(f"target: column {data.target!r} has {len(classes)} values; it judges anomalies: two")
    kinds = classes_of(np.concatenate([truth, held_truth]), data.target)
    codes, held_codes = codes_of(truth, kinds, data.target), codes_of(held_truth, kinds, data.target)
    unusual = options.anomaly or next((name for name in ("1", "true") if name in classes), None)
    if unusual is None:
        unusual = classes[int(np.bincount(codes, minlength=2).argmin())]
    if unusual not in classes:
        raise InvalidInput(f"options.anomaly: there is no value {unusual!r}; there are {', '.join(classes)}")
    at = classes.index(unusual)
    return rows, held, (codes == at).astype(np.int64), (held_codes == at).astype(np.int64), unusual


def _share(truth: Array | None, only_normal: bool) -> float:
    if truth is None or only_normal:
        return 0.1 if truth is None else 0.05
    return float(np.clip(truth.mean(), 1 / max(len(truth), 2), 0.5))


def _model(encoded: Encoder, detector: detectors.Detector, threshold: float) -> ModelProto:
    graph = Graph()
    score = graph.shaped(detector.nodes(graph, encoded.nodes(graph)), -1)
    above = graph.add("Greater", score, graph.constant(np.float32(threshold)))
    taken_names = {info.name for info in graph.inputs}
    return graph.model(
        {
            export.free("is_anomaly", taken_names): (above, "BOOL", ["rows"]),
            export.free("score", taken_names): (score, "FP32", ["rows"]),
        }
    )


def _figures(run: TrainingRun, truth: Array, scores: Array, found: Array, warnings: list[str]) -> dict[str, float]:
    """How well the scores put what the labels say in front."""
    if truth.min() == truth.max():
        warnings.append("the validation rows are all normal or all anomalous, so that nothing judges the scores")
        return {}
    hits = int((found & (truth == 1)).sum())
    figures = {
        "roc_auc": float(roc_auc_score(truth, scores)),
        "pr_auc": float(average_precision_score(truth, scores)),
        "precision": hits / max(int(found.sum()), 1),
        "recall": hits / int(truth.sum()),
    }
    for name, value in figures.items():
        run.metric(name, value, None)
    return figures
