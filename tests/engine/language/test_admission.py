"""Whose turn it is in a language model's replica: live texts before background ones, whatever comes in which order."""

from __future__ import annotations

import random

import pytest

from modelport.engine.language.admission import Admission
from modelport.errors import Overloaded


class Replica:
    """Begins what it may, as a replica does."""

    def __init__(self, slots: int, room: int, ample: int = 0, short: int = 0) -> None:
        self.admission: Admission[str] = Admission(slots, room, ample, short)
        self.running: dict[str, int] = {}
        self.gave_way: list[str] = []
        self._numbers = 0

    def add(self, name: str, caller: str = "a", tokens: int = 1, background: bool = False) -> None:
        self.admission.add(name, caller, tokens, 0, background)
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
            admission.add(f"f{number}", "a", 49, 1)
    admission.add("begun", "a", 49, 1, begun=True)
    with pytest.raises(Overloaded):
        admission.add("fresh", "a", 49, 1)


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
            if rng.random() < 0.5:
                gained = [name for name in replica.running if rng.random() < 0.5]
                stepped(replica, *gained, seconds=rng.random())
            name = rng.choice(list(replica.running))
            if rng.random() < 0.3:
                admission.left(replica.running[name])
            replica.end(name)
            replica.begin()
        assert len(replica.running) == admission.running <= admission.slots
        used = sum(abs(sizes[name]) for name in replica.running)
        assert used <= 100
    while replica.running:
        replica.end(next(iter(replica.running)))
        replica.begin()
    assert (admission.waiting, admission.running) == (0, 0)


def stepped(replica: Replica, *gained: str, seconds: float = 0.01) -> None:
    replica.admission.stepped(seconds, [replica.running[name] for name in gained])
    replica.begin()


def all_gain(replica: Replica, seconds: float = 0.01) -> None:
    stepped(replica, *replica.running, seconds=seconds)


def flooded() -> Replica:
    """A key's flood beside one text of another."""
    replica = Replica(32, 10_000)
    replica.add("quiet", "q")
    for number in range(40):
        replica.add(f"flood{number}", "f", 2)
        all_gain(replica)
    return replica


def test_beside_others_a_flood_has_a_quarter_of_the_slots_and_as_many_as_another() -> None:
    replica = flooded()
    assert len(replica.running) == 1 + 8
    for number in range(12):
        replica.add(f"other{number}", "o", 2)
        all_gain(replica)
    for _ in range(20):
        all_gain(replica)
    assert sum(name.startswith("other") for name in replica.running) == 12, "as many as the flood has wanted"
    assert sum(name.startswith("flood") for name in replica.running) == 12, "as many as the other"


@pytest.mark.parametrize(("tokens", "count"), [(10, 8), (20, 8), (30, 6), (200, 4)])
def test_beside_others_long_texts_of_a_flood_count_for_several(tokens: int, count: int) -> None:
    replica = Replica(32, 100_000, short=20)
    replica.add("quiet", "q", 2)
    for number in range(40):
        replica.add(f"flood{number}", "f", tokens)
        for _ in range(20):
            all_gain(replica)
    assert len(replica.running) == 1 + count


def test_a_flood_gets_its_slots_back_when_it_is_alone_again() -> None:
    replica = flooded()
    replica.end("quiet")
    for _ in range(59):
        all_gain(replica, seconds=1.0)
    assert len(replica.running) == 8, "the other may come back"
    for _ in range(20):
        all_gain(replica, seconds=1.0)
    assert len(replica.running) == 24


def test_who_is_written_waits_while_another_is_read() -> None:
    replica = Replica(32, 10_000)
    replica.add("mine", "a")
    replica.add("theirs", "b")
    all_gain(replica)
    replica.add("more of mine", "a")
    replica.add("more of theirs", "b")
    replica.add("somebody", "c")
    assert set(replica.running) == {"mine", "theirs", "more of mine", "somebody"}, "who has nothing is read at once"
    all_gain(replica)
    assert "more of theirs" in replica.running


def test_a_key_alone_has_as_many_as_are_nearly_as_fast_as_all() -> None:
    replica = Replica(32, 10_000, ample=16)
    for number in range(40):
        replica.add(f"{number}", "a")
    assert len(replica.running) == 16


def test_who_has_no_key_is_everybody() -> None:
    replica = Replica(32, 10_000)
    for number in range(40):
        replica.add(f"{number}", "")
    assert len(replica.running) == 32


def test_beside_others_one_prompt_of_a_caller_is_read_at_a_time() -> None:
    replica = Replica(8, 1000)
    replica.add("mine", "a")
    all_gain(replica)
    for number in range(3):
        replica.add(f"theirs{number}", "b", 5)
    assert set(replica.running) == {"mine", "theirs0"}
    stepped(replica, "mine")
    assert set(replica.running) == {"mine", "theirs0"}, "it has not been read yet"
    all_gain(replica)
    assert set(replica.running) == {"mine", "theirs0", "theirs1"}


def test_who_leaves_and_asks_again_takes_a_quarter_of_the_time_at_most() -> None:
    """Of a prompt that takes as long as five tokens of another caller's text."""
    replica = Replica(8, 10_000)
    replica.add("long", "good", 2000)
    all_gain(replica)
    read, written = 0.0, 0.0
    for number in range(100):
        replica.add(f"{number}", "bad", 30)
        while f"{number}" not in replica.running:
            all_gain(replica)
            written += 0.01
        stepped(replica, f"{number}", seconds=0.05)
        read += 0.05
        replica.admission.left(replica.running[f"{number}"])
        replica.end(f"{number}")
    assert 0.2 < read / (read + written) < 0.27


def test_who_owes_goes_behind_others_and_on_where_nobody_writes() -> None:
    replica = Replica(8, 1000)
    replica.add("a1", "a")
    replica.add("b1", "b", 100)
    stepped(replica, "a1")
    stepped(replica, "b1", seconds=5.0)
    replica.add("b2", "b")
    assert "b2" not in replica.running
    replica.end("a1")
    assert "b2" not in replica.running, "his own text is written"
    replica.admission.add("a2", "a", 1, 1)
    replica.end("b1")
    replica.begin()
    assert list(replica.running) == ["a2"], "b was first, and owes"
    replica.end("a2")
    replica.begin()
    assert list(replica.running) == ["b2"]


def test_a_callers_batch_neither_owes_for_his_live_texts_nor_they_for_it() -> None:
    replica = Replica(8, 10_000)
    replica.add("mine", "a")
    all_gain(replica)
    replica.add("batch0", "b", 1000, background=True)
    replica.add("live0", "b", 10)
    assert {"batch0", "live0"} <= set(replica.running), "the batch's prompt is read beside the live one"
    stepped(replica, "live0", seconds=5.0)
    replica.add("batch1", "b", 10, background=True)
    replica.add("live1", "b", 10)
    assert "live1" in replica.running and "batch1" not in replica.running
