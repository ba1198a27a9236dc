"""Whether a candidate keeps to a budget, how far it is from that, and which of several is the better one.

Works on figures alone; knows neither models nor how they were measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from modelport.errors import InvalidInput
from modelport.evaluation.score import less_is_better
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
    if budget.asks_the_machine and not has_latency:
        raise InvalidInput("budget: no runtime here serves this version, so its latency and memory cannot be measured")


@dataclass(frozen=True, slots=True)
class Miss:
    """One limit that is not kept to."""

    name: str
    by: float
    """How far it is off: 0.1 is ten percent; what nobody knows is far off."""
    text: str


def misses(budget: Budget, found: Candidate, points: float | None = None) -> list[Miss]:
    """What it does not keep to; a figure that is asked for and unknown is a miss.

    ``points``: by how many points of 100 the main figure fell.
    """
    wanted: tuple[tuple[str, str, float | None, float | None, bool], ...] = (
        ("quality", "fell by {:.2%}, {:.2%} allowed", found.drop, budget.max_drop, False),
        ("quality", "fell by {:.3g} points, {:.3g} allowed", points, budget.max_drop_points, False),
        ("size", "{:.2f} x smaller, {:g} x wanted", found.size_ratio, budget.size_ratio, True),
        ("size", "{:.0f} bytes, {:.0f} allowed", found.size_bytes, budget.size_bytes, False),
        ("speed", "{:.2f} x faster, {:g} x wanted", found.speed_ratio, budget.speed_ratio, True),
        ("latency p99", "{:.3g} ms, {:g} ms allowed", found.latency_p99_ms, budget.latency_p99_ms, False),
        ("latency p50", "{:.3g} ms, {:g} ms allowed", found.latency_p50_ms, budget.latency_p50_ms, False),
        ("memory", "{:.0f} MB, {:g} MB allowed", found.memory_mb, budget.memory_mb, False),
    )
    missed = []
    for name, text, value, limit, more_is_better in wanted:
        if limit is None:
            continue
        if value is None:
            missed.append(Miss(name, _HOPELESS, f"{name} not known"))
        elif name == "quality":
            if value > limit + 1e-12:
                share = value - limit if limit is budget.max_drop else (value - limit) / 100
                missed.append(Miss(name, share * _QUALITY_COUNTS, f"{name} {text.format(value, limit)}"))
        elif value < limit if more_is_better else value > limit:
            missed.append(Miss(name, abs(math.log(max(value, 1e-9) / limit)), f"{name} {text.format(value, limit)}"))
    return missed


def misses_unseen(budget: Budget, figure: str | None, told: Mapping[str, float]) -> list[Miss]:
    """What of the quality it does not keep to by rows that nobody saw; ``told`` are figures of these, before
    (``original_…``) and after. Quality that is asked for and that they do not tell is a miss."""
    before, after = told.get(f"original_{figure}"), told.get(figure or "")
    seen, points = Candidate(number=0, steps=[]), None
    if figure is not None and before is not None and after is not None:
        less = less_is_better(figure)
        seen.drop = drop_of(before, after, less)
        points = 100 * (after - before if less else before - after)
    return [one for one in misses(budget, seen, points) if one.name == "quality"]


def score(budget: Budget, found: Candidate, missed: Sequence[Miss]) -> float:
    """The smaller, the better: above 0 by how much it misses; below, how good it is where the budget is open."""
    if found.state == "failed":
        return 2 * _HOPELESS
    if missed:
        return sum(one.by for one in missed)
    gain = 0.0
    if budget.max_drop is None and budget.max_drop_points is None:
        gain -= (found.drop or 0.0) * _QUALITY_COUNTS
    else:
        gain -= max(found.drop or 0.0, 0.0)
    for ratio in (found.size_ratio, found.speed_ratio):
        gain += math.log(max(ratio or 1.0, 1e-9))
    return -max(gain + 20.0, 1e-6)  # whatever keeps to the budget lies before whatever does not


def drop_of(before: float, after: float, less_is_good: bool) -> float:
    """By how much a figure fell, as a share of what it was; below 0 where it became better."""
    fell = after - before if less_is_good else before - after
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
