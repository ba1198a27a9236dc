"""What is counted of a text, part by part: tokens once, times that add up, one end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.generation import Part
from modelport.engine.stats import EndpointStats
from modelport.engine.text_stats import BOUNDS, Counted, TextStats, summed

MS = 1_000_000


def part(tokens: int, finish: str | None = None, prompt: int = 0, cached: int = 0, waited_ns: int = 0) -> Part:
    return Part(
        "", tuple(range(tokens)), finish=finish, prompt_tokens=prompt, cached_tokens=cached, waited_ns=waited_ns
    )


def test_a_text_from_its_queue_to_its_end() -> None:
    stats = EndpointStats().of("ada")
    text = Counted(stats, queued_ns=100 * MS, most=50)
    text.gained(part(1, prompt=7, cached=4, waited_ns=20 * MS), sent_ns=110 * MS, now=160 * MS)
    text.gained(part(2), 110 * MS, 200 * MS)
    text.gained(part(0), 110 * MS, 210 * MS)  # half a character
    text.gained(part(1, "length", prompt=7, cached=4), 110 * MS, 240 * MS)
    text.ended("abort")
    assert (stats.prompt_tokens, stats.cached_tokens, stats.tokens) == (7, 4, 4)
    assert stats.ended == {"length": 1}
    totals = {name: histogram.total for name, histogram in stats.measured.items()}
    assert totals == {
        "first": 60 * MS, "queue": 30 * MS, "prefill": 30 * MS, "decode": 80 * MS, "whole": 140 * MS,
        "between": 40 * MS + 30 * MS, "pace": 80 * MS // 3, "prompts": 7, "answers": 4, "most": 50,
    }  # fmt: skip
    assert sum(stats.measured["between"].counts) == 3
    assert all(sum(stats.measured[name].counts) == 1 for name in BOUNDS if name != "between")


@pytest.mark.parametrize("how", ["abort", "error"])
def test_a_text_without_an_end_has_no_length(how: str) -> None:
    stats = TextStats()
    text = Counted(stats, 0, None)
    text.gained(part(1, prompt=3), 0, MS)
    text.ended(how)
    text.ended("error")
    assert stats.ended == {how: 1}
    assert stats.tokens == 1
    assert [name for name in BOUNDS if sum(stats.measured[name].counts)] == ["first", "queue", "prefill"]


@given(st.lists(st.integers(0, 200_000 * MS), max_size=30), st.integers(1, 4))
def test_sums_of_gateways_are_those_of_one(values: list[int], gateways: int) -> None:
    one, several = TextStats(), [TextStats() for _ in range(gateways)]
    for place, value in enumerate(values):
        for stats in (one, several[place % gateways]):
            stats.note("first", value)
            stats.tokens += 1
            stats.ended["stop"] = stats.ended.get("stop", 0) + 1
    assert summed(several) == one
    counts = one.measured["first"].counts
    for bound, up_to in zip(BOUNDS["first"], (sum(counts[: n + 1]) for n in range(len(counts))), strict=False):
        assert up_to == sum(value <= bound * 1e9 for value in values)
