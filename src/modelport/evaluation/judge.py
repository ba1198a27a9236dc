"""Judges predictions: rows with truth and answers in, an Evaluation out.

Everything that a report shows is computed here, once; what a row is, is the business of ``rows``, and how a figure is
computed that of ``classes``, ``numbers`` and ``ordered``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from modelport.errors import InvalidInput
from modelport.evaluation import rows as read
from modelport.evaluation.answers import listed
from modelport.evaluation.classes import Classification, per_class
from modelport.evaluation.comparison import compare, difference
from modelport.evaluation.intervals import Resampling, between, draws, intervals, samples_of
from modelport.evaluation.numbers import Forecast, Language, Regression, Similarity
from modelport.evaluation.ordered import Anomalies, Ordered
from modelport.evaluation.own import Own
from modelport.evaluation.rows import Answered
from modelport.evaluation.score import Judged, main_figure
from modelport.evaluation.slices import slices
from modelport.schemas.evaluation import (
    CalibrationBin,
    ClassFigures,
    Confusion,
    Curve,
    Difference,
    Evaluation,
    Interval,
)
from modelport.schemas.training import Task
from modelport.tensors import Array

_MOST_CURVES = 12
_CONFUSION_CLASSES = 50
_OWN_RESAMPLES = 200
_COMPARED = 1000
"""Resamples of a comparison where none were asked for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be found out."""

    task: Task
    truth_name: str = read.TRUTH
    """What messages call the truth."""
    labels: Sequence[str] | None = None
    """Classes in the order of the probabilities; None when nobody knows them."""
    other_labels: Sequence[str] | None = None
    """Those of the version that it is compared with."""
    names: tuple[str, str] = ("this version", "the other")
    positive: str | None = None
    weight: str | None = None
    group: str | None = None
    naive: float | None = None
    slices: Sequence[str] = ()
    resamples: int = 1000
    confidence: float = 0.95
    stratified: bool = False
    seed: int = 0


@dataclass(slots=True)
class _Case:
    """One version's answers, prepared."""

    answered: Answered
    judged: Judged
    truth: Array
    predicted: Array
    labels: list[str]
    positive: str | None = None


def judge(
    parts: Sequence[Path], asked: Asked, other: Sequence[Path] | None = None, metrics: Sequence[Own] = ()
) -> Evaluation:
    """Judge the rows of Parquet files, as ``rows`` describes them; ``other`` has another version's answers.

    Raises InvalidInput for what cannot be judged.
    """
    case = _case(parts, asked)
    weights = case.answered.weights(asked.weight)
    figures = case.judged.figures(weights)
    found = Evaluation(
        task=asked.task, rows=case.answered.rows, main=main_figure(asked.task, figures), figures=figures,
        confidence=asked.confidence, seed=asked.seed, labels=case.labels, positive=case.positive,
        warnings=case.answered.warnings,
    )  # fmt: skip
    told = found.warnings
    for metric in metrics:
        _add(found.figures, _own(metric, case, np.arange(found.rows)))
    _describe(found, case, weights)
    drawn = asked.resamples or (_COMPARED if other is not None else 0)
    how = Resampling(drawn, asked.confidence, asked.seed).within(_work(case), told)
    found.resamples, found.stratified = how.resamples, asked.stratified and bool(case.labels)
    for name in asked.slices:
        column = case.answered.kept(name)
        found.slices += slices(case.judged, weights, name, column, _work(case), told)
    samples = [] if not how.resamples and other is None else samples_of(case.judged, weights, _draws(case, asked, how))
    if asked.resamples:
        found.intervals = intervals(samples, asked.confidence)
        for metric in metrics:
            found.intervals |= _own_intervals(metric, case, asked)
    if other is not None:
        against = _other(case, other, asked)
        found.warnings += [f"{asked.names[1]}: {text}" for text in against.answered.warnings]
        others = samples_of(against.judged, weights, _draws(case, asked, how))
        found.comparison = compare(case.judged, against.judged, asked.names, found.main, weights, samples, others, how)
        for metric in metrics:
            found.comparison.differences += _own_differences(metric, case, against, asked)
    _warn(found, case, weights)
    return found


def _case(parts: Sequence[Path], asked: Asked) -> _Case:
    answered = read.read_answers(parts, asked.truth_name)
    if asked.task == "classification":
        return _classes(answered, asked)
    if asked.task in ("ranking", "anomaly") and answered.has_texts():
        truth = read.found_among(answered, asked.positive)
    else:
        truth = read.numbers_of(answered, read.TRUTH, f"column {asked.truth_name[:100]!r}")
    predicted = read.numbers_of(answered, read.PREDICTION, "the prediction")
    if truth.shape != predicted.shape:
        predicted = _shaped(truth, predicted)
    return _Case(answered, _numbers(answered, asked, truth, predicted), truth, predicted, [])


def _shaped(truth: Array, predicted: Array) -> Array:
    if truth[0].size != predicted[0].size:
        raise InvalidInput(
            f"the truth has {truth[0].size} values for each row, the prediction {predicted[0].size}: is it the right "
            "column, and the right output?"
        )
    return predicted.reshape(truth.shape)


def _numbers(answered: Answered, asked: Asked, truth: Array, predicted: Array) -> Judged:
    if asked.task in ("ranking", "anomaly"):
        if truth.ndim > 1 or (truth < 0).any():
            raise InvalidInput(f"column {asked.truth_name[:100]!r}: relevance is one number of 0 or above for each row")
        groups = None
        if asked.group is not None:
            texts = read.texts_of(answered.kept(asked.group))
            groups = read.codes_of(texts, list(dict.fromkeys(texts)))
        kind = Ordered if asked.task == "ranking" else Anomalies
        return kind(truth, predicted, groups, probabilities=asked.task == "ranking")
    levels = [name for name in answered.table.column_names if name.startswith(read.QUANTILE)]
    quantiles = {
        float(name.removeprefix(read.QUANTILE)): _shaped(truth, read.numbers_of(answered, name, "a quantile"))
        for name in levels
    }
    if asked.task == "forecast":
        return Forecast(truth, predicted, asked.naive, quantiles)
    if asked.task == "language":
        return Language(truth, predicted)
    if asked.task == "embedding" and truth.ndim == 1:
        return Similarity(truth, predicted)
    return Regression(truth, predicted, quantiles)


def _classes(answered: Answered, asked: Asked) -> _Case:
    truth = read.texts_of(answered.table.column(read.TRUTH).combine_chunks())
    predicted = read.texts_of(answered.table.column(read.PREDICTION).combine_chunks())
    labels = read.labels_for(truth, predicted, asked.labels, answered.warnings)
    if len(labels) < 2:
        labels = [*labels, "(another)"]
    positive = asked.positive
    if positive is not None and positive not in labels:
        raise InvalidInput(f"positive: there is no class {positive[:60]!r}; there are {listed(labels)}")
    if len(labels) == 2 and positive is None:
        positive = labels[1]
    chances = read.probabilities_of(answered, asked.labels, labels)
    if chances is None:
        answered.warnings.append(
            "there are no probabilities: areas under curves, log loss, Brier score and calibration are left out"
        )
    truth_codes, codes = read.codes_of(truth, labels), read.codes_of(predicted, labels)
    at = labels.index(positive) if positive is not None and len(labels) == 2 else 1
    judged = Classification(truth_codes, codes, len(labels), chances, at)
    texts = np.array(truth), np.array(predicted)
    return _Case(answered, judged, *texts, labels, positive if len(labels) == 2 else None)


def _work(case: _Case) -> int:
    judged = case.judged
    if isinstance(judged, Classification):
        return judged.rows * (judged.classes if judged.probabilities is not None and judged.classes > 2 else 1)
    return case.truth.size


def _draws(case: _Case, asked: Asked, how: Resampling) -> Iterator[Array]:
    strata = case.judged.truth if asked.stratified and isinstance(case.judged, Classification) else None
    units = None
    if asked.group is not None:
        texts = read.texts_of(case.answered.kept(asked.group))
        units = read.codes_of(texts, list(dict.fromkeys(texts)))
    return draws(case.judged.rows, how, strata, units)


def _describe(found: Evaluation, case: _Case, weights: Array) -> None:
    """What a report shows beside the figures."""
    judged = case.judged
    if isinstance(judged, Classification):
        _describe_classes(found, judged, weights)
    elif isinstance(judged, Ordered) and judged.scored is not None and "roc_auc" in found.figures:
        areas = found.figures["roc_auc"], found.figures["pr_auc"]
        for kind, points, area in zip(
            ("roc", "pr"), (judged.scored.roc(weights), judged.scored.precision_recall(weights)), areas, strict=True
        ):
            found.curves.append(Curve(kind=kind, label="", area=area, x=points[0], y=points[1]))
    elif isinstance(judged, Regression):
        found.error_quantiles = judged.error_quantiles()
        if judged.absolute.shape[1] > 1:
            found.by_step = judged.by_step(weights)


def _describe_classes(found: Evaluation, judged: Classification, weights: Array) -> None:
    plain = np.ones(judged.rows)
    counts, confusion = judged.confusion(plain), judged.confusion(weights)
    precision, recall, f1 = per_class(confusion)
    areas: Mapping[int, tuple[float, float] | None] = {}
    if judged.probabilities is not None:
        areas = {code: scored.areas(weights) for code, scored in judged.scored.items()}
    for code, label in enumerate(found.labels):
        roc, pr = areas.get(code) or (None, None)
        found.classes.append(
            ClassFigures(
                label=label,
                rows=int(counts[code].sum()),
                predicted=int(counts[:, code].sum()),
                precision=float(precision[code]),
                recall=float(recall[code]),
                f1=float(f1[code]),
                roc_auc=roc,
                pr_auc=pr,
            )
        )
    found.confusion = _confusion(found.labels, counts)
    if judged.probabilities is None:
        return
    shown = sorted(areas, key=lambda code: -counts[code].sum())[:_MOST_CURVES]
    for code in sorted(shown):
        area = areas[code]
        if area is not None:
            x, y = judged.scored[code].roc(weights)
            found.curves.append(Curve(kind="roc", label=found.labels[code], area=area[0], x=x, y=y))
            x, y = judged.scored[code].precision_recall(weights)
            found.curves.append(Curve(kind="pr", label=found.labels[code], area=area[1], x=x, y=y))
    found.calibration = [
        CalibrationBin(predicted=predicted, observed=min(1.0, observed), rows=round(count))
        for predicted, observed, count in judged.calibration(plain)
    ]


def _confusion(labels: Sequence[str], counts: Array) -> Confusion:
    """All classes, or those that are mixed up most."""
    kept = np.arange(len(labels))
    if len(labels) > _CONFUSION_CLASSES:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-wrong, kind="stable")[:_CONFUSION_CLASSES])
    chosen = counts[np.ix_(kept, kept)].astype(np.int64)
    complete = len(kept) == len(labels)
    return Confusion(labels=[labels[at] for at in kept.tolist()], counts=chosen.tolist(), complete=complete)


def _warn(found: Evaluation, case: _Case, weights: Array) -> None:
    """What a careful reader should know."""
    judged, told = case.judged, found.warnings
    if isinstance(judged, Classification):
        absent = [one.label for one in found.classes if not one.rows]
        if absent:
            told.append(
                f"no row is of class {listed(absent)}: averages over classes leave such classes out, unless they "
                "were predicted"
            )
        few = [one.label for one in found.classes if 0 < one.rows < 5]
        if few:
            told.append(f"less than 5 rows are of class {listed(few)}: what is said of them is mostly chance")
    elif isinstance(judged, Regression):
        if judged.has_zeros:
            told.append("mape is left out: the truth is 0 in some rows")
        if isinstance(judged, Forecast) and "mase" not in found.figures:
            told.append("mase is left out: give the error of the naive forecast (naive) that it is measured by")
        if "r2" not in found.figures:
            told.append("r2 is left out: the truth is the same in all rows")
    elif isinstance(judged, Ordered) and judged.scored is None and not judged.has_groups:
        told.append("all rows are taken as one list; say which belong together with the parameter group")
    elif isinstance(judged, Ordered) and judged.is_binary and "roc_auc" not in found.figures:
        told.append("areas under curves are left out: all rows are of one kind")


# Another version


def _other(case: _Case, parts: Sequence[Path], asked: Asked) -> _Case:
    """The other version's answers to the same rows."""
    told = replace(asked, labels=asked.other_labels)
    if asked.positive is None and case.positive is not None and case.positive in (asked.other_labels or case.labels):
        told = replace(told, positive=case.positive)
    other = _case(parts, told)
    same = other.answered.rows == case.answered.rows and np.array_equal(other.truth, case.truth)
    if not same:
        raise InvalidInput("the two versions did not answer the same rows, so they cannot be compared")
    return other


def _own_differences(metric: Own, case: _Case, other: _Case, asked: Asked) -> list[Difference]:
    everything = np.arange(case.answered.rows)
    first, second = _own(metric, case, everything), _own(metric, other, everything)
    seen: dict[str, list[float]] = {name: [] for name in first if name in second}
    for chosen in _chosen(case, asked):
        mine, others = _own(metric, case, chosen), _own(metric, other, chosen)
        for name, values in seen.items():
            if name in mine and name in others:
                values.append(mine[name] - others[name])
    return [
        difference(name, first[name], second[name], values, asked.confidence) for name, values in seen.items() if values
    ]


# Figures of the user's own


def _own(metric: Own, case: _Case, chosen: Array) -> dict[str, float]:
    table = case.answered.table.take(chosen) if len(chosen) != case.answered.rows else case.answered.table
    rows = {
        name.removeprefix(read.KEPT): column.to_numpy()
        for name, column in zip(table.column_names, table.columns, strict=True)
        if name.startswith(read.KEPT)
    }
    if isinstance(case.judged, Classification) and case.judged.probabilities is not None:
        rows[read.PROBABILITIES] = case.judged.probabilities[chosen]
    return metric(case.truth[chosen], case.predicted[chosen], rows)


def _chosen(case: _Case, asked: Asked) -> Iterator[Array]:
    how = Resampling(min(asked.resamples or _COMPARED, _OWN_RESAMPLES), asked.confidence, asked.seed)
    for counts in _draws(case, asked, how):
        yield np.repeat(np.arange(case.judged.rows), counts.astype(np.int64))


def _own_intervals(metric: Own, case: _Case, asked: Asked) -> dict[str, Interval]:
    """From fewer resamples: nobody knows how long the function takes."""
    seen: dict[str, list[float]] = {}
    for chosen in _chosen(case, asked):
        for name, value in _own(metric, case, chosen).items():
            seen.setdefault(name, []).append(value)
    return {name: between(values, asked.confidence) for name, values in seen.items()}


def _add(figures: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        if name in figures:
            raise InvalidInput(f"metrics: there is a figure {name!r} already; give yours another name")
        figures[name] = value
