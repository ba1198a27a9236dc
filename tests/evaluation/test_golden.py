"""Figures equal scikit-learn's, on random rows and on the edges: ties, absent classes, weights, one class."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from modelport.errors import InvalidInput
from modelport.evaluation.classes import BINS, Classification
from modelport.evaluation.numbers import Forecast, Regression, Similarity
from modelport.evaluation.ordered import Anomalies, Ordered
from modelport.evaluation.score import is_better, judged_of, score


def close(found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn tells of classes without rows
        yield


seeds = st.integers(0, 2**32 - 1)


def draw(seed: int, rows: int, classes: int, ties: bool) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    chances = rng.dirichlet(np.ones(classes), rows)
    if ties:
        chances = np.round(chances, 1) + 1e-9
        chances /= chances.sum(axis=1, keepdims=True)
    return truth, chances, rng.integers(1, 5, rows).astype(float)


@settings(max_examples=40)
@given(seeds, st.integers(2, 60), st.integers(2, 6), st.booleans(), st.booleans())
def test_classes(seed: int, rows: int, classes: int, ties: bool, weighted: bool) -> None:
    truth, chances, weights = draw(seed, rows, classes, ties)
    predicted = chances.argmax(axis=1)
    w = weights if weighted else np.ones(rows)
    found = Classification(truth, predicted, classes, chances).figures(w)
    close(found["accuracy"], metrics.accuracy_score(truth, predicted, sample_weight=w))
    close(found["balanced_accuracy"], metrics.balanced_accuracy_score(truth, predicted, sample_weight=w))
    close(found["mcc"], metrics.matthews_corrcoef(truth, predicted, sample_weight=w))
    for average in ("macro", "weighted"):
        p, r, f, _ = metrics.precision_recall_fscore_support(
            truth, predicted, average=average, sample_weight=w, zero_division=0
        )
        for name, value in (("precision", p), ("recall", r), ("f1", f)):
            close(found[f"{name}_{average}"], value)
    if classes == 2:
        close(found["f1"], metrics.f1_score(truth, predicted, sample_weight=w, zero_division=0))
        close(found["precision"], metrics.precision_score(truth, predicted, sample_weight=w, zero_division=0))
        close(found["recall"], metrics.recall_score(truth, predicted, sample_weight=w, zero_division=0))
    close(found["log_loss"], metrics.log_loss(truth, chances, labels=range(classes), sample_weight=w))
    wanted = chances[:, 1] if classes == 2 else chances
    close(found["brier"], metrics.brier_score_loss(truth, wanted, labels=range(classes), sample_weight=w))
    if classes > 2:
        k = min(5, classes - 1)
        top = metrics.top_k_accuracy_score(truth, chances, k=k, labels=range(classes), sample_weight=w)
        close(found[f"top_{k}_accuracy"], top)


@settings(max_examples=40)
@given(seeds, st.integers(6, 60), st.integers(2, 5), st.booleans(), st.booleans())
def test_areas(seed: int, rows: int, classes: int, ties: bool, weighted: bool) -> None:
    truth, chances, weights = draw(seed, rows, classes, ties)
    truth[:classes] = range(classes)
    w = weights if weighted else np.ones(rows)
    found = Classification(truth, chances.argmax(axis=1), classes, chances).figures(w)
    if classes == 2:
        close(found["roc_auc"], metrics.roc_auc_score(truth, chances[:, 1], sample_weight=w))
        close(found["pr_auc"], metrics.average_precision_score(truth, chances[:, 1], sample_weight=w))
        return
    for average in ("macro", "weighted"):
        roc = metrics.roc_auc_score(truth, chances, multi_class="ovr", average=average, sample_weight=w)
        close(found[f"roc_auc_{average}"], roc)
        close(
            found[f"pr_auc_{average}"],
            metrics.average_precision_score(truth, chances, average=average, sample_weight=w),
        )


def test_areas_leave_out_classes_without_rows() -> None:
    truth, chances, _ = draw(1, 40, 4, False)
    truth[truth == 3] = 0
    found = Classification(truth, chances.argmax(axis=1), 4, chances).figures(np.ones(40))
    each = [metrics.roc_auc_score(truth == code, chances[:, code]) for code in range(3)]
    close(found["roc_auc_macro"], float(np.mean(each)))
    one = Classification(np.zeros(40, np.int64), chances.argmax(axis=1), 4, chances).figures(np.ones(40))
    assert "roc_auc_macro" not in one and one["accuracy"] == np.mean(chances.argmax(axis=1) == 0)


def test_weights_are_repetitions() -> None:
    """What a bootstrap rests on: a row that counts twice is two rows."""
    truth, chances, weights = draw(3, 50, 3, True)
    weights[:10] = 0
    again = np.repeat(np.arange(50), weights.astype(int))
    found = Classification(truth, chances.argmax(axis=1), 3, chances).figures(weights)
    wanted = Classification(truth[again], chances.argmax(axis=1)[again], 3, chances[again]).figures(np.ones(len(again)))
    assert found == pytest.approx(wanted)
    values = chances[:, 0]
    numbers = Regression(values, chances[:, 1]).figures(weights)
    assert numbers == pytest.approx(Regression(values[again], chances[again, 1]).figures(np.ones(len(again))))
    alike = Similarity(values, chances[:, 1]).figures(weights)
    assert alike == pytest.approx(Similarity(values[again], chances[again, 1]).figures(np.ones(len(again))))


def test_calibration_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    sure = rng.random(2000)
    truth = (rng.random(2000) < sure**1.3).astype(np.int64)
    judged = Classification(truth, (sure > 0.5).astype(np.int64), 2, np.stack([1 - sure, sure], axis=1))
    observed, predicted = calibration_curve(truth, sure, n_bins=BINS)
    found = judged.calibration(np.ones(2000))
    assert [one[1] for one in found] == pytest.approx(observed.tolist())
    assert [one[0] for one in found] == pytest.approx(predicted.tolist())
    gap = sum(abs(p - o) * n for p, o, n in found) / 2000
    close(judged.figures(np.ones(2000))["calibration_error"], gap)


def test_single_precision_is_clipped_as_such() -> None:
    truth, chances = np.array([0, 1, 1]), np.array([[1, 0], [1, 0], [0.25, 0.75]], np.float32)
    wanted = metrics.log_loss(truth, chances)
    assert score("classification", truth, chances)["log_loss"] == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=40)
@given(seeds, st.integers(2, 80), st.booleans(), st.booleans())
def test_numbers(seed: int, rows: int, weighted: bool, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth, weights = rng.normal(3, 1, rows), rng.integers(1, 4, rows).astype(float) if weighted else np.ones(rows)
    predicted = truth + rng.normal(0, 0.5, rows)
    if ties:
        truth, predicted = np.round(truth) + 10, np.round(predicted) + 10
    found = Regression(truth, predicted, {0.9: predicted + 1}).figures(weights)
    close(found["mae"], metrics.mean_absolute_error(truth, predicted, sample_weight=weights))
    close(found["mse"], metrics.mean_squared_error(truth, predicted, sample_weight=weights))
    close(found["rmse"], metrics.root_mean_squared_error(truth, predicted, sample_weight=weights))
    close(found["median_ae"], metrics.median_absolute_error(truth, predicted, sample_weight=weights))
    close(found["max_error"], metrics.max_error(truth, predicted))
    close(found["mape"], metrics.mean_absolute_percentage_error(truth, predicted, sample_weight=weights))
    pinball = metrics.mean_pinball_loss(truth, predicted + 1, alpha=0.9, sample_weight=weights)
    close(found["pinball_0.9"], pinball)
    if len(np.unique(truth)) > 1:
        close(found["r2"], metrics.r2_score(truth, predicted, sample_weight=weights))
    else:
        assert "r2" not in found


def test_series_of_several_steps() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(40, 6))
    truth[0, 0] = 0.0
    predicted = truth + rng.normal(size=(40, 6))
    found = Forecast(truth, predicted, 0.5).figures(np.ones(40))
    close(found["r2"], metrics.r2_score(truth, predicted))
    close(found["mae"], metrics.mean_absolute_error(truth, predicted))
    close(found["mase"], found["mae"] / 0.5)
    close(found["median_ae"], float(np.median(np.abs(truth - predicted))))
    assert "mape" not in found
    close(found["smape"], float(np.mean(2 * abs(truth - predicted) / (abs(truth) + abs(predicted)))))


@settings(max_examples=40)
@given(seeds, st.integers(2, 30), st.integers(1, 5))
def test_orders(seed: int, rows: int, lists: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, lists, rows))
    truth, scores = rng.integers(0, 4, rows).astype(float), rng.permutation(rows).astype(float)
    found = Ordered(truth, scores, groups).figures(np.ones(rows))
    wanted, ranks = [], []
    for group in np.unique(groups):
        mine = groups == group
        if truth[mine].any():
            both = truth[mine], scores[mine]
            wanted.append(metrics.ndcg_score([both[0]], [both[1]], k=5) if mine.sum() > 1 else 1.0)
            ranks.append(1 / (1 + np.argmax(truth[mine][np.argsort(-scores[mine])] > 0)))
    if wanted:
        close(found["ndcg_at_5"], float(np.mean(wanted)))
        close(found["mrr"], float(np.mean(ranks)))
    else:
        assert "ndcg_at_5" not in found


def test_rare_positives_and_anomalies() -> None:
    rng = np.random.default_rng(7)
    truth = (rng.random(3000) < 0.02).astype(float)
    chance = np.clip(0.02 + 0.3 * truth * rng.random(3000) + 0.01 * rng.random(3000), 0, 1)
    found = score("ranking", truth, chance)
    close(found["roc_auc"], metrics.roc_auc_score(truth, chance))
    close(found["pr_auc"], metrics.average_precision_score(truth, chance))
    close(found["log_loss"], metrics.log_loss(truth, chance))
    close(found["brier"], metrics.brier_score_loss(truth, chance))
    odd = Anomalies(truth, chance * 100).figures(np.ones(3000))
    count = int(truth.sum())
    close(odd["precision_at_anomalies"], truth[np.argsort(-chance)][:count].mean())
    close(Anomalies(truth, np.ones(3000)).figures(np.ones(3000))["precision_at_anomalies"], truth.mean())


def test_words_and_likeness() -> None:
    found = score("language", np.array([10, 20]), np.array([-20.0, -50.0]))
    close(found["perplexity"], float(np.exp(70 / 30)))
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(0)
    one = np.round(rng.normal(size=50), 1)
    other = np.round(one + rng.normal(size=50), 1)
    found = score("embedding", one, other)
    close(found["spearman"], spearmanr(one, other).statistic)
    close(found["pearson"], pearsonr(one, other).statistic)
    assert score("embedding", np.ones(5), one[:5]) == {}


@pytest.mark.parametrize("task", ["classification", "regression", "ranking", "anomaly", "forecast", "language"])
def test_what_is_no_number_is_refused(task: Any) -> None:
    truth, predicted = np.array([0.0, 1.0, 1.0]), np.array([0.5, np.nan, 0.25])
    with pytest.raises(InvalidInput, match="the predictions: row 1 is NaN"):
        score(task, truth, predicted)
    with pytest.raises(InvalidInput, match="the truth: row 1"):
        score(task, predicted, truth)
    with pytest.raises(InvalidInput, match="nothing to judge"):
        judged_of(task, np.array([]), np.array([]))
    with pytest.raises(InvalidInput, match="2 rows of truth and 3"):
        score(task, truth[:2], np.array([0.1, 0.2, 0.3]))


def test_codes_and_one_column_are_taken() -> None:
    truth = np.array([0, 1, 1, 0])
    assert score("classification", truth, np.array([0, 1, 0, 0]))["accuracy"] == 0.75
    assert score("classification", truth, np.array([0.2, 0.9, 0.4, 0.1]))["roc_auc"] == 1.0
    assert score("classification", np.array([0, 2]), np.array([[0.9, 0.1], [0.2, 0.8]]))["accuracy"] == 0.5
    assert is_better("log_loss", 0.1, 0.2) and is_better("accuracy", 0.9, 0.8) and is_better("pinball_0.1", 1, 2)
