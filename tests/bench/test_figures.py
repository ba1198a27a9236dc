"""Percentiles are numpy's; a refused request counts as endless where a promise is judged."""

from __future__ import annotations

import time

import numpy as np
import pytest

from modelport.bench.figures import Figures, figures_of, greatest_within
from modelport.bench.lines import LATE
from modelport.bench.record import Record


def record_of(latencies_s: np.ndarray) -> Record:
    record = Record(0.0, 10.0)
    record.latencies.extend(latencies_s.tolist())
    record.due_in_window = len(latencies_s)
    return record


@pytest.mark.parametrize("count", [1000, 5437])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    times = np.random.default_rng(3).lognormal(-5, 1, count)
    found = figures_of(record_of(times), "x").latency_ms
    for name, share in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9)):
        assert found[name] == pytest.approx(np.percentile(1e3 * times, share, method="higher"))
        assert np.mean(1e3 * times <= found[name]) >= share / 100
    assert found["max"] == pytest.approx(1e3 * times.max())
    assert found["mean"] == pytest.approx(1e3 * times.mean())


def test_a_percentile_of_too_few_is_none() -> None:
    found = figures_of(record_of(np.arange(1, 100) / 1e3), "x").latency_ms
    assert found["p90"] == pytest.approx(90)
    assert found["p99"] is None and found["p99.9"] is None and found["max"] == pytest.approx(99)
    assert figures_of(record_of(np.arange(1, 101) / 1e3), "x").latency_ms["p99"] == pytest.approx(100)
    assert figures_of(Record(0, 1), "x").latency_ms["max"] is None


def test_outcomes_are_told_apart() -> None:
    start = time.perf_counter()
    record = Record(start, start + 60)
    record.note(start - 1, 200, "")  # due in the warm-up
    record.note(start, 200, "")
    record.note(start, 429, "the queue is full")
    record.note(start, 500, "the model failed")
    record.note(start, 500, "the model failed")
    record.note(start - 9, 500, "before")
    record.start = start - 60
    record.note(start - 50, 0, LATE)
    found = figures_of(record, "x")
    assert (found.ok, found.refused) == (1, 1)
    assert found.errors == {"500 the model failed": 2, LATE: 1}
    assert found.latency_ms["max"] >= 50_000  # one that was given up took at least so long
    assert record.finished_in_window == 2 and record.answers == 2


def test_different_errors_do_not_fill_the_memory() -> None:
    record = Record(0.0, 1e12)
    for number in range(1000):
        record.note(1.0, 500, f"error {number}")
    assert len(record.errors) == 21 and record.errors["other errors"] == 980


def step(offered: float, latencies_ms: list[float], refused: int = 0) -> Figures:
    record = record_of(np.array(latencies_ms) / 1e3)
    record.refused = refused
    record.due_in_window = int(10 * offered)
    return figures_of(record, f"{offered}/s")


def test_the_greatest_load_within_a_promise() -> None:
    steps = [step(10, [5] * 100), step(20, [20] * 100), step(40, [60] * 100), step(80, [30] * 100)]
    assert greatest_within(steps, 50) is steps[1]  # what a luckier step showed later does not count
    assert greatest_within(steps, 10) is steps[0]
    assert greatest_within(steps, 1) is None
    assert greatest_within(steps, 100) is steps[3]
    refused = [step(10, [5] * 1000, refused=5), step(20, [5] * 1000, refused=20)]
    assert greatest_within(refused, 50) is refused[0]
    assert refused[1].slo_p99_ms is None and refused[0].slo_p99_ms == pytest.approx(5)


def test_the_generators_own_limits_are_told() -> None:
    record = record_of(np.ones(100))
    assert figures_of(record, "x").warnings == []
    record.cpu, record.backlog_most = 0.97, 3
    record.lateness.extend([0.002] * 10)
    text = " ".join(figures_of(record, "x").warnings)
    assert "97% of a core" in text and "2.0 ms late" in text and "3 requests waited" in text
