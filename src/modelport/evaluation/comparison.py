"""Two versions on the same rows: how much they differ, and how often chance alone would make such a difference.

Differences by a bootstrap that draws the same rows for both; of classes also McNemar's exact test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from modelport.evaluation.classes import Classification
from modelport.evaluation.intervals import Resampling, between
from modelport.evaluation.score import Judged, less_is_better
from modelport.schemas.evaluation import Comparison, Difference
from modelport.tensors import Array


def compare(
    one: Judged,
    other: Judged,
    names: tuple[str, str],
    main: str | None,
    weights: Array,
    samples: Sequence[Mapping[str, float]],
    others: Sequence[Mapping[str, float]],
    how: Resampling,
) -> Comparison:
    """``names`` are those of the versions; ``samples`` and ``others`` the figures of each by the same resamples."""
    first, second = one.figures(weights), other.figures(weights)
    seen = {
        name: [
            mine[name] - its[name] for mine, its in zip(samples, others, strict=True) if name in mine and name in its
        ]
        for name in first
        if name in second
    }
    differences = [
        difference(name, first[name], second[name], values, how.confidence) for name, values in seen.items() if values
    ]
    found = Comparison(other=names[1], differences=differences, verdict="")
    p_value = None
    if isinstance(one, Classification) and isinstance(other, Classification):
        right, others_right = one.truth == one.predicted, other.truth == other.predicted
        found.only_this_right = int(np.sum(right & ~others_right))
        found.only_other_right = int(np.sum(others_right & ~right))
        p_value = found.mcnemar_p = mcnemar(found.only_this_right, found.only_other_right)
    found.verdict = _verdict(names, main, differences, p_value if np.all(weights == 1) else None, 1 - how.confidence)
    return found


def difference(figure: str, value: float, other: float, seen: list[float], confidence: float) -> Difference:
    """One figure's difference, with the differences of resamples that were ``seen``."""
    interval, drawn = between(seen, confidence), np.asarray(seen)
    tail = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    p_value = float(min(1.0, 2 * (tail + 1) / (len(drawn) + 1)))
    return Difference(
        figure=figure, value=value, other=other, difference=value - other, low=interval.low, high=interval.high,
        p_value=p_value,
    )  # fmt: skip


def mcnemar(only_one: int, only_other: int) -> float:
    """The exact test, two-sided: of the rows that only one of them got right, half should be each one's."""
    from scipy.stats import binomtest  # noqa: PLC0415  (takes half a second to load)

    count = only_one + only_other
    return float(binomtest(only_one, count).pvalue) if count else 1.0


def _verdict(
    names: tuple[str, str], main: str | None, differences: list[Difference], mcnemar_p: float | None, level: float
) -> str:
    found = next((one for one in differences if one.figure == main), None)
    if found is None:
        return f"{names[0]} and {names[1]} share no figure that could be compared"
    p_value = mcnemar_p if mcnemar_p is not None and main == "accuracy" else found.p_value
    values = f"{found.figure} {found.value:.4g} against {found.other:.4g}"
    told = f"{values}, difference {found.difference:+.4g} [{found.low:+.4g}, {found.high:+.4g}], p = {p_value:.2g}"
    if p_value >= level or found.difference == 0:
        return f"no difference between {names[0]} and {names[1]} can be told from chance: {told}"
    better = (found.difference < 0) == less_is_better(found.figure)
    return f"{names[0]} is {'better' if better else 'worse'} than {names[1]}: {told}"
