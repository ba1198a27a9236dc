"""What prompts cost others: half of the time at most, more for who leaves, nothing for who is alone."""

from __future__ import annotations

from modelport.engine.language.debts import Debts

STEP_S = 0.01


def written(debts: Debts, *callers: str, steps: int = 1) -> None:
    for _ in range(steps):
        debts.stepped(STEP_S, callers, {}, wrote=True)


def test_who_is_alone_owes_nothing() -> None:
    debts = Debts()
    for _ in range(10):
        debts.stepped(1.0, ["a"], {"a": 100}, wrote=False)
        debts.left("a", 1.0)
    assert not debts.bars("a")


def test_a_prompt_is_owed_as_long_as_it_took() -> None:
    debts = Debts()
    written(debts, "a", "b")
    debts.stepped(0.5, ["a", "b"], {"a": 100}, wrote=False)
    written(debts, "a", "b", steps=39)
    assert debts.bars("a") and not debts.bars("b")
    written(debts, "a", "b", steps=2)
    assert not debts.bars("a"), "but for the small rest that bars nobody"


def test_what_is_left_is_owed_three_times() -> None:
    debts = Debts()
    written(debts, "a", "b")
    each = debts.stepped(0.5, ["a", "b"], {"a": 100}, wrote=False)
    debts.left("a", each * 100)
    written(debts, "a", "b", steps=139)
    assert debts.bars("a")
    written(debts, "a", "b", steps=2)
    assert not debts.bars("a")


def test_of_a_shared_step_each_owes_his_part() -> None:
    debts = Debts()
    written(debts, "a", "b")
    assert debts.stepped(0.8, ["a", "b"], {"a": 30, "b": 10}, wrote=False) == 0.02
    assert debts.bars("a") and not debts.bars("b"), "0.6 - 0.2 against 0.2 - 0.6"


def test_an_engine_that_writes_while_it_reads_costs_what_the_step_took_longer() -> None:
    debts = Debts()
    written(debts, "a", "b", steps=50)
    for _ in range(20):
        debts.stepped(STEP_S, ["a", "b"], {"a": 100}, wrote=True)
    assert not debts.bars("a")
    each = debts.stepped(STEP_S + 0.5, ["a", "b"], {"a": 100}, wrote=True)
    assert abs(each - 0.005) < 1e-6
    assert debts.bars("a")


def test_who_was_there_a_moment_ago_still_counts() -> None:
    debts = Debts()
    written(debts, "a", "b")
    assert debts.beside("a") == {"b"}
    written(debts, "a", steps=50)
    assert debts.beside("a") == {"b"}
    debts.stepped(STEP_S, ["a"], {}, wrote=True, idle=0.4)
    assert debts.beside("a") == {"b"}
    debts.stepped(STEP_S, ["a"], {}, wrote=True, idle=0.2)
    assert (debts.beside("a"), debts.lately("a")) == (set(), {"b"})
    debts.stepped(STEP_S, ["a"], {}, wrote=True, idle=58)
    assert debts.lately("a") == {"b"}
    debts.stepped(STEP_S, ["a"], {}, wrote=True, idle=1)
    assert (debts.lately("a"), debts.lately("b")) == (set(), {"a"})
