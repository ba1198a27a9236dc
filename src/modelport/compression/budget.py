"""Whether a candidate keeps to a budget, how far it is from that, and which of several is the better one.

Works on figures alone; knows neither models nor how they were measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from modelport.errors import InvalidInput
from modelport.schemas.compression import Budget, Candidate

_HOPELESS = 100.0
_QUALITY_COUNTS = 10.0
"""What a share of quality is worth beside a factor of size or speed, where the budget leaves both open: 1 % of it as
much as 10 %."""


def check(budget: Budget, size_bytes: int, has_latency: bool) -> None:
    """Raise InvalidInput for a budget that contradicts itself, or that the original already keeps to."""
    pairs = (("max_drop", "max_drop_points"), ("size_ratio", "size_bytes"))
    for one, other in pairs:
        if getattr(budget, one) is not None and getattr(budget, other) is not None:
            raise InvalidInput(f"budget: {one} and {other} say the same in two ways; give one of them")
    low, high = budget.latency_p50_ms, budget.latency_p99_ms
    if low is not None and high is not None and low > high:
        raise InvalidInput(
            f"budget: latency_p50_ms {low:g} is more than latency_p99_ms {high:g}; no model is like that"
        )
    if budget.size_bytes is not None and budget.size_bytes < 100:
        raise InvalidInput(f"budget: size_bytes {budget.size_bytes:g} is less than any model's file; say MB or kB?")
    if budget.size_ratio is not None and size_bytes / budget.size_ratio < 100:
        raise InvalidInput(
            f"budget: size_ratio {budget.size_ratio:g} of {size_bytes} bytes is {size_bytes / budget.size_ratio:.0f} "
            "bytes, less than any model's file"
        )
    asks = (budget.speed_ratio, budget.latency_p99_ms, budget.latency_p50_ms, budget.memory_mb)
    if any(one is not None for one in asks) and not has_latency:
        raise InvalidInput("budget: no runtime here serves this version, so its latency and memory cannot be measured")


def misses(budget: Budget, found: Candidate, points: float | None = None) -> dict[str, float]:
    """What it does not keep to, and by what share of the limit; a figure that is asked for and unknown is a miss.

    ``points``: by how many points of 100 the main figure fell.
    """
    wanted = (
        ("quality", found.drop, budget.max_drop, False),
        ("quality", None if points is None else points / 100, _share(budget.max_drop_points), False),
        ("size", found.size_ratio, budget.size_ratio, True),
        ("size", found.size_bytes, budget.size_bytes, False),
        ("speed", found.speed_ratio, budget.speed_ratio, True),
        ("latency p99", found.latency_p99_ms, budget.latency_p99_ms, False),
        ("latency p50", found.latency_p50_ms, budget.latency_p50_ms, False),
        ("memory", found.memory_mb, budget.memory_mb, False),
    )
    by = {}
    for name, value, limit, more_is_better in wanted:
        if limit is None:
            continue
        if value is None:
            by[name] = _HOPELESS
        elif name == "quality" and value > limit + 1e-12:
            by[name] = (value - limit) * _QUALITY_COUNTS
        elif name != "quality" and (value < limit if more_is_better else value > limit):
            by[name] = abs(math.log(max(value, 1e-9) / limit))
    return by


def score(budget: Budget, found: Candidate, missed: dict[str, float]) -> float:
    """The smaller, the better: above 0 by how much it misses; below, how good it is where the budget is open."""
    if found.state == "failed":
        return 2 * _HOPELESS
    if missed:
        return sum(missed.values())
    gain = 0.0
    if budget.max_drop is None and budget.max_drop_points is None:
        gain -= (found.drop or 0.0) * _QUALITY_COUNTS
    else:
        gain -= max(found.drop or 0.0, 0.0)
    for ratio in (found.size_ratio, found.speed_ratio):
        gain += math.log(max(ratio or 1.0, 1e-9))
    return -max(gain + 20.0, 1e-6)  # whatever keeps to the budget lies before whatever does not


def drop_of(before: float, after: float, less_is_better: bool) -> float:
    """By how much a figure fell, as a share of what it was; below 0 where it became better."""
    fell = after - before if less_is_better else before - after
    return fell / max(abs(before), 1e-12)


def frontier(found: Iterable[Candidate]) -> list[Candidate]:
    """Those that no other one beats or equals in quality, size and speed together."""
    known = [one for one in found if one.state != "failed" and one.size_ratio is not None]
    return [one for one in known if not any(_beats(other, one) for other in known if other is not one)]


def _beats(one: Candidate, other: Candidate) -> bool:
    mine, its = _merits(one), _merits(other)
    return all(a >= b for a, b in zip(mine, its, strict=True)) and (mine != its or one.number < other.number)


def _merits(one: Candidate) -> tuple[float, float, float]:
    return (-(one.drop or 0.0), one.size_ratio or 0.0, one.speed_ratio or 0.0)


def _share(points: float | None) -> float | None:
    return None if points is None else points / 100
