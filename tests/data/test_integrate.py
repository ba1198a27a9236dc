"""Joins and concatenations against what pandas says, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelport.errors import InvalidInput, ModelportError, NotFound
from tests.data.lab import Lab, csv_of

ORDERS = {"id": [1, 2, 3, 4], "who": ["ann", "bob", None, "eve"], "v": [10, 20, 30, 40]}
PEOPLE = {"who": ["bob", "ann", "dan"], "v": [0.5, 1.5, 2.5], "city": ["x", "y", "z"]}


@pytest.fixture
def shop(lab: Lab) -> Lab:
    lab.collect("orders", {"o.csv": csv_of(ORDERS)})
    lab.collect("people", {"p.csv": csv_of(PEOPLE)})
    return lab


@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_join_keeps_the_order_of_the_left(shop: Lab, how: str) -> None:
    made = shop.run("join", name="j", left="orders", right="people", on=["who"], how=how)
    expected = {
        "inner": {"id": [1, 2], "who": ["ann", "bob"], "v": [10, 20], "v_right": [1.5, 0.5], "city": ["y", "x"]},
        "left": {
            "id": [1, 2, 3, 4], "who": ["ann", "bob", None, "eve"], "v": [10, 20, 30, 40],
            "v_right": [1.5, 0.5, None, None], "city": ["y", "x", None, None],
        },
    }[how]  # fmt: skip
    assert shop.table("j").to_pydict() == expected
    assert made["report"]["unmatched"] == 2
    assert shop.version("j").manifest.parents == ["orders:1", "people:1"]


def test_a_join_that_multiplies_rows_is_refused_unless_declared(shop: Lab) -> None:
    shop.collect("visits", {"v.csv": csv_of({"who": ["ann", "ann", "bob"], "at": [1, 2, 3]})})
    with pytest.raises(
        InvalidInput, match=r"1 of 4 rows of orders meet more than one row of visits \(such as who=ann\)"
    ):
        shop.run("join", name="j", left="orders", right="visits", on=["who"])
    assert [d.name for d in shop.services.datasets.list(shop.actor)] == ["orders", "people", "visits"]
    shop.run("join", name="j", left="orders", right="visits", on=["who"], expect="many")
    assert shop.table("j").select(["id", "at"]).to_pydict() == {"id": [1, 1, 2], "at": [1, 2, 3]}


def test_a_larger_join_is_what_pandas_says(lab: Lab) -> None:
    random = np.random.default_rng(0)
    left = {"k": random.integers(0, 3000, 5000).tolist(), "x": random.normal(size=5000).tolist()}
    right = {"k": random.permutation(4000)[:2000].tolist(), "y": [f"t{i}" for i in range(2000)]}
    lab.collect("l", {"l.csv": csv_of(left)})
    lab.collect("r", {"r.csv": csv_of(right)})
    lab.run("join", name="j", left="l", right="r", on=["k"], how="left")
    expected = pd.DataFrame(left).merge(pd.DataFrame(right), on="k", how="left")
    found = lab.table("j").to_pandas()
    assert found["k"].tolist() == expected["k"].tolist()
    assert found["y"].where(found["y"].notna(), "").tolist() == expected["y"].where(expected["y"].notna(), "").tolist()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"on": ["nobody"]}, "has no column 'nobody'"),
        ({"on": ["v"]}, "key 'v' is int64 in orders and double in people"),
        ({"on": []}, "on"),
        ({"right": "nothing"}, "no dataset 'nothing'"),
        ({"suffix": "/../"}, "suffix"),
        ({"how": "cross"}, "how"),
        ({"expect": "some"}, "expect"),
        ({"left": "orders:7"}, "no version '7'"),
    ],
)
def test_bad_joins_are_refused(shop: Lab, params: dict[str, Any], message: str) -> None:
    asked = {"name": "j", "left": "orders", "right": "people", "on": ["who"], **params}
    with pytest.raises(ModelportError) as error:
        shop.run("join", **asked)
    assert message in error.value.message
    assert error.value.status in (400, 404)


def test_a_join_without_a_match_makes_nothing(shop: Lab) -> None:
    shop.collect("others", {"o.csv": csv_of({"who": ["zoe"], "z": [1]})})
    with pytest.raises(InvalidInput, match="no key of orders is in others"):
        shop.run("join", name="j", left="orders", right="others", on=["who"])


def test_concat_checks_columns(shop: Lab) -> None:
    shop.run("concat", name="c", datasets=["orders", "orders:1"])
    assert shop.table("c")["id"].to_pylist() == [1, 2, 3, 4] * 2
    assert shop.version("c").manifest.parents == ["orders:1"]
    with pytest.raises(
        InvalidInput, match="'people' has other columns than 'orders': it lacks id; it has city besides"
    ):
        shop.run("concat", name="c", datasets=["orders", "people"])
    shop.run("concat", name="c", datasets=["orders", "people"], on_schema="union")
    assert shop.rows("c:2")[4] == {"id": None, "who": "bob", "v": 0.5, "city": "x"}
    with pytest.raises(NotFound):
        shop.run("concat", name="c", datasets=["orders", "nothing"])
