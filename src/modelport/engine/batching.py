"""How many rows a run should take: learnt from what runs cost, because more is not always faster.

A small network gains twentyfold from sharing a run; a convolutional one on one core loses half, when its activations no
longer fit the caches. Sizes are powers of two. The size in use grows while the next one costs less per row, and what
was learnt is looked at again from time to time. Knows sizes and times; knows no request and no replica.
"""

from __future__ import annotations

_RUNS = 3
"""Runs of one size before it is judged."""
_GAIN = 0.97
"""A larger size must cost less than this per row: at equal cost the smaller one answers sooner."""
_AGAIN_NS = 5_000_000_000
"""How long what was learnt of another size is believed."""
_HOP_NS = 60_000
"""What a run costs beside the model: a frame there and back."""
_WEIGHT = 0.2
"""Of the newest run in the moving average."""


class BatchSize:
    """The number of rows worth putting together, at most ``most``."""

    def __init__(self, most: int) -> None:
        self._sizes = [1 << power for power in range(most.bit_length()) if 1 << power < most] + [most]
        self._costs = [0.0] * len(self._sizes)
        """ns per row by size; 0 where nothing is known."""
        self._runs = [0] * len(self._sizes)
        self._seen_ns = [0] * len(self._sizes)
        self._best = 0
        self._tried = 0
        self.limit = self._sizes[0]

    @property
    def most(self) -> int:
        """The greatest size that may be chosen."""
        return self._sizes[-1]

    def learn(self, rows: int, ns: int, now_ns: int) -> None:
        """What one run took. Runs that were not full teach as well, but only full ones lead on to another size."""
        index = min((max(rows, 1) - 1).bit_length(), len(self._sizes) - 1)
        cost = (ns + _HOP_NS) / max(rows, 1)
        if now_ns - self._seen_ns[index] > _AGAIN_NS:
            self._runs[index], self._costs[index] = 0, 0.0
        self._runs[index] += 1
        self._seen_ns[index] = now_ns
        known = self._costs[index]
        # what disturbs a run makes it longer, never shorter: a low figure is believed sooner
        weight = 1.0 if not known else 2 * _WEIGHT if cost < known else _WEIGHT / 2
        self._costs[index] = known + weight * (cost - known)
        if index == self._tried and self._runs[index] >= _RUNS:
            self._choose(now_ns)

    def _choose(self, now_ns: int) -> None:
        tried, best = self._tried, self._best
        if tried != best and self._is_better(tried, best):
            self._best = best = tried
        for other in (best + 1, best - 1):
            if 0 <= other < len(self._sizes) and now_ns - self._seen_ns[other] > _AGAIN_NS:
                self._try(other)
                self._runs[other] = 0
                return
        for other in (best + 1, best - 1):
            if 0 <= other < len(self._sizes) and self._is_better(other, best):
                self._best = other
                self._try(other)
                return
        self._try(best)

    def _is_better(self, size: int, than: int) -> bool:
        if not self._costs[size]:
            return False
        if size > than:
            return self._costs[size] < self._costs[than] * _GAIN
        return self._costs[size] * _GAIN <= self._costs[than]

    def _try(self, index: int) -> None:
        self._tried = index
        self.limit = self._sizes[index]
