"""The queue: nobody is lost or given twice, batches are of one kind and size, turns are fair, room is taken fairly."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.link import Pending
from modelport.engine.waiting import Waiting

NOW = 1000.0
LIMIT = 8


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield made
    asyncio.set_event_loop(None)
    made.close()


def pending(
    number: int, caller: str = "", priority: int = 5, key: object = "k", rows: int = 1, deadline: float = NOW + 1
) -> Pending:
    future = asyncio.get_event_loop_policy().get_event_loop().create_future()
    return Pending(number, {}, rows, key, deadline, future, str(number), False, number, caller, priority)


def ids(batch: list[Pending]) -> list[int]:
    return [each.id for each in batch]


def everything(waiting: Waiting) -> list[list[Pending]]:
    batches = []
    while waiting.count:
        batch, overdue = waiting.take(LIMIT, NOW)
        assert batch or overdue or not waiting.count
        batches.append(batch)
    return batches


arrivals = st.lists(
    st.tuples(
        st.sampled_from("abc"),  # caller
        st.sampled_from([1, 5, 9]),  # priority
        st.sampled_from([None, "x", "y"]),  # batch key
        st.integers(1, 10),  # rows
        st.sampled_from(["waits", "waits", "waits", "cancelled", "expired"]),
    ),
    max_size=60,
)


@given(arrivals, st.randoms())
def test_whatever_arrives_is_given_once_in_batches_of_one_kind(
    arrivals: list[tuple[str, int, object, int, str]], random: random.Random
) -> None:
    waiting, expected, given_out, late = Waiting(), set(), [], set()
    for number, (caller, priority, key, rows, fate) in enumerate(arrivals):
        each = pending(number, caller, priority, key, rows, NOW - 1 if fate == "expired" else NOW + 1)
        waiting.push(each)
        if fate == "cancelled":
            each.future.cancel()
        elif fate == "expired":
            late.add(number)
        else:
            expected.add(number)
        if random.random() < 0.2:
            batch, overdue = waiting.take(LIMIT, NOW)
            given_out += [batch]
            late -= set(ids(overdue))
        if random.random() < 0.1:
            waiting.drop_done()
        assert waiting.count == len(list(waiting))
    while waiting.count:
        batch, overdue = waiting.take(LIMIT, NOW)
        given_out += [batch]
        late -= set(ids(overdue))
    for batch in given_out:
        assert len({each.key for each in batch}) <= 1
        assert len(batch) == 1 or (batch == [] or batch[0].key is not None)
        assert len(batch) == 1 or sum(each.rows for each in batch) <= LIMIT
    found = [number for batch in given_out for number in ids(batch)]
    assert sorted(found) == sorted(expected)
    assert late == set()


@given(st.lists(st.integers(1, 3), min_size=1, max_size=40))
def test_one_callers_requests_of_one_kind_keep_their_order(rows: list[int]) -> None:
    waiting = Waiting()
    for number, count in enumerate(rows):
        waiting.push(pending(number, rows=count))
    assert [number for batch in everything(waiting) for number in ids(batch)] == list(range(len(rows)))


def test_higher_priority_comes_first_and_lower_rides_along() -> None:
    waiting = Waiting()
    for number in range(6):
        waiting.push(pending(number, priority=5))
    for number in range(6, 10):
        waiting.push(pending(number, priority=1))
    assert ids(waiting.take(LIMIT, NOW)[0]) == [6, 7, 8, 9, 0, 1, 2, 3]


def test_a_flood_leaves_others_their_turns() -> None:
    waiting = Waiting()
    for number in range(1000):
        waiting.push(pending(number, "flood"))
    for _ in range(20):
        waiting.take(LIMIT, NOW)
    waiting.push(pending(5000, "other"))
    assert 5000 in ids(waiting.take(LIMIT, NOW)[0])
    shares: Counter[str] = Counter()
    for number in range(6000, 6400):
        waiting.push(pending(number, "other"))
    for _ in range(50):
        shares.update(each.caller for each in waiting.take(LIMIT, NOW)[0])
    assert shares["other"] == pytest.approx(200, abs=8)


def test_a_flood_is_known_by_what_it_has_waiting() -> None:
    waiting = Waiting()
    for number in range(16):
        waiting.push(pending(number, "flood"))
    waiting.take(1, NOW)
    assert not waiting.behind_flood(1), "it is its own turn"
    waiting.push(pending(100, "other"))
    assert waiting.callers == 2
    assert waiting.behind_flood(1)
    assert not waiting.behind_flood(8), "what waits is a run or two"
    for number in range(101, 104):
        waiting.push(pending(number, "other"))
    assert not waiting.behind_flood(1), "the other one asks for as much"
    waiting.push(pending(200, "urgent", priority=1))
    assert waiting.behind_flood(1)
    everything(waiting)
    assert waiting.callers == 0


def test_turns_are_counted_in_rows() -> None:
    waiting = Waiting()
    for number in range(100):
        waiting.push(pending(number, "big", rows=4))
        waiting.push(pending(1000 + number, "small", rows=1))
    shares: Counter[str] = Counter()
    for _ in range(20):
        for each in waiting.take(LIMIT, NOW)[0]:
            shares[each.caller] += each.rows
    assert shares["small"] == pytest.approx(shares["big"], rel=0.25)


def test_many_shapes_win_no_more_turns() -> None:
    waiting = Waiting()
    for number in range(100):
        waiting.push(pending(number, "flood", key=("shape", number)))
    waiting.push(pending(1000, "other", key="mine"))
    taken = [number for _ in range(3) for number in ids(waiting.take(LIMIT, NOW)[0])]
    assert 1000 in taken


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([1, 5, 9])), min_size=1, max_size=60))
def test_room_is_made_by_whoever_takes_the_most_of_it(arrivals: list[tuple[str, int]]) -> None:
    waiting = Waiting()
    bound = 10
    for number, (caller, priority) in enumerate(arrivals):
        if waiting.count >= bound:
            before = list(waiting)
            victim = waiting.make_room(priority, caller)
            worst = max(each.priority for each in before)
            counts = Counter(each.caller for each in before if each.priority == worst)
            if victim is None:
                assert worst < priority or (worst == priority and counts[caller] + 1 >= max(counts.values()))
                continue
            assert victim.priority == worst
            assert counts[victim.caller] == max(counts.values())
            assert victim.id == max(
                each.id for each in before if (each.caller, each.priority) == (victim.caller, worst)
            )
        waiting.push(pending(number, caller, priority))
        assert waiting.count <= bound


def test_a_sent_and_lost_request_comes_before_newer_ones() -> None:
    waiting = Waiting()
    for number in range(10, 14):
        waiting.push(pending(number))
    waiting.push(pending(1, key=("alone", 1)))
    assert ids(waiting.take(LIMIT, NOW)[0]) == [1]
    assert ids(waiting.take(LIMIT, NOW)[0]) == [10, 11, 12, 13]
