"""Features by skrub, their importance, and what a feature recipe may not say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine

from modelport.errors import ModelportError
from tests.data.lab import Lab, csv_of

SALES = {
    "at": ["2020-01-06", "2020-02-04", "2021-03-03", "2021-12-24"],
    "who": ["ann", "bob", "ann", "cy"],
    "note": ["fast and good", "slow", "good", "fast"],
    "label": ["a", "b", "a", "b"],
}


def made(lab: Lab, steps: list[dict[str, Any]], **more: Any) -> dict[str, list[Any]]:
    lab.collect("sales", {"s.csv": csv_of(SALES)})
    lab.run("features", name="f", dataset="sales", recipe={"steps": steps, **more})
    found: dict[str, list[Any]] = lab.table("f").to_pydict()
    return found


def test_dates_become_numbers_in_their_place(lab: Lab) -> None:
    found = made(lab, [{"step": "dates", "columns": ["at"]}])
    assert found["at_year"] == [2020, 2020, 2021, 2021]
    assert found["at_month"] == [1, 2, 3, 12]
    assert found["at_weekday"] == [1, 2, 3, 5]
    assert list(found)[-3:] == ["who", "note", "label"]


@pytest.mark.parametrize("method", ["gap", "minhash", "string"])
def test_texts_become_numbers_and_again_the_same(lab: Lab, method: str) -> None:
    step = {"step": "texts", "columns": ["note"], "method": method, "components": 2}
    found = made(lab, [step])
    new = [name for name in found if name not in SALES]
    assert len(new) == 2
    assert np.isfinite([found[name] for name in new]).all()
    assert made(lab, [step]) == found
    assert lab.version("f:1").digest == lab.version("f:2").digest


def test_another_datasets_rows_are_aggregated(lab: Lab) -> None:
    lab.collect("visits", {"v.csv": csv_of({"who": ["ann", "ann", "bob"], "pages": [1, 4, 7]})})
    step = {"step": "aggregate", "dataset": "visits", "on": "who", "columns": ["pages"], "operations": ["mean", "max"]}
    found = made(lab, [step])
    assert found["pages_mean"] == [2.5, 7.0, 2.5, None]
    assert found["pages_max"] == [4.0, 7.0, 4.0, None]
    assert lab.version("f").manifest.parents == ["sales:1", "visits:1"]


def test_every_column_is_made_a_number(lab: Lab) -> None:
    found = made(lab, [{"step": "vectorize"}])
    assert found["label"] == SALES["label"]
    assert all(isinstance(value, int | float) for name in found if name != "label" for value in found[name])


def test_the_columns_that_tell_most_are_chosen(lab: Lab) -> None:
    wine = load_wine()
    random = np.random.default_rng(0)
    table: dict[str, list[Any]] = {f"w{i}": list(wine.data[:, i]) for i in range(13)}
    table |= {f"noise{i}": list(random.normal(size=178)) for i in range(10)}
    lab.collect("wine", {"w.csv": csv_of({**table, "label": list(wine.target)})})
    lab.run("features", name="top", dataset="wine", recipe={"select": {"top": 5}})
    kept = lab.table("top").column_names
    assert len(kept) == 6
    assert not [name for name in kept if name.startswith("noise")]
    importance = lab.version("top").manifest.report["importance"]
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)
    assert list(importance.values()) == sorted(importance.values(), reverse=True)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({}, "has neither steps nor select"),
        ({"steps": [{"step": "magic"}]}, "recipe.steps.0"),
        ({"steps": [{"step": "dates", "columns": ["q"]}]}, "has no column 'q'"),
        ({"steps": [{"step": "dates", "columns": ["who"]}]}, "column 'who' is string, no date or time"),
        ({"steps": [{"step": "texts", "columns": ["note"], "components": 0}]}, "components"),
        ({"steps": [{"step": "texts", "columns": ["note"], "method": "llm"}]}, "method"),
        ({"steps": [{"step": "aggregate", "dataset": "none", "on": "who", "columns": ["x"]}]}, "no dataset 'none'"),
        ({"steps": [{"step": "vectorize"}, {"step": "dates", "columns": ["q"]}]}, "there is no column 'q' there"),
        ({"select": {"top": 0}}, "top"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_bad_feature_recipes_are_refused(lab: Lab, recipe: dict[str, Any], message: str) -> None:
    lab.collect("sales", {"s.csv": csv_of(SALES)})
    with pytest.raises(ModelportError) as error:
        lab.run("features", name="f", dataset="sales", recipe=recipe)
    assert message in error.value.message
    assert 400 <= error.value.status < 500
    assert len(lab.services.datasets.list(lab.actor)) == 1
