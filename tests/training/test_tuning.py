"""Spaces and studies: what may be tried, what is tried next, and that a kill changes nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from modelport.errors import InvalidInput
from modelport.schemas.tuning import Choices, Range, Space, Trial
from modelport.training.recipe import Recipe
from modelport.training.recipes.tabular import Tabular
from modelport.training.tuning import pictures
from modelport.training.tuning.space import (
    check_grid,
    check_space,
    combination_count,
    combinations,
    known_start,
    merged,
    start_point,
)
from modelport.training.tuning.study import How, Study
from tests.training.stepping import Stepping


def space_of(**rows: Any) -> dict[str, Range | Choices]:
    return TypeAdapter(Space).validate_python({name.replace("__", "."): row for name, row in rows.items()})


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("1e-4..1e-1:log", Range(low=1e-4, high=0.1, log=True)),
        ("2..8", Range(low=2, high=8)),
        ("0.5..8", Range(low=0.5, high=8)),
        ("-1.5..2.5", Range(low=-1.5, high=2.5)),
        ("50..500:step=50", Range(low=50, high=500, step=50)),
        ("1..1024:log", Range(low=1, high=1024, log=True)),
        ("forest|boosting", Choices(choices=["forest", "boosting"])),
        ("64|128", Choices(choices=[64, 128])),
        ("true|false|null", Choices(choices=[True, False, None])),
        ("1|true|1.5", Choices(choices=[1, True, 1.5])),
        ("adam", Choices(choices=["adam"])),
        ([[64], [64, 32]], Choices(choices=[[64], [64, 32]])),
        ({"low": 1, "high": 2}, Range(low=1, high=2)),
    ],
)
def test_short_forms(short: Any, long: Range | Choices) -> None:
    found = space_of(x=short)["x"]
    assert found == long
    assert type(found) is type(long)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("8..2", "low (8) has to be less than high (2)"),
        ("2..2", "low (2) has to be less than high (2)"),
        ("0..1:log", "has to begin above 0, and low is 0"),
        ("-1..1:log", "has to begin above 0, and low is -1"),
        ("1..9:log:step=2", "give log or step, not both"),
        ("1..9:step=0", "step (0) has to be above 0"),
        ("1..9:step=20", "at most high - low"),
        ("1..9:lin", "a range takes :log and :step=STEP"),
        ("a..b", "'a' is no number"),
        ("1..2..3", "is no range"),
        ("1..inf", "have to be finite"),
        ({"choices": []}, "at least 1 item"),
        ("a|b|a", "'a' is among the choices twice"),
        ({"low": 1}, "Field required"),
        ({"low": True, "high": 2}, "valid integer"),
        ({"low": 1, "high": 2, "base": 2}, "Extra inputs"),
        (3, "valid dictionary"),
    ],
)
def test_rows_that_are_wrong(row: Any, says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        space_of(x=row)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "given", "space", "says"),
    [
        (Tabular(), {}, {"modle": "forest|tree"}, "space: there is no option 'modle'; did you mean 'model'"),
        (Tabular(), {}, {"model": "forest|woods"}, "space.model: 'woods' is not possible: options.model: Input should"),
        (Tabular(), {}, {"max_words": "0..10"}, "space.max_words: 0 is not possible"),
        (Tabular(), {}, {"max_words": "1.5..10"}, "space.max_words: 1.5 is not possible"),
        (Tabular(), {}, {"model.depth": "1..2"}, "option 'model' holds no mapping"),
        (
            Tabular(),
            {},
            {"params": {"choices": [{"a": 1}]}, "params.max_depth": "1..3"},
            "'params' is there as a whole and by its keys",
        ),
        (Stepping(), {}, {"rates": "0.1..1"}, "did you mean 'rate'"),
    ],
)
def test_rows_that_the_recipe_does_not_take(recipe: Recipe, given: Any, space: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_space(recipe, given, TypeAdapter(Space).validate_python(space))
    assert says in caught.value.message


def test_where_a_search_begins() -> None:
    space = space_of(rate="1e-3..1:log", epochs="3..30", kind="softmax|other", decay="0.5..1.0")
    assert known_start(Stepping(), {"epochs": 5}, space) == {"rate": 0.1, "epochs": 5, "kind": "softmax"}
    assert start_point(Stepping(), {"epochs": 99}, space) == {
        "rate": 0.1, "epochs": 3, "kind": "softmax", "decay": 0.5
    }  # fmt: skip
    assert known_start(Tabular(), {"params": {"max_depth": 3}}, space_of(params__max_depth="2..8")) == {
        "params.max_depth": 3
    }
    given = {"model": "forest", "params": {"max_depth": 3}}
    assert merged(given, {"params.n": 5, "model": "tree"}) == {"model": "tree", "params": {"max_depth": 3, "n": 5}}
    assert given == {"model": "forest", "params": {"max_depth": 3}}, "what was given stays as it was"


def test_grids() -> None:
    space = space_of(kind="a|b", epochs="1..5:step=2", rate="0.1..0.5:step=0.2")
    assert combination_count(space) == 18
    found = list(combinations(space))
    assert len(found) == 18 and found[0] == {"kind": "a", "epochs": 1, "rate": 0.1}
    assert {row["epochs"] for row in found} == {1, 3, 5}
    check_grid(space)
    with pytest.raises(InvalidInput, match="space.rate: the sampler 'grid' needs choices, or a range with a step"):
        check_grid(space_of(rate="0.1..0.5"))
    with pytest.raises(InvalidInput, match="would try 10201 combinations, more than 10000"):
        check_grid(space_of(a="0..100", b="0..100"))
    assert combination_count(space_of(rate="0.1..0.5")) is None


# -- studies ----------------------------------------------------------------------------------------------------------

SPACE = space_of(rate="1e-3..1:log", depth="2..8", kind="a|b", odd={"choices": [None, 1, True, "1", [1, 2]]})


def figure(options: dict[str, Any], epoch: int) -> float:
    best = -((math.log10(options["rate"]) + 1.5) ** 2) - (options["depth"] - 5) ** 2 / 4 + (options["kind"] == "a")
    return float(best - 1 / epoch)


def searched(file: Path, how: How, trials: int, cuts: Sequence[int] = ()) -> list[Trial]:
    """A whole search of nine epochs a trial; at each cut, counted in epochs, it is a new process's."""
    study, told = Study(file, SPACE, how), 0
    while len([one for one in study.trials() if one.state != "running"]) < trials:
        trial = next(iter(study.running()), None) or study.ask()
        if trial is None:
            break
        for epoch in range(1, 10):
            told += 1
            if told in cuts:
                with file.open("ab") as log:
                    log.write(b'{"op_code": 4, "wor')  # half a line, as a kill leaves it
                file.with_name(f"{file.name}.lock").touch()
                study = Study(file, SPACE, how)
                break
            if not study.goes_on(trial.number, epoch, figure(trial.options, epoch)):
                study.pruned(trial.number, 0)
                break
        else:
            study.complete(trial.number, figure(trial.options, 9), 0)
    return study.trials()


@pytest.mark.parametrize(("sampler", "pruner"), [("tpe", "asha"), ("tpe", "none"), ("random", "median")])
def test_a_search_that_was_killed_is_the_one_that_was_not(tmp_path: Path, sampler: Any, pruner: Any) -> None:
    how = How(sampler, pruner, "maximize", 3, 1, {"depth": 4})
    whole = searched(tmp_path / "whole", how, 14)
    cut = searched(tmp_path / "cut", how, 14, cuts=(1, 4, 11, 12, 13, 30))
    assert cut == whole
    assert len(whole) == 14 and whole[0].options["depth"] == 4
    assert ("pruned" in {one.state for one in whole}) == (pruner != "none")
    assert searched(tmp_path / "other", How(sampler, pruner, "maximize", 4, 1, {}), 2) != whole[:2]


def test_pruned_trials_are_the_bad_ones_and_end_early(tmp_path: Path) -> None:
    found = searched(tmp_path / "study", How("random", "asha", "maximize", 0, 3, {}), 16)
    pruned = [one for one in found if one.state == "pruned"]
    assert len(pruned) > 5 and all(one.steps in (3, 9) for one in pruned), "nobody is stopped while it warms up"
    complete = [one for one in found if one.state == "complete"]
    assert max(one.value or -9 for one in complete) > max(one.value or -9 for one in pruned)


def test_tpe_does_better_than_chance(tmp_path: Path) -> None:
    means = {}
    for sampler in ("tpe", "random"):
        best = []
        for seed in range(2):
            how = How(sampler, "none", "maximize", seed, 1, {})  # type: ignore[arg-type]
            study = Study(tmp_path / f"{sampler}{seed}", SPACE, how)
            for _ in range(24):
                trial = study.ask()
                assert trial is not None
                study.complete(trial.number, figure(trial.options, 9), 0)
            best.append(max(one.value or -9 for one in study.trials()))
        means[sampler] = sum(best) / len(best)
    assert means["tpe"] > means["random"]


def test_a_grid_is_tried_whole_and_once(tmp_path: Path) -> None:
    space = space_of(kind="a|b", depth="2..4")
    study = Study(tmp_path / "study", space, How("grid", "none", "minimize", 0, 1, {}))
    found = []
    while (trial := study.ask()) is not None:
        found.append(trial.options)
        study.complete(trial.number, float(trial.options["depth"]), 0)
        study = Study(tmp_path / "study", space, How("grid", "none", "minimize", 0, 1, {}))
    assert found == list(combinations(space))
    best = study.best()
    assert best is not None and best.number == 0


def test_what_ended_badly_is_never_best(tmp_path: Path) -> None:
    study = Study(tmp_path / "study", SPACE, How("random", "none", "minimize", 0, 1, {}))
    assert study.best() is None
    numbers = [study.ask().number for _ in range(3)]  # type: ignore[union-attr]
    study.failed(numbers[0], "it did not work " * 100, 1.0)
    study.complete(numbers[2], 5.0, 2.0)
    failed, running, best = study.trials()
    assert (failed.state, running.state, best.state) == ("failed", "running", "complete")
    assert failed.message is not None and len(failed.message) == 500
    assert study.best() == best and [one.number for one in study.running()] == [1]


# -- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_say_what_matters_and_hold_nothing_foreign() -> None:
    chance, found = random.Random(0), []
    for number in range(50):
        options = {
            "rate": 10 ** chance.uniform(-3, 0), "depth": chance.randint(2, 8), "kind": chance.choice("ab"),
            "odd": chance.choice([None, 1, True, "1", [1, 2]]),
        }  # fmt: skip
        found.append(Trial(number=number, state="complete", options=options, value=figure(options, 9)))
    found.append(Trial(number=50, state="pruned", options=options, value=1.0))
    shares = pictures.importance(found, SPACE, "maximize")
    assert set(shares) == set(SPACE) and sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert next(iter(shares)) == "depth" and shares["odd"] < 0.2, "which the figure does not look at"
    drawn = pictures.draw(found, SPACE, "<b>$x_1$</b>", "maximize")
    assert list(drawn) == ["History", "Options of every trial", "Importance of the options"]
    for svg in drawn.values():
        assert svg.startswith("<svg") and "<script" not in svg and "<b>" not in svg
        assert "<image" not in svg and "data:" not in svg
        assert "http" not in svg.replace("http://www.w3.org/", "")
    assert pictures.draw(found[:1], SPACE, "accuracy", "maximize").keys() == {"History"}
    assert pictures.draw([], SPACE, "accuracy", "maximize") == {}
