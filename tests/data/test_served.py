"""Answers of a version as it is served, on real replicas: registered or not, and judged."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics

from modelport.control.work import made
from modelport.control.work.served import Asking, answers_of
from modelport.evaluation.judge import Asked, judge
from tests.data.digits import digits_onnx, digits_table
from tests.data.lab import Lab

PIXELS = [f"p{index}" for index in range(64)]


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def test_digits_are_judged_as_scikit_learn_does(lab: Lab) -> None:
    model, table = digits_onnx(), digits_table()
    version = lab.push("digits", model)
    lab.collect("digits", {"digits.parquet": parquet(table)})
    _, parts = made.parts_of(lab.services, lab.actor, "digits")
    asking = Asking("label", keep=["p0", "label"], inputs={"X": ["p*"]})
    served = answers_of(lab.job(), version.manifest, parts, asking, name="served")
    assert (served.task, served.labels) == ("classification", [str(digit) for digit in range(10)])
    images = np.stack([table.column(name).to_numpy() for name in PIXELS], axis=1).astype(np.float32)
    labels, chances = onnxruntime.InferenceSession(model).run(None, {"X": images})
    truth = table.column("label").to_numpy()
    found = judge(served.parts, Asked(served.task, labels=served.labels, resamples=200))
    assert found.rows == 1797 and found.main == "accuracy"
    assert found.figures["accuracy"] == metrics.accuracy_score(truth, labels)
    assert found.figures["log_loss"] == pytest.approx(metrics.log_loss(truth, chances), rel=1e-6)
    wanted = metrics.roc_auc_score(
        truth, chances.astype(np.float64) / chances.sum(axis=1, keepdims=True), multi_class="ovr"
    )
    assert found.figures["roc_auc_macro"] == pytest.approx(wanted, rel=1e-6)
    assert found.confusion is not None
    assert found.confusion.counts == metrics.confusion_matrix(truth, labels).tolist()
    interval = found.intervals["accuracy"]
    assert interval.low < found.figures["accuracy"] < interval.high
