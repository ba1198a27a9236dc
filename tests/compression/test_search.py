"""The search proposes everything once, what is better more often, and the same when it is told the same."""

from __future__ import annotations

import pytest

from modelport.compression.chains import Family
from modelport.schemas.compression import label_of

pytest.importorskip("optuna")
from modelport.compression.search import Search

LEVELS = tuple({"ratio": level / 10} for level in range(1, 10))
FAMILIES = [
    Family(("prune",), (LEVELS,)),
    Family(("quantize",), (({"mode": "dynamic"}, {"mode": "static"}),)),
    Family(("prune", "quantize"), (LEVELS, ({"mode": "dynamic"}, {"mode": "static"}))),
]


def run(families: list[Family], trials: int, worth: dict[str, float] | None = None, seed: int = 0) -> list[str]:
    search, proposed = Search(families, seed), []
    while len(proposed) < trials and (steps := search.ask()) is not None:
        name = label_of(steps)
        proposed.append(name)
        ratio = float(steps[0].options.get("ratio", 1))
        search.tell((worth or {}).get(name, abs(ratio - 0.7)))
    return proposed


def test_nothing_is_proposed_twice_and_every_family_comes_first() -> None:
    proposed = run(FAMILIES, 15)
    assert len(set(proposed)) == len(proposed) == 15
    assert [name.split()[0] for name in proposed[:2]] == ["prune", "quantize"]
    assert ">" in proposed[2]


def test_it_ends_when_there_is_nothing_more() -> None:
    assert len(run(FAMILIES[1:2], 50)) == 2


def test_told_the_same_it_proposes_the_same() -> None:
    assert run(FAMILIES, 12, seed=3) == run(FAMILIES, 12, seed=3)
    assert run(FAMILIES, 12, seed=3) != run(FAMILIES, 12, seed=4)


def test_it_comes_nearer_to_what_is_better() -> None:
    wide = [Family(("prune",), (tuple({"ratio": level / 100} for level in range(100)),))]
    proposed = [float(name.split("=")[1]) for name in run(wide, 30)]
    late = sorted(abs(value - 0.7) for value in proposed[-12:])
    assert late[6] < 0.15  # by chance the middle one would be 0.25 away
