"""A judgement of rows: intervals, comparison, slices, odd answers, and what cannot be judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn import metrics

from modelport.errors import InvalidInput
from modelport.evaluation.classes import Classification
from modelport.evaluation.comparison import mcnemar
from modelport.evaluation.intervals import Resampling, draws, intervals, samples_of, summarise_folds
from modelport.evaluation.judge import Asked, judge
from modelport.evaluation.numbers import Regression

Write = Callable[..., list[Path]]
LABELS = ["a", "b", "c"]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Makes a file of answers; ``data_NAME`` is a column of the data."""
    made: list[Path] = []

    def do(**columns: Any) -> list[Path]:
        made.append(tmp_path / f"part-{len(made)}.parquet")
        named = {name.replace("data_", "data."): values for name, values in columns.items()}
        pq.write_table(pa.table(named), made[-1])
        return [made[-1]]

    return do


def classes(rows: int = 400, seed: int = 0, noise: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, rows)
    scores = np.eye(3)[truth] * 1.5 + rng.normal(size=(rows, 3)) * noise
    chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return {
        "truth": [LABELS[code] for code in truth],
        "prediction": [LABELS[code] for code in chances.argmax(axis=1)],
        "probabilities": list(chances.astype(np.float32)),
    }


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    truth, error = rng.normal(size=300), rng.normal(size=300)
    judged = Regression(truth, truth + error)
    how = Resampling(4000, 0.9, 1)
    found = intervals(samples_of(judged, np.ones(300), draws(300, how)), how.confidence)["mae"]
    wanted = stats.bootstrap(
        (np.abs(error),), np.mean, n_resamples=4000, confidence_level=0.9, method="percentile", rng=rng
    ).confidence_interval
    assert found.low == pytest.approx(wanted.low, abs=0.006)
    assert found.high == pytest.approx(wanted.high, abs=0.006)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """80 % intervals of the accuracy of a coin that falls right with 0.7, over 120 samples of 100 rows."""
    rng = np.random.default_rng(4)
    held = 0
    for seed in range(120):
        right = rng.random(100) < 0.7
        judged = Classification(np.zeros(100, np.int64), (~right).astype(np.int64), 2)
        how = Resampling(200, 0.8, seed)
        found = intervals(samples_of(judged, np.ones(100), draws(100, how)), how.confidence)["accuracy"]
        held += found.low <= 0.7 <= found.high
    assert 0.70 <= held / 120 <= 0.90, held


def test_resamples_keep_classes_and_whole_lists() -> None:
    codes = np.repeat([0, 1, 2], [50, 30, 2])
    how = Resampling(20)
    for counts in draws(82, how, strata=codes):
        assert np.bincount(codes, counts).tolist() == [50, 30, 2]
    for counts in draws(82, how, units=codes):
        assert all(len(set(counts[codes == code])) == 1 for code in range(3))
        assert sum(counts[codes == code][0] for code in range(3)) == 3
    assert {counts.sum() for counts in draws(82, how)} == {82.0}


def test_the_same_seed_the_same_report(write: Write) -> None:
    parts = write(**classes(), data_x=list(range(400)))
    asked = Asked("classification", labels=LABELS, slices=["x"], resamples=100)
    assert judge(parts, asked) == judge(parts, asked)
    other = judge(parts, Asked("classification", labels=LABELS, resamples=100, seed=1))
    assert other.intervals != judge(parts, asked).intervals
    assert other.figures == judge(parts, asked).figures


def test_two_versions(write: Write) -> None:
    one, other = classes(noise=1.0), classes(noise=1.0)
    rng = np.random.default_rng(9)
    wrong = rng.random(400) < 0.1
    other["prediction"] = ["a" if bad else right for bad, right in zip(wrong, other["prediction"], strict=True)]
    asked = Asked("classification", labels=LABELS, other_labels=LABELS, names=("new:2", "old:1"), resamples=500)
    found = judge(write(**one), asked, write(**other)).comparison
    assert found is not None and found.other == "old:1"
    right = np.array(one["truth"]) == np.array(one["prediction"])
    others = np.array(other["truth"]) == np.array(other["prediction"])
    assert (found.only_this_right, found.only_other_right) == (
        int((right & ~others).sum()),
        int((others & ~right).sum()),
    )
    accuracy = next(one for one in found.differences if one.figure == "accuracy")
    assert accuracy.difference == pytest.approx(right.mean() - others.mean())
    wanted = stats.bootstrap(
        (right.astype(float) - others,), np.mean, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    assert (accuracy.low, accuracy.high) == pytest.approx((wanted.low, wanted.high), abs=0.01)
    assert found.verdict.startswith("new:2 is better than old:1")
    turned = judge(write(**other), asked, write(**one)).comparison
    assert turned is not None and turned.verdict.startswith("new:2 is worse than old:1")
    same = judge(write(**one), asked, write(**one)).comparison
    assert same is not None and same.verdict.startswith("no difference") and same.mcnemar_p == 1.0
    assert all(one.p_value == 1.0 for one in same.differences)


def test_mcnemar_is_the_exact_test() -> None:
    assert mcnemar(10, 2) == pytest.approx(0.03857421875)
    assert mcnemar(0, 0) == 1.0


def test_an_equal_pair_is_seldom_told_apart() -> None:
    """p values of two equally good predictors are below 0.1 about one time in ten."""
    rng = np.random.default_rng(2)
    low = sum(mcnemar(*np.bincount(rng.random(40) < 0.5, minlength=2).tolist()) < 0.1 for _ in range(500))
    assert low / 500 < 0.13


def test_rows_that_were_not_the_same_are_not_compared(write: Write) -> None:
    asked = Asked("classification", labels=LABELS, other_labels=LABELS, resamples=0)
    with pytest.raises(InvalidInput, match="did not answer the same rows"):
        judge(write(**classes()), asked, write(**classes(seed=1)))


def test_scores_that_are_no_probabilities(write: Write) -> None:
    rows = classes()
    logits = np.log(np.array(rows["probabilities"], np.float64)) + 3.0
    found = judge(write(**rows | {"probabilities": list(logits)}), Asked("classification", labels=LABELS, resamples=0))
    plain = judge(write(**rows), Asked("classification", labels=LABELS, resamples=0))
    assert found.figures == pytest.approx(plain.figures, rel=1e-5)
    assert any("softmax" in text for text in found.warnings) and not plain.warnings
    halves = [values / 2 for values in rows["probabilities"]]
    found = judge(write(**rows | {"probabilities": halves}), Asked("classification", labels=LABELS, resamples=0))
    assert found.figures == pytest.approx(plain.figures, rel=1e-5) and any("sum to 1" in t for t in found.warnings)
    unnamed = judge(write(**rows), Asked("classification", resamples=0))
    assert "log_loss" not in unnamed.figures and any("which is whose" in text for text in unnamed.warnings)


def test_one_score_of_two_classes(write: Write) -> None:
    rng = np.random.default_rng(0)
    truth, sure = rng.integers(0, 2, 200), rng.random(200)
    columns = {"truth": truth, "prediction": (sure > 0.5).astype(int), "probabilities": [[value] for value in sure]}
    found = judge(write(**columns), Asked("classification", labels=["0", "1"], resamples=0))
    assert found.figures["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth, sure))
    assert found.positive == "1"
    turned = judge(write(**columns), Asked("classification", labels=["0", "1"], positive="0", resamples=0))
    assert turned.figures["recall"] == pytest.approx(metrics.recall_score(truth, sure > 0.5, pos_label=0))
    assert turned.figures["roc_auc"] == pytest.approx(found.figures["roc_auc"])
    curve = next(one for one in found.curves if one.kind == "roc")
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area, abs=0.01) and len(curve.x) <= 200
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)


def test_weights(write: Write) -> None:
    rows, weights = classes(), np.random.default_rng(0).integers(0, 4, 400).astype(float)
    asked = Asked("classification", labels=LABELS, weight="w", resamples=50)
    found = judge(write(**rows, data_w=weights), asked)
    wanted = metrics.accuracy_score(rows["truth"], rows["prediction"], sample_weight=weights)
    assert found.figures["accuracy"] == pytest.approx(wanted)
    for bad, said in ((-weights, "negative"), (weights * 0, "only zeros"), (weights * np.nan, "NaN")):
        with pytest.raises(InvalidInput, match=said):
            judge(write(**rows, data_w=bad), asked)


def test_slices(write: Write) -> None:
    rows = classes()
    kind = [None if n % 40 == 0 else "many" if n % 10 else "some" for n in range(400)]
    size = [float("nan") if n % 100 == 0 else float(n) for n in range(400)]
    flag = [n % 2 == 0 for n in range(400)]
    parts = write(**rows, data_kind=kind, data_size=size, data_flag=flag)
    found = judge(parts, Asked("classification", labels=LABELS, slices=["kind", "size", "flag"], resamples=0))
    by = {(one.column, one.value): one for one in found.slices}
    right = np.array(rows["truth"]) == np.array(rows["prediction"])
    many = np.array([value == "many" for value in kind])
    assert by["kind", "many"].figures["accuracy"] == pytest.approx(right[many].mean())
    assert by["kind", "(missing)"].rows == 10 and by["kind", "(missing)"].small
    assert by["flag", "True"].rows == by["flag", "False"].rows == 200
    ranges = [one for one in found.slices if one.column == "size"]
    assert [one.rows for one in ranges] == [99, 99, 99, 99, 4]
    assert any("'kind' have less than 30 rows" in text for text in found.warnings)


def test_many_classes(write: Write) -> None:
    rng = np.random.default_rng(0)
    names = [f"class {n}" for n in range(120)]
    truth = [names[n % 120] for n in range(1200)]
    predicted = [names[rng.integers(120)] if rng.random() < 0.3 else name for name in truth]
    found = judge(write(truth=truth, prediction=predicted), Asked("classification", labels=names, resamples=20))
    assert found.confusion is not None and not found.confusion.complete and len(found.confusion.labels) == 50
    assert len(found.classes) == 120 and len(found.model_dump_json()) < 100_000


def test_lists_in_an_order(write: Write) -> None:
    rng = np.random.default_rng(0)
    groups = [f"query {n // 10}" for n in range(200)]
    truth, scores = rng.integers(0, 3, 200), rng.normal(size=200)
    parts = write(truth=truth, prediction=scores, data_q=groups)
    found = judge(parts, Asked("ranking", group="q", resamples=100))
    each = [metrics.ndcg_score([truth[at : at + 10]], [scores[at : at + 10]], k=5) for at in range(0, 200, 10)]
    assert found.main == "ndcg_at_10" and found.figures["ndcg_at_5"] == pytest.approx(np.mean(each))
    assert found.intervals["ndcg_at_5"].low < np.mean(each) < found.intervals["ndcg_at_5"].high
    whole = judge(parts, Asked("ranking", resamples=0))
    assert any("one list" in text for text in whole.warnings)
    clicks = judge(write(truth=truth > 1, prediction=scores), Asked("ranking", resamples=0))
    assert clicks.figures["roc_auc"] == pytest.approx(metrics.roc_auc_score(truth > 1, scores))
    assert [one.kind for one in clicks.curves] == ["roc", "pr"]
    words = ["click" if one > 1 else "none" for one in truth]
    told = judge(write(truth=words, prediction=scores), Asked("ranking", resamples=0))
    assert told.figures == clicks.figures and any("'click' is taken" in text for text in told.warnings)
    turned = judge(write(truth=words, prediction=-scores), Asked("ranking", positive="none", resamples=0))
    assert turned.figures["roc_auc"] == pytest.approx(told.figures["roc_auc"])
    odd = judge(write(truth=words, prediction=np.abs(scores) / 10), Asked("anomaly", resamples=0))
    assert "precision_at_anomalies" in odd.figures and "log_loss" not in odd.figures
    for bad, said in (({"positive": "sale"}, "no class 'sale'"), ({}, "has 3 classes")):
        with pytest.raises(InvalidInput, match=said):
            judge(write(truth=[*words[:-1], "buy"], prediction=scores), Asked("ranking", **bad))
    with pytest.raises(InvalidInput, match="0 or above"):
        judge(write(truth=truth - 5, prediction=scores), Asked("ranking"))


def test_series(write: Write) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 4))
    predicted = truth + rng.normal(size=(50, 4))
    found = judge(write(truth=list(truth), prediction=list(predicted)), Asked("forecast", naive=2.0, resamples=20))
    mae = metrics.mean_absolute_error(truth, predicted)
    assert found.figures["mase"] == pytest.approx(mae / 2) and np.mean(found.by_step) == pytest.approx(mae)
    bare = judge(write(truth=list(truth), prediction=list(predicted)), Asked("forecast", resamples=0))
    assert "mase" not in bare.figures and any("mase is left out" in text for text in bare.warnings)
    high = {"quantile.0.9": list(predicted + 1)}
    told = judge(write(truth=list(truth), prediction=list(predicted), **high), Asked("forecast", resamples=0))
    pinball = metrics.mean_pinball_loss(truth, predicted + 1, alpha=0.9)
    assert told.figures["pinball_0.9"] == pytest.approx(pinball)
    with pytest.raises(InvalidInput, match="the truth has 4 values for each row, the prediction 3"):
        judge(write(truth=list(truth), prediction=list(predicted[:, :3])), Asked("forecast"))


@pytest.mark.parametrize(
    ("columns", "task", "said"),
    [
        ({"truth": pa.array([], pa.float64()), "prediction": pa.array([], pa.float64())}, "regression", "no rows"),
        ({"truth": [1.0, None], "prediction": [1.0, 2.0]}, "regression", "column 'y' is missing in row 1"),
        ({"truth": [1.0, float("nan")], "prediction": [1.0, 2.0]}, "regression", "column 'y' is missing in row 1"),
        ({"truth": [1.0, float("inf")], "prediction": [1.0, 2.0]}, "regression", "row 1 is NaN or infinite"),
        ({"truth": [1.0, 2.0], "prediction": [None, 2.0]}, "regression", "the prediction is missing in row 0"),
        ({"truth": ["a", "b"], "prediction": [1.0, 2.0]}, "regression", "column 'y' is string, which is no number"),
        ({"truth": ["x", "y"], "prediction": ["a", "b"]}, "classification", "none of the classes in the truth"),
        ({"truth": [[1.0], [1.0, 2.0]], "prediction": [1.0, 2.0]}, "forecast", "lists of different lengths"),
    ],
)
def test_what_cannot_be_judged(write: Write, columns: dict[str, Any], task: Any, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        judge(write(**columns), Asked(task, truth_name="y", labels=["a", "b"] if task == "classification" else None))
    assert said in caught.value.message


def test_edges(write: Write) -> None:
    one = judge(write(truth=[3.0], prediction=[2.0]), Asked("regression", resamples=20))
    assert one.figures["mae"] == 1.0 and "r2" not in one.figures
    same = judge(write(truth=["a"] * 4, prediction=["a"] * 4), Asked("classification", resamples=20))
    assert same.figures["accuracy"] == 1.0 and same.figures["mcc"] == 0.0
    zero = judge(write(truth=[0.0, 1.0, 2.0], prediction=[1.0, 1.0, 2.0]), Asked("regression", resamples=0))
    assert "mape" not in zero.figures and any("mape is left out" in text for text in zero.warnings)
    mixed = judge(write(truth=[1.0, 2.0, 10.0], prediction=["1", "2", "10"]), Asked("classification", resamples=0))
    assert mixed.figures["accuracy"] == 1.0 and mixed.labels == ["1", "2", "10"]


def test_folds() -> None:
    found = summarise_folds([{"accuracy": 0.9, "f1": 0.8}, {"accuracy": 0.95, "f1": 0.7}, {"accuracy": 0.92}])
    values = [0.9, 0.95, 0.92]
    assert list(found) == ["accuracy"] and found["accuracy"].values == values
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((low, high))
    assert found["accuracy"].std == pytest.approx(np.std(values, ddof=1))
    assert summarise_folds([]) == {} and summarise_folds([{"a": 1.0}])["a"].low == 1.0
