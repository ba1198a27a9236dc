"""Recipe ``forecast``: the next values of a series from a window of its last ones, judged on the time after."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.schemas.datasets import ColumnName
from modelport.schemas.training import Task
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes import tabular

_TIMES = ("date", "timestamp", "int", "uint", "float", "double")
_NUMBERS = ("int", "uint", "float", "double", "halffloat")


class ForecastOptions(recipe.Options):
    """Options of the recipe ``forecast``."""

    time: ColumnName | None = None
    """The column that puts rows in order: dates, times or numbers. [the only column of dates or times]"""
    group: ColumnName | None = None
    """The column that tells series apart, where there are several."""
    window: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Last values that are looked at. [two seasons, else twice the horizon, 12 at least]"""
    horizon: Annotated[int, Field(ge=1, le=1000)] = 1
    """Next values that are predicted."""
    season: Annotated[int, Field(ge=2, le=5000)] | None = None
    """Rows after which the series repeats, such as 12 for months."""
    covariates: Annotated[list[ColumnName], Field(max_length=100)] = Field(default_factory=list)
    """Further columns of numbers whose last values are looked at, too."""
    model: Literal["auto", "ridge", "boosting", "forest", "mlp"] = "auto"
    """``auto`` tries ridge and boosting, and keeps what is best on the time after."""
    params: dict[str, Any] = Field(default_factory=dict)
    """scikit-learn's own parameters of the estimator."""
    difference: bool = True
    """Learn how values differ from the window's last one."""


class Forecast:
    """The next values of a series."""

    summary = "Forecasts of time series from windows of their past"
    extra = "train"
    needs: tuple[str, ...] = tabular.Tabular.needs
    code = False
    Options: type[recipe.Options] = ForecastOptions

    def task(self, data: TrainingData, options: Any) -> Task:
        """Always forecast."""
        return "forecast"

    def divide(self, options: Any) -> dict[str, str]:
        """Later rows judge what earlier ones taught; where the column is not said, the recipe sees to it itself."""
        return {"time": options.time} if options.time else {}

    def check(self, data: TrainingData, options: Any) -> list[str]:
        """What columns and statistics tell."""
        time = time_column(data, options.time)
        if not data.features[time].startswith(_TIMES):
            raise InvalidInput(f"options.time: column {time!r} is {data.features[time]}; give dates, times or numbers")
        _check_target(data)
        others = {"group": [options.group] if options.group else [], "covariates": options.covariates}
        for option, names in others.items():
            for name in names:
                if name not in data.features:
                    hint = nearest(name, [*data.features])
                    raise InvalidInput(f"options.{option}: there is no column {name[:100]!r}{hint}")
                if option == "covariates" and not data.features[name].startswith(_NUMBERS):
                    raise InvalidInput(f"options.covariates: column {name!r} is {data.features[name]}, not numbers")
        if time in (options.group, *options.covariates):
            raise InvalidInput(f"options.time: {time!r} is given as group or covariate, too")
        if options.model == "auto" and options.params:
            raise InvalidInput("options.params: say which model they are for with options.model")
        needed = window_of(options) + options.horizon
        if data.facts.rows and data.facts.rows < needed + 10:
            raise InvalidInput(
                f"{data.facts.rows} rows are too few for a window of {window_of(options)} and a horizon of "
                f"{options.horizon}; {needed + 10} are needed"
            )
        found = tabular.column_of(data, time)
        return [f"column {time!r} lacks {found.nulls} values; those rows are left out"] if found and found.nulls else []

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        """Learn from the rows."""
        tabular.refuse_start(run, "forecast")
        learn = import_module("modelport.training.forecast.learn")
        with import_module("threadpoolctl").threadpool_limits(run.threads):
            found: Trained = learn.train(run, data, options)
        return found


def time_column(data: TrainingData, wanted: str | None) -> str:
    """The column that puts rows in order; raises InvalidInput when it is not clear."""
    if wanted is not None:
        if wanted not in data.features:
            raise InvalidInput(f"options.time: there is no column {wanted[:100]!r}{nearest(wanted, [*data.features])}")
        return wanted
    times = [name for name, kind in data.features.items() if kind.startswith(("date", "timestamp"))]
    if len(times) != 1:
        what = f"{len(times)} columns of dates or times" if times else "no column of dates or times"
        raise InvalidInput(f"options.time: there is {what}; say which column puts the rows in order")
    return times[0]


def window_of(options: Any) -> int:
    """How many last values are looked at."""
    wanted: int | None = options.window
    return wanted or (2 * options.season if options.season else max(12, 2 * options.horizon))


def _check_target(data: TrainingData) -> None:
    """Raise InvalidInput unless it is a column of numbers that differ; some may lack."""
    if data.target is None:
        raise InvalidInput("target: say which column is to be predicted")
    if not str(data.target_type).startswith(_NUMBERS):
        raise InvalidInput(f"target: column {data.target!r} is {data.target_type}, and a forecast predicts numbers")
    found = tabular.column_of(data, data.target)
    if found is not None and found.distinct is not None and found.distinct <= 1:
        raise InvalidInput(f"target: column {data.target!r} has one value in all rows; there is nothing to learn")
