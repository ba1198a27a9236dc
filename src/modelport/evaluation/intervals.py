"""How sure figures are: bootstrap over rows (or over whole lists), and the spread over folds.

A resample is how often each row counts, so that nothing has to be sorted again. Percentile intervals (Efron, 1979).
Knows no figure by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelport.evaluation.score import Judged
from modelport.schemas.evaluation import FoldFigure, Interval
from modelport.tensors import Array

_FEWEST = 100
#: Rows (times classes) that are gone through in all resamples together, about half a minute.
_MOST_WORK = 250_000_000


@dataclass(frozen=True, slots=True)
class Resampling:
    """How resamples are drawn."""

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def within(self, work: int, warnings: list[str]) -> Resampling:
        """Fewer resamples where each takes long: ``work`` is rows times classes."""
        fits = max(_FEWEST, _MOST_WORK // max(work, 1))
        if self.resamples <= fits:
            return self
        warnings.append(f"intervals are from {fits} resamples instead of {self.resamples}: there are many rows")
        return Resampling(fits, self.confidence, self.seed)


def draws(rows: int, how: Resampling, strata: Array | None = None, units: Array | None = None) -> Iterator[Array]:
    """How often each row counts [rows], for every resample.

    ``strata`` [rows] are codes of what keeps its number of rows; ``units`` [rows] of what is drawn as a whole.
    """
    rng = np.random.default_rng(how.seed)
    if units is not None:
        count = int(units.max()) + 1
        for _ in range(how.resamples):
            yield np.bincount(rng.integers(count, size=count), minlength=count).astype(np.float64)[units]
        return
    parts = [np.arange(rows)] if strata is None else [np.flatnonzero(strata == code) for code in np.unique(strata)]
    for _ in range(how.resamples):
        drawn = np.concatenate([part[rng.integers(len(part), size=len(part))] for part in parts])
        yield np.bincount(drawn, minlength=rows).astype(np.float64)


def samples_of(judged: Judged, weights: Array, drawn: Iterator[Array]) -> list[dict[str, float]]:
    """The figures of every resample; none for one whose rows weigh nothing."""
    return [judged.figures(together) if (together := weights * counts).any() else {} for counts in drawn]


def intervals(samples: Sequence[Mapping[str, float]], confidence: float) -> dict[str, Interval]:
    """By figure, where it would lie for other rows of the same kind; not where most resamples lack it."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.items():
            found.setdefault(name, []).append(value)
    return {name: between(values, confidence) for name, values in found.items() if len(values) > len(samples) // 2}


def between(values: Sequence[float], confidence: float) -> Interval:
    """Where the middle share ``confidence`` of the values lies."""
    low, high = np.quantile(np.asarray(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))


def summarise_folds(folds: Sequence[Mapping[str, float]], confidence: float = 0.95) -> dict[str, FoldFigure]:
    """Mean, standard deviation and interval (Student's t) of the figures that every fold has."""
    from scipy.stats import t  # noqa: PLC0415  (takes half a second to load)

    found = {}
    for name in folds[0] if folds else ():
        values = np.array([fold[name] for fold in folds if name in fold], np.float64)
        if len(values) < len(folds):
            continue
        mean, spread = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else 0.0
        half = float(t.ppf((1 + confidence) / 2, len(values) - 1)) * spread / len(values) ** 0.5 if spread else 0.0
        found[name] = FoldFigure(
            mean=mean, std=spread, low=mean - half, high=mean + half, values=[float(value) for value in values]
        )
    return found
