"""What keeps to a budget, what contradicts itself, which candidate is the better one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.compression import budget as budgets
from modelport.errors import InvalidInput
from modelport.schemas.compression import Budget, Candidate


def candidate(number: int = 1, **figures: object) -> Candidate:
    return Candidate.model_validate({"number": number, "steps": [], "state": "measured", **figures})


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"max_drop": 0.01, "max_drop_points": 1}, "max_drop_points say the same"),
        ({"size_ratio": 4, "size_bytes": 1000}, "size_bytes say the same"),
        ({"latency_p50_ms": 5, "latency_p99_ms": 2}, "is more than latency_p99_ms"),
        ({"size_bytes": 10}, "MB or kB"),
        ({"size_ratio": 9000}, "less than any model's file"),
    ],
)
def test_a_budget_that_contradicts_itself_says_how(budget: dict[str, float], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        budgets.check(Budget(**budget), 100_000, has_latency=True)


def test_latency_of_what_nothing_serves_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidInput, match="no runtime here"):
        budgets.check(Budget(latency_p99_ms=5), 100_000, has_latency=False)
    budgets.check(Budget(size_ratio=2), 100_000, has_latency=False)


def test_each_limit_is_kept_or_missed_on_its_own() -> None:
    budget = Budget(max_drop=0.01, size_ratio=4, speed_ratio=2, latency_p99_ms=10, memory_mb=100)
    good = {"drop": 0.01, "size_ratio": 4.0, "speed_ratio": 2.0, "latency_p99_ms": 10.0, "memory_mb": 100.0}
    assert budgets.misses(budget, candidate(**good)) == []
    worse = {"drop": 0.0101, "size_ratio": 3.99, "speed_ratio": 1.99, "latency_p99_ms": 10.01, "memory_mb": 100.1}
    named = {"drop": "quality", "size_ratio": "size", "speed_ratio": "speed", "latency_p99_ms": "latency p99"}
    for name, value in worse.items():
        missed = budgets.misses(budget, candidate(**{**good, name: value}))
        assert [one.name for one in missed] == [named.get(name, "memory")] and missed[0].by > 0


def test_what_nobody_measured_is_missed() -> None:
    missed = budgets.misses(Budget(max_drop=0.1, speed_ratio=2), candidate())
    assert [one.text for one in missed] == ["quality not known", "speed not known"]


def test_points_are_points_of_a_hundred() -> None:
    budget = Budget(max_drop_points=0.5)
    assert budgets.misses(budget, candidate(), points=0.5) == []
    (missed,) = budgets.misses(budget, candidate(), points=0.51)
    assert missed.text == "quality fell by 0.51 points, 0.5 allowed"


figures = st.fixed_dictionaries(
    {"drop": st.floats(-0.5, 1), "size_ratio": st.floats(0.1, 100), "speed_ratio": st.floats(0.1, 100)}
)


@given(figures, figures)
def test_whatever_keeps_to_the_budget_lies_before_whatever_does_not(one: dict, other: dict) -> None:
    budget = Budget(max_drop=0.05, size_ratio=2, speed_ratio=1.5)
    a, b = candidate(1, **one), candidate(2, **other)
    missed_a, missed_b = budgets.misses(budget, a), budgets.misses(budget, b)
    if not missed_a and missed_b:
        assert budgets.score(budget, a, missed_a) < budgets.score(budget, b, missed_b)


@given(st.lists(figures, min_size=1, max_size=20))
def test_nothing_beats_the_frontier_and_everything_else_is_beaten(found: list[dict]) -> None:
    tried = [candidate(number, **one) for number, one in enumerate(found)]
    best = budgets.frontier(tried)

    def merits(one: Candidate) -> tuple[float, ...]:
        return (-(one.drop or 0.0), one.size_ratio or 0.0, one.speed_ratio or 0.0)

    def beats(one: Candidate, other: Candidate) -> bool:
        return all(a >= b for a, b in zip(merits(one), merits(other), strict=True))

    assert best
    for one in tried:
        if one in best:
            assert not any(beats(other, one) and merits(other) != merits(one) for other in tried)
        else:
            assert any(beats(other, one) for other in best)


def test_a_figure_of_which_less_is_better_falls_when_it_rises() -> None:
    assert math.isclose(budgets.drop_of(0.9, 0.81, less_is_good=False), 0.1)
    assert math.isclose(budgets.drop_of(20.0, 21.0, less_is_good=True), 0.05)
    assert budgets.drop_of(20.0, 19.0, less_is_good=True) < 0


@pytest.mark.parametrize(
    ("budget", "told", "said"),
    [
        ({"max_drop": 0.01}, {"original_accuracy": 0.9, "accuracy": 0.9}, []),
        ({"max_drop": 0.01}, {"original_accuracy": 0.9, "accuracy": 0.89}, ["quality fell by 1.11%, 1.00% allowed"]),
        ({"max_drop_points": 1}, {"original_accuracy": 0.9, "accuracy": 0.88}, ["quality fell by 2 points, 1 allowed"]),
        ({"max_drop": 0.01}, {}, ["quality not known"]),
        ({"max_drop": 0.01}, {"accuracy": 0.9}, ["quality not known"]),
        ({"size_ratio": 4}, {}, []),
    ],
)
def test_quality_that_unseen_rows_do_not_tell_is_no_quality_that_is_kept(
    budget: dict[str, float], told: dict[str, float], said: list[str]
) -> None:
    assert [one.text for one in budgets.misses_unseen(Budget(**budget), "accuracy", told)] == said


def test_a_budget_of_quality_is_not_kept_to_where_there_is_no_figure() -> None:
    assert budgets.misses_unseen(Budget(max_drop=0.5), None, {"accuracy": 1.0, "original_accuracy": 1.0})
    (missed,) = budgets.misses_unseen(Budget(max_drop=0.1), "rmse", {"original_rmse": 10.0, "rmse": 12.0})
    assert missed.by == pytest.approx(1.0)
