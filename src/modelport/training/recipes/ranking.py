"""Recipe ``ranking``: how probable a rare event is, such as a click, so that candidates can be put in order."""

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


class RankingOptions(tabular.Columns):
    """Options of the recipe ``ranking``."""

    model: Literal["auto", "logistic", "sgd", "forest", "extra-trees", "boosting", "mlp"] = "auto"
    """``auto`` tries logistic regression and gradient boosting, and keeps the best on the validation rows."""
    params: dict[str, Any] = Field(default_factory=dict)
    """scikit-learn's own parameters of the estimator."""
    positive: str | None = None
    """The class that is looked for. [1, true, or the rarer one]"""
    negatives: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Learn from so many drawn negative rows for each positive one; the probabilities are set right afterwards."""
    calibrate: Literal["sigmoid", "isotonic"] | None = None
    """Correct the probabilities by cross-validation on the training rows."""
    group: ColumnName | None = None
    """The column that tells which rows are candidates for the same place (a query, a visitor); it is not learnt from,
    and NDCG is measured within it."""
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    """NDCG and precision look at so many first places."""
    importance: bool = True
    """Measure by how much the score falls when a column is shuffled."""


class Ranking:
    """The probability of a rare event."""

    summary = "Ranking and click-through: probabilities of a rare event"
    extra = "train"
    needs: tuple[str, ...] = tabular.Tabular.needs
    code = False
    Options: type[recipe.Options] = RankingOptions

    def task(self, data: TrainingData, options: Any) -> Task:
        """Always ranking."""
        return "ranking"

    def divide(self, options: Any) -> dict[str, str]:
        """Candidates for the same place stay together."""
        return {"group": options.group} if options.group else {}

    def check(self, data: TrainingData, options: Any) -> list[str]:
        """What columns and statistics tell."""
        group = options.group
        if group is not None and group not in data.features:
            raise InvalidInput(f"options.group: there is no column {group!r}{nearest(group, [*data.features])}")
        warnings = tabular.check_columns(data, options)
        tabular.check_target(data, "classification")
        found = tabular.column_of(data, data.target)
        if found is not None and found.distinct is not None and found.distinct_exact and found.distinct != 2:
            raise InvalidInput(
                f"target: column {data.target!r} has {found.distinct} values; ranking learns whether or not: give a "
                "column with two"
            )
        counts = tabular.balance_of(data)
        if options.positive is not None and counts and options.positive not in counts:
            hint = nearest(options.positive, [*counts])
            raise InvalidInput(f"options.positive: {data.target!r} has no value {options.positive!r}{hint}")
        tabular.check_classes(data, "classification", None)
        if options.model == "auto" and options.params:
            raise InvalidInput("options.params: say which model they are for with options.model")
        if counts and min(counts.values()) < 20:
            warnings.append(f"the rarer class has {min(counts.values())} rows; figures for it are hardly reliable")
        return warnings

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        """Learn from the rows."""
        tabular.refuse_start(run, "ranking")
        ranking = import_module("modelport.training.tabular.ranking")
        with import_module("threadpoolctl").threadpool_limits(run.threads):
            found: Trained = ranking.train(run, data, options)
        return found
