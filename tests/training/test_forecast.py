"""The recipe forecast on real series: as scikit-learn alone on the same windows, better than doing nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge

from modelport.training.recipes.forecast import Forecast
from tests.training.tables import Case, by_time, case, co2, elnino, sunspots

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = Forecast()


def ask(served: Any, past: np.ndarray, name: str) -> np.ndarray:
    return served.ask(pa.table({name: pa.array(list(past), pa.list_(pa.float64()))}))["forecast"]


def windows(values: np.ndarray, first: int, last: int, window: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows whose future begins at ``first`` or later and ends before ``last``."""
    starts = range(max(0, first - window), last - window - horizon + 1)
    past = np.stack([values[at : at + window] for at in starts])
    return past, np.stack([values[at + window : at + window + horizon] for at in starts])


@pytest.mark.parametrize("horizon", [1, 5])
def test_as_good_as_the_library_alone(tmp_path: Path, horizon: int) -> None:
    given = by_time(tmp_path, sunspots(), "SUNACTIVITY")
    trained, served = given.train(RECIPE, time="YEAR", season=11, horizon=horizon, model="ridge")
    values, cut = np.array(given.table["SUNACTIVITY"]), int(given.validation[0])
    past, future = windows(values, 0, cut, 22, horizon)
    held, truth = windows(values, cut, len(values), 22, horizon)
    own = np.abs(Ridge().fit(past, future).predict(held).reshape(truth.shape) - truth).mean()
    ours = np.abs(ask(served, held, "SUNACTIVITY") - truth).mean()
    assert ours <= own * 1.05
    assert trained.metrics["validation_mae"] == pytest.approx(ours, rel=1e-4)
    assert ours < trained.metrics["validation_seasonal_naive_mae"] and not trained.warnings
    assert trained.judged_itself and trained.report["validation_windows"] == len(held)


@pytest.mark.parametrize("model", ["ridge", "boosting", "forest", "mlp"])
def test_every_model_is_served_as_it_was_learnt(tmp_path: Path, model: str) -> None:
    given = by_time(tmp_path, elnino(), "temperature")
    small = {"boosting": {"max_iter": 20}, "forest": {"n_estimators": 10}, "mlp": {"max_iter": 60}}.get(model, {})
    trained, served = given.train(RECIPE, season=12, horizon=3, model=model, params=small)
    assert trained.report["parity"]["max_difference"] < 1e-3
    assert trained.metrics["validation_mae"] < trained.metrics["validation_naive_mae"]
    assert ask(served, np.full((2, 24), 23.5), "temperature").shape == (2, 3)


def test_what_is_no_better_than_nothing_says_so(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).normal(size=400).cumsum()  # of a random walk nothing can be known
    given = by_time(tmp_path, pa.table({"at": np.arange(400), "walk": steps}), "walk")
    trained, _ = given.train(RECIPE, time="at", window=40, model="boosting")
    assert any("repeating the last value is as good or better" in text for text in trained.warnings)


def test_windows_do_not_reach_over_gaps(tmp_path: Path) -> None:
    table = co2().slice(1000)
    whole = by_time(tmp_path / "whole", table, "co2")
    trained, _ = whole.train(RECIPE, season=52, model="ridge")
    known = table.filter(pa.compute.is_valid(table["co2"]))
    assert len(known) < len(table)
    dropped, _ = by_time(tmp_path / "dropped", known, "co2").train(RECIPE, season=52, model="ridge")
    assert trained.report["windows"] + trained.report["validation_windows"] == (
        dropped.report["windows"] + dropped.report["validation_windows"]
    )
    assert any("windows were left out" in text for text in trained.warnings)


def test_rows_that_came_by_chance_are_judged_by_the_time_after(tmp_path: Path) -> None:
    drawn = case(tmp_path / "drawn", elnino(), "temperature")
    trained, _ = drawn.train(RECIPE, season=12, model="ridge")
    ordered, _ = by_time(tmp_path / "ordered", elnino(), "temperature").train(RECIPE, season=12, model="ridge")
    assert any("do not follow the training rows in time" in text for text in trained.warnings)
    assert trained.metrics["validation_mae"] == pytest.approx(ordered.metrics["validation_mae"], rel=1e-6)


def test_several_series_and_covariates(tmp_path: Path) -> None:
    table = elnino()
    two = pa.concat_tables(
        [
            table.append_column("place", pa.array([place] * len(table))).append_column(
                "colder", pa.array(np.array(table["temperature"]) - shift)
            )
            for place, shift in (("east", 1.0), ("west", 2.0))
        ]
    )
    order = np.random.default_rng(0).permutation(len(two))
    cut = np.datetime64("1995-01-01")
    shuffled = two.take(order)
    held = np.flatnonzero(np.array(shuffled["month"]) >= cut)
    given = Case(tmp_path, shuffled, "temperature", held)
    trained, served = given.train(RECIPE, group="place", covariates=["colder"], season=12, horizon=2, model="ridge")
    assert trained.report["series"] == 2
    assert [spec.name for spec in served.found.signature.inputs] == ["temperature", "colder"]
    assert trained.metrics["validation_mae"] < trained.metrics["validation_seasonal_naive_mae"]
