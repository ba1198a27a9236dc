"""Which batch size is chosen, for models whose runs cost what they do on real machines."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.batching import BatchSize

MS = 1_000_000


def simulate(
    sizes: BatchSize, cost: Callable[[int], float], seconds: float, waiting: int = 64, noise: float = 0.0
) -> Counter[int]:
    """Rows run by size, with so many requests always waiting; ``cost`` is ns by rows."""
    rng, now, rows = random.Random(0), 10**12, Counter[int]()
    end = now + seconds * 1e9
    while now < end:
        size = min(sizes.limit, waiting)
        ns = cost(size) * (1 + noise * rng.expovariate(1))
        now += int(ns) + 60_000
        sizes.learn(size, int(ns), now)
        rows[size] += size
    return rows


SHAPES = {
    "a tiny network": (lambda rows: 13_000 + 400 * rows, 32),
    "weights read once": (lambda rows: 1.3 * MS + 0.17 * MS * rows, 32),
    "activations outgrow the cache": (lambda rows: rows * (8.3 if rows == 1 else 12 if rows < 8 else 17) * MS, 1),
    "best in the middle": (lambda rows: 2 * MS + rows * MS * (0.5 if rows <= 8 else 1.5), 8),
    "no gain at all": (lambda rows: 9 * MS * rows, 1),
}


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_most_rows_run_at_the_best_size(shape: str, noise: float) -> None:
    cost, best = SHAPES[shape]
    rows = simulate(BatchSize(32), cost, seconds=30, noise=noise)
    good = sum(count for size, count in rows.items() if best / 2 <= size <= best * 2)
    if shape != "no gain at all" or not noise:  # then nothing is lost by any size, and chance decides
        assert good / rows.total() > 0.9, rows
    assert rows.most_common(1)[0][0] in (best // 2, best, best * 2)


def test_it_finds_out_again_when_a_model_changes_its_ways() -> None:
    sizes = BatchSize(32)
    simulate(sizes, SHAPES["activations outgrow the cache"][0], seconds=10)
    rows = simulate(sizes, SHAPES["weights read once"][0], seconds=60)
    assert rows[32] / rows.total() > 0.6


def test_a_lonely_caller_is_never_made_to_wait_for_others() -> None:
    rows = simulate(BatchSize(32), SHAPES["weights read once"][0], seconds=1, waiting=1)
    assert set(rows) == {1}


@given(st.integers(1, 5000), st.lists(st.tuples(st.integers(0, 6000), st.integers(0, 10**9)), max_size=200))
def test_the_limit_is_never_beyond_the_most(most: int, runs: list[tuple[int, int]]) -> None:
    sizes, now = BatchSize(most), 0
    for rows, ns in runs:
        now += ns
        sizes.learn(rows, ns, now)
        assert 1 <= sizes.limit <= most
    assert sizes.most == most
