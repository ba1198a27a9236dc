"""Figures of predicted numbers, and of a series: how far they lie from the truth.

As scikit-learn's functions of these names; sMAPE and MASE as in Hyndman and Koehler, 2006.
"""

from __future__ import annotations

import numpy as np

from modelport.tensors import Array

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Regression:
    """Rows whose number is known, and what was predicted for them."""

    def __init__(self, truth: Array, predicted: Array, quantiles: dict[float, Array] | None = None) -> None:
        """``truth``, ``predicted`` [rows] or [rows, steps]; ``quantiles`` by level, of the same shape."""
        self.rows = len(truth)
        self.truth = truth.astype(np.float64).reshape(self.rows, -1)
        self.error = predicted.astype(np.float64).reshape(self.rows, -1) - self.truth
        self.absolute = np.abs(self.error)
        self._steps = self.truth.shape[1]
        self._order = np.argsort(self.absolute, axis=None, kind="stable")
        self._sorted = self.absolute.reshape(-1)[self._order]
        size = np.abs(self.truth) + np.abs(self.truth + self.error)
        self._smape = np.divide(2 * self.absolute, size, out=np.zeros_like(size), where=size > 0).mean(axis=1)
        self._relative: Array | None = None
        if np.all(self.truth != 0):
            self._relative = (self.absolute / np.abs(self.truth)).mean(axis=1)
        self._mae, self._mse = self.absolute.mean(axis=1), (self.error**2).mean(axis=1)
        self._pinball = {
            level: np.maximum(level * (d := self.truth - found.reshape(self.rows, -1)), (level - 1) * d).mean(axis=1)
            for level, found in (quantiles or {}).items()
        }

    @property
    def has_zeros(self) -> bool:
        """Whether a relative error cannot be told."""
        return self._relative is None

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """All of them; the median only with ``ranks``."""
        total = weights.sum()
        mse = float(self._mse @ weights / total)
        found = {"mae": float(self._mae @ weights / total), "mse": mse, "rmse": float(np.sqrt(mse))}
        r2 = self._r2(weights)
        if r2 is not None:
            found["r2"] = r2
        if ranks:
            found["median_ae"] = self._median(weights)
        if self._relative is not None:
            found["mape"] = float(self._relative @ weights / total)
        found["smape"] = float(self._smape @ weights / total)
        found["max_error"] = float(np.max(self.absolute[weights > 0]))
        for level, loss in self._pinball.items():
            found[f"pinball_{level:g}"] = float(loss @ weights / total)
        return found

    def _r2(self, weights: Array) -> float | None:
        """Of every step, then their mean; None where the truth never differs, or there is one row only."""
        if np.count_nonzero(weights) < 2:
            return None
        mean = weights @ self.truth / weights.sum()
        spread, left = weights @ (self.truth - mean) ** 2, weights @ self.error**2
        return float(np.mean(1 - left / spread)) if np.all(spread > 0) else None

    def _median(self, weights: Array) -> float:
        each = np.repeat(weights, self._steps)[self._order]
        upto, half = np.cumsum(each), each.sum() / 2
        low, high = np.searchsorted(upto, half * (1 - 1e-12)), np.searchsorted(upto, half * (1 + 1e-12), side="right")
        return float((self._sorted[low] + self._sorted[min(high, len(upto) - 1)]) / 2)

    def error_quantiles(self) -> dict[str, float]:
        """Of prediction minus truth."""
        return {f"{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(self.error, QUANTILES), strict=True)}

    def by_step(self, weights: Array) -> list[float]:
        """Mean absolute error of every step of a series."""
        return [float(value) for value in weights @ self.absolute / weights.sum()]


class Forecast(Regression):
    """Windows of a series: the errors beside those of a naive forecast."""

    def __init__(
        self, truth: Array, predicted: Array, naive: float | None, quantiles: dict[float, Array] | None = None
    ):
        """``naive`` is the mean absolute error of the naive forecast over the rows that were learnt from."""
        super().__init__(truth, predicted, quantiles)
        self._naive = naive

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        found = super().figures(weights, ranks)
        return found | ({"mase": found["mae"] / self._naive} if self._naive else {})


class Similarity:
    """Pairs whose likeness is known, and how alike they were found."""

    def __init__(self, truth: Array, predicted: Array) -> None:
        self.rows = len(truth)
        self._truth, self._predicted = truth.astype(np.float64), predicted.astype(np.float64)

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """Correlations, where neither side is constant."""
        found = {}
        pearson = _correlation(self._truth, self._predicted, weights)
        if pearson is not None:
            found["pearson"] = pearson
            spearman = _correlation(_ranked(self._truth, weights), _ranked(self._predicted, weights), weights)
            if ranks and spearman is not None:
                found["spearman"] = spearman
        return found


class Language:
    """Texts with the natural logarithm of their likelihood, and of how many tokens each is."""

    def __init__(self, tokens: Array, likelihoods: Array) -> None:
        self.rows = len(tokens)
        self._tokens, self._likelihoods = tokens.astype(np.float64), likelihoods.astype(np.float64)

    def figures(self, weights: Array, ranks: bool = True) -> dict[str, float]:
        """Perplexity, and the loss of a token in nats."""
        loss = -float(self._likelihoods @ weights / (self._tokens @ weights))
        return {"token_loss": loss, "perplexity": float(np.exp(min(loss, 700.0)))}


def _ranked(values: Array, weights: Array) -> Array:
    """Mid-ranks of rows that count ``weights`` times."""
    distinct, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, weights, minlength=len(distinct))
    found: Array = (np.cumsum(counts) - counts / 2)[place]
    return found


def _correlation(one: Array, other: Array, weights: Array) -> float | None:
    total = weights.sum()
    a, b = one - one @ weights / total, other - other @ weights / total
    spread = (a * a @ weights) * (b * b @ weights)
    return float((a * b) @ weights / np.sqrt(spread)) if spread > 0 else None
