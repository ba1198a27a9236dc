"""For whom a step waits: who has just been answered, for a tenth of the time, and not again for who does not come."""

from __future__ import annotations

import pytest

from modelport.engine.language.returns import Returns

STEP_S = 0.02


def rested() -> Returns:
    """Steps have been taken for long."""
    returns = Returns()
    for _ in range(20):
        returns.stepped(STEP_S)
    return returns


def test_the_next_step_waits_for_who_was_answered_until_he_asks() -> None:
    returns = rested()
    assert returns.left_s(1.0) == 0
    returns.answered("a", 1.0)
    assert returns.left_s(1.002) == pytest.approx(0.006)
    returns.asks("b", 1.003)
    assert returns.left_s(1.003) > 0, "another one"
    returns.asks("a", 1.004)
    assert returns.left_s(1.004) == 0


def test_it_waits_for_all_of_several() -> None:
    returns = rested()
    returns.answered("a", 1.0)
    returns.answered("b", 1.001)
    returns.asks("a", 1.002)
    assert returns.left_s(1.002) == pytest.approx(0.006), "since the first of them was answered"
    returns.asks("b", 1.003)
    assert returns.left_s(1.003) == 0


def test_for_who_did_not_come_it_does_not_wait_the_next_eight_times() -> None:
    returns, waited = rested(), []
    for answer in range(10):
        for _ in range(20):
            returns.stepped(STEP_S)
        returns.answered("a", answer)
        waited.append(returns.left_s(answer) > 0)
        assert returns.left_s(answer + 0.008) == 0
    assert waited == [True, *[False] * 8, True]


def test_it_waits_a_tenth_of_the_time() -> None:
    """Whoever comes does so after 7 ms, behind every step."""
    returns, waited, now = rested(), 0.0, 0.0
    for _ in range(1000):
        returns.stepped(STEP_S)
        now += STEP_S
        returns.answered("a", now)
        if returns.left_s(now):
            waited += 0.007
            now += 0.007
        returns.asks("a", now)
    assert waited == pytest.approx(0.1 * 1000 * STEP_S, rel=0.05)


def test_what_is_known_of_callers_is_bounded() -> None:
    returns = rested()
    for caller in range(3000):
        for _ in range(20):
            returns.stepped(STEP_S)
        returns.answered(str(caller), caller)
        assert returns.left_s(caller + 1) == 0
    assert len(returns._not_for) == 1000
    assert "2999" in returns._not_for
