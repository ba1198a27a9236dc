"""Whose turn it is in a language model's replica: live texts before background ones, whatever comes in which order."""

from __future__ import annotations

import random

import pytest

from modelport.engine.language.admission import Admission
from modelport.errors import Overloaded


class Replica:
    """Begins what it may, as a replica does."""

    def __init__(self, slots: int, room: int) -> None:
        self.admission: Admission[str] = Admission(slots, room)
        self.running: dict[str, int] = {}
        self.gave_way: list[str] = []
        self._numbers = 0

    def add(self, name: str, caller: str = "a", tokens: int = 1, background: bool = False) -> None:
        self.admission.add(name, caller, tokens, background)
        self.begin()

    def begin(self) -> None:
        self._begin()
        while (name := self.admission.in_the_way()) is not None:
            self.end(name)
            self.gave_way.append(name)
            self._begin()

    def _begin(self) -> None:
        while (name := self.admission.next(self._numbers + 1)) is not None:
            self._numbers += 1
            self.running[name] = self._numbers

    def end(self, name: str) -> None:
        self.admission.done(self.running.pop(name))


def test_background_texts_leave_a_quarter_of_the_slots() -> None:
    replica = Replica(8, 1000)
    for number in range(10):
        replica.add(f"b{number}", "batch", background=True)
    assert len(replica.running) == 6
    replica.add("live")
    replica.add("other", "b")
    assert {"live", "other"} <= set(replica.running)
    assert not replica.gave_way, "there was room"


def test_background_texts_give_way_newest_first() -> None:
    replica = Replica(8, 1000)
    for number in range(6):
        replica.add(f"b{number}", "batch", background=True)
    for number in range(4):
        replica.add(f"live{number}", str(number))
    assert replica.gave_way == ["b5", "b4"]
    assert sum(name.startswith("live") for name in replica.running) == 4


def test_beside_live_texts_few_are_begun_and_none_while_one_waits() -> None:
    replica = Replica(8, 1000)
    replica.add("live")
    for number in range(6):
        replica.add(f"b{number}", "batch", background=True)
    assert len(replica.running) == 3, "a quarter of the slots beside it"
    for number in range(12):
        replica.add(f"flood{number}")
    assert sum(name.startswith("flood") for name in replica.running) == 5, "a caller does not take the last slots"
    replica.end("b0")
    assert "b2" not in replica.running, "live texts wait"
    while replica.running or replica.admission.waiting:
        replica.end(next(iter(replica.running)))
        replica.begin()


def test_room_is_made_only_where_it_suffices() -> None:
    replica = Replica(8, 100)
    replica.add("live", "x", 60)
    replica.add("b", "batch", 30, background=True)
    replica.add("large", "y", 50)
    assert replica.gave_way == []
    replica.add("b2", "batch", 5, background=True)
    replica.end("live")
    replica.begin()
    assert "large" in replica.running
    replica.add("more", "z", 40)
    assert "more" in replica.running and replica.gave_way


def test_a_callers_own_batch_is_not_held_against_him() -> None:
    replica = Replica(8, 1000)
    for number in range(10):
        replica.add(f"b{number}", "key", background=True)
    for number in range(6):
        replica.add(f"live{number}", "key")
    assert sum(name.startswith("live") for name in replica.running) == 6


def test_the_only_slot_is_given_up() -> None:
    replica = Replica(1, 100)
    replica.add("b", "batch", background=True)
    replica.add("live")
    assert replica.running.keys() == {"live"} and replica.gave_way == ["b"]


def test_a_queue_of_background_texts_turns_no_live_one_away() -> None:
    replica = Replica(2, 1000)
    with pytest.raises(Overloaded):
        for number in range(100):
            replica.add(f"b{number}", "batch", background=True)
    replica.add("live")
    assert "live" in replica.running


def test_floods_leave_a_place_to_wait_for_who_comes() -> None:
    """Whichever bound a flood reaches, that of places or that of tokens."""
    for tokens, room in ((1, 1000), (300, 1000)):
        replica, waiting = Replica(8, room), []
        for caller in ("a", "b"):
            with pytest.raises(Overloaded, match="of them yours"):
                for number in range(100):
                    replica.add(f"{caller}{number}", caller, tokens)
            waiting.append(replica.admission.waiting)
        assert waiting[0] > waiting[1] - waiting[0], "it has less than who came before"
        replica.add("mine", "c")
        for _ in range(2):
            replica.end(next(iter(replica.running)))
            replica.begin()
        assert "mine" in replica.running, "its turn came before any other of theirs"


def test_what_a_dead_replica_has_begun_is_taken_from_it_however_many_wait() -> None:
    admission: Admission[str] = Admission(2, 100)
    with pytest.raises(Overloaded):
        for number in range(100):
            admission.add(f"f{number}", "a", 50)
    admission.add("begun", "a", 50, begun=True)
    with pytest.raises(Overloaded):
        admission.add("fresh", "a", 50)


@pytest.mark.parametrize("seed", range(20))
def test_counts_hold_whatever_comes(seed: int) -> None:
    """No slot and no token is taken twice or lost, and no live text waits for a background one."""
    rng = random.Random(seed)
    replica = Replica(rng.choice((1, 2, 5, 8)), 100)
    admission, sizes = replica.admission, dict[str, int]()
    for number in range(400):
        if rng.random() < 0.6:
            name, background = f"{number}", rng.random() < 0.5
            sizes[name] = rng.randint(1, 60) * (-1 if background else 1)
            try:
                replica.add(name, rng.choice("abc"), abs(sizes[name]), background)
            except Overloaded:
                continue
        elif replica.running:
            replica.end(rng.choice(list(replica.running)))
            replica.begin()
        assert len(replica.running) == admission.running <= admission.slots
        used = sum(abs(sizes[name]) for name in replica.running)
        assert used <= 100
    while replica.running:
        replica.end(next(iter(replica.running)))
        replica.begin()
    assert (admission.waiting, admission.running) == (0, 0)
