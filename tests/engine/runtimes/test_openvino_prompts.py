"""Which of a pipeline's steps read, and how much: against a pipeline that reads whatever it is given."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

pytest.importorskip("openvino_genai")

import openvino_genai as genai

from modelport.engine.runtimes.openvino_prompts import Kept, Reading

ENDS = "a piece"


@dataclass
class Handle:
    tokens: tuple[int, ...]
    read: bool = False
    steps: int = 0

    def can_read(self) -> bool:
        return self.read

    def get_status(self) -> Any:
        return genai.GenerationStatus.RUNNING if self.steps < 2 else genai.GenerationStatus.FINISHED


@dataclass
class Pipeline:
    """Notes what each step reads beyond what it has read before."""

    cache: set[tuple[int, ...]] = field(default_factory=set)
    handles: list[Handle] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def add(self, number: int, prompt: Sequence[int], how: Any) -> Handle:
        self.handles.append(Handle(tuple(prompt)))
        return self.handles[-1]

    def step(self, reading: Reading) -> None:
        unread = [handle for handle in self.handles if not handle.read]
        self.sizes.append(sum(self._read(handle) for handle in unread))
        for handle in unread or self.handles:
            handle.steps += 1
        reading.stepped()

    def _read(self, handle: Handle) -> int:
        handle.read = True
        found = max((n for n in range(0, len(handle.tokens), 32) if handle.tokens[:n] in self.cache), default=0)
        self.cache |= {handle.tokens[:n] for n in range(32, len(handle.tokens) + 1, 32)}
        return len(handle.tokens) - found


def made(room: int = 100_000) -> tuple[Pipeline, Reading]:
    pipeline = Pipeline()
    return pipeline, Reading(room, ENDS, pipeline.add)


def tokens(count: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(1000) for _ in range(count)]


def read_whole(pipeline: Pipeline, reading: Reading, number: int, beside: bool = False) -> int:
    """Steps until the prompt is read."""
    for step in range(1, 1000):
        begun = dict(reading.go_on(beside))
        pipeline.step(reading)
        if number in begun:
            assert begun[number].read
            return step
    raise AssertionError("never")


@pytest.mark.parametrize("beside, most", [(True, 64), (False, 256)])
def test_a_long_prompt_is_read_in_pieces_and_no_token_twice(beside: bool, most: int) -> None:
    pipeline, reading = made()
    prompt = tokens(1500)
    assert reading.begin(1, prompt, "whole") is None
    assert read_whole(pipeline, reading, 1, beside) == -(-1500 // most)
    assert max(pipeline.sizes) <= most and sum(pipeline.sizes) == 1500


def test_what_has_been_read_is_not_read_in_pieces_again() -> None:
    pipeline, reading = made()
    first = tokens(1500)
    reading.begin(1, first, "whole")
    read_whole(pipeline, reading, 1)
    pipeline.sizes.clear()
    assert reading.begin(2, [*first, *tokens(100, 1)], "whole") is not None
    pipeline.step(reading)
    assert pipeline.sizes[0] < 200
    assert reading.begin(3, [*first[:640], *tokens(600, 2)], "whole") is None, "the rest is long"
    assert read_whole(pipeline, reading, 3) == 3


def test_a_step_reads_a_bounded_number_of_tokens() -> None:
    pipeline, reading = made()
    for number in range(6):
        assert reading.may_begin
        assert reading.begin(number, tokens(50, number), "whole") is not None
    assert not reading.may_begin
    pipeline.step(reading)
    assert reading.may_begin and pipeline.sizes == [300]


BLOCK = tokens(32)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (tokens(50, 1), tokens(50, 2), True),
        ([*BLOCK, 1, 2, 3], [*BLOCK, 1, 2, 3], True),
        ([*BLOCK, 1, 2, 3], [*BLOCK, 7, 8], True),
        ([*BLOCK, 1, 2, 3], BLOCK, True),
        ([*BLOCK, 1, 2, 3], [*BLOCK, 1, 8], False),
        ([*BLOCK, 1, 2, 3], [*BLOCK, 1], False),
        (BLOCK, BLOCK[:31], False),
        (BLOCK, [*BLOCK[:31], 7777], False),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_prompts_that_part_inside_of_a_block_are_not_read_together(
    one: list[int], other: list[int], together: bool, swapped: bool
) -> None:
    """Where an earlier text may have gone as far. Nor when the first ends with a block and is not gone on from yet."""
    one, other = (other, one) if swapped else (one, other)
    pipeline, reading = made()
    reading.begin(0, BLOCK[:20], "whole")
    pipeline.step(reading)
    assert reading.begin(1, one, "whole") is not None
    assert (reading.begin(2, other, "whole") is not None) == together
    assert together or not reading.may_begin
    begun = []
    for _ in range(3):
        pipeline.step(reading)
        begun.append(list(dict(reading.go_on(True))))
    if together:
        assert begun == [[], [], []]
    else:
        assert begun == [[], [2], []] if len(one) == len(BLOCK) else [[2], [], []]


@pytest.mark.parametrize(
    ("earlier", "together"), [([*BLOCK, 1, 2, 3, 4], True), ([*BLOCK, 7], True), ([*BLOCK, 1], False), ([1], True)]
)
def test_prompts_that_no_earlier_text_has_gone_along_with_are_read_together(earlier: list[int], together: bool) -> None:
    pipeline, reading = made()
    reading.begin(0, earlier, "whole")
    pipeline.step(reading)
    reading.begin(1, [*BLOCK, 1, 2, 3], "whole")
    assert (reading.begin(2, [*BLOCK, 1, 2, 4], "whole") is not None) == together


def test_a_piece_is_in_the_way_only_in_the_block_behind_it() -> None:
    pipeline, reading = made()
    long = tokens(1000)
    reading.begin(1, long, "whole")
    read_whole(pipeline, reading, 1)
    for number, (parts_at, together) in enumerate([(500, True), (520, False), (560, True)]):
        one, other = [*long[:parts_at], 5001], [*long[:parts_at], 5002]
        assert reading.begin(100 + number, one, "whole") is not None
        assert (reading.begin(200 + number, other, "whole") is not None) == together
        pipeline.step(reading)
        assert [*reading.go_on(True)] == [] if together else [*reading.go_on(True)]
        pipeline.step(reading)


def test_who_is_held_is_begun_before_others_and_forgotten_when_he_leaves() -> None:
    pipeline, reading = made()
    reading.begin(9, [1, 2], "whole")
    pipeline.step(reading)
    for number in range(4):
        reading.begin(number, [1, 2, 3, number], "whole")
    found = []
    reading.ended(2)
    for _ in range(3):
        pipeline.step(reading)
        found.append(list(dict(reading.go_on(True))))
    assert found == [[1], [3], []] and reading.may_begin


@pytest.mark.parametrize("more", [[], [4, 5]])
def test_who_begins_with_a_whole_prompt_waits_until_its_text_has_gone_on(more: list[int]) -> None:
    pipeline, reading = made()
    first = tokens(40)
    assert reading.begin(1, first, "whole") is not None
    assert reading.begin(2, first, "whole") is not None, "in the same step there is nothing to be found"
    pipeline.step(reading)
    reading.wrote(1, 1)
    reading.wrote(2, 1)
    assert reading.begin(3, tuple(first + more), "whole") is None
    reading.wrote(1, 1)
    assert not dict(reading.go_on(True)), "the other has not"
    reading.wrote(2, 1)
    assert list(dict(reading.go_on(True))) == [3]


def test_a_prompt_whose_text_ends_with_its_first_token_is_read_once_more() -> None:
    pipeline, reading = made()
    for number, gained in ((1, 1), (2, 0), (3, 2)):
        assert reading.begin(number, tokens(40, number), "whole") is not None
        pipeline.step(reading)
        reading.wrote(number, gained)
        reading.ended(number)
        assert not dict(reading.go_on(True))
    assert [handle.tokens for handle in pipeline.handles].count(tuple(tokens(40, 1))) == 2
    assert len(pipeline.handles) == 4
    assert reading.begin(4, tokens(40, 1), "whole") is None
    for _ in range(2):
        pipeline.step(reading)
    assert list(dict(reading.go_on(True))) == [4] and not reading._again


def test_a_piece_waits_for_who_parts_from_it_inside_of_a_block() -> None:
    pipeline, reading = made()
    prompt = tokens(1000)
    reading.begin(0, prompt[:35], "whole")
    pipeline.step(reading)
    assert reading.begin(1, prompt, "whole") is None
    assert reading.begin(2, prompt[:40], "whole") is not None
    assert not dict(reading.go_on(True)) and reading._piece is None
    pipeline.step(reading)
    assert not dict(reading.go_on(True)) and reading._piece is not None


def test_a_pipeline_that_keeps_nothing_gets_prompts_in_whole() -> None:
    _, reading = made(0)
    for number in range(2):
        assert reading.begin(number, tokens(1000), "whole") is not None
        assert not reading.may_begin
        reading.stepped()
    assert reading._kept.of(tokens(1000)) == 0


def test_a_long_prompt_stops_neither_a_longer_nor_a_shorter_one() -> None:
    """By turns, so that a shorter one is soon done and the longer one goes on."""
    pipeline, reading = made()
    reading.begin(1, tokens(8000, 1), "whole")
    for _ in range(3):
        assert not dict(reading.go_on(True))
        pipeline.step(reading)
    for number in range(2, 40):
        reading.begin(number, tokens(300, number), "whole")
    assert read_whole(pipeline, reading, 2) <= 2 * 5
    assert read_whole(pipeline, reading, 1) <= 2 * 8000 // 64


def test_who_leaves_while_his_prompt_is_read_leaves_nothing() -> None:
    pipeline, reading = made()
    reading.begin(1, tokens(3000, 1), "whole")
    reading.begin(2, tokens(1000, 2), "whole")
    for _ in range(3):
        assert not dict(reading.go_on(True))
        pipeline.step(reading)
    reading.ended(1)
    read_whole(pipeline, reading, 2)
    assert len(pipeline.handles) < 25
    for _ in range(3):
        assert not dict(reading.go_on(True))
        pipeline.step(reading)
    assert not reading._long and reading._piece is None and not reading._ending


def test_what_was_used_long_ago_counts_as_gone() -> None:
    kept = Kept(2000)
    old, used = tokens(640, 1), tokens(640, 2)
    kept.read(old)
    kept.read(used)
    kept.wrote(300)
    assert kept.of(used) == 640
    kept.wrote(300)
    assert (kept.of(old), kept.of(used)) == (0, 640), "the other was used since"
    kept.wrote(1001)
    assert kept.of(used) == 0 and not kept._used


def test_only_equal_beginnings_count() -> None:
    kept = Kept(100_000)
    prompt = tokens(640)
    kept.read(prompt)
    assert kept.of([*prompt[:300], 7777, *prompt[301:]]) == 256
    assert kept.of([7777, *prompt[1:]]) == 0
    assert kept.of(prompt[:100]) == 64
    assert kept.of([*prompt[64:]]) == 0
