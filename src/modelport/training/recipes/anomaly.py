"""Recipe ``anomaly``: rows that are unlike the others, learnt without labels; labels, where there are any, judge it."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import Field

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.schemas.training import Task
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes import tabular

Method = Literal["isolation-forest", "lof", "knn", "ecod", "copod", "hbos"]


class AnomalyOptions(tabular.Columns):
    """Options of the recipe ``anomaly``."""

    method: Method = "isolation-forest"
    """``isolation-forest`` and ``lof`` as scikit-learn's; ``knn`` (the distance to the k-th neighbour), ``ecod``,
    ``copod`` and ``hbos`` as PyOD's."""
    contamination: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """The share of the training rows that counts as anomalous. [that of the labels, or 0.1]"""
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 20
    """Of ``lof`` and ``knn``."""
    trees: Annotated[int, Field(ge=1, le=5000)] = 100
    """Of ``isolation-forest``."""
    anomaly: str | None = None
    """The target's value that says anomalous. [1, true, or the rarer one]"""
    only_normal: bool = False
    """Learn from rows alone that the target says are normal."""
    high_cardinality: Literal["target", "frequency", "hash", "ignore"] = "frequency"
    """What becomes of a column with more names: their frequency, 256 hashed columns; without a target to average,
    ``target`` is ``frequency``."""


class Anomaly:
    """Rows unlike the others."""

    summary = "Anomaly detection: isolation forest, neighbours, tails and histograms of columns"
    extra = "train"
    needs: tuple[str, ...] = tabular.Tabular.needs
    code = False
    Options: type[recipe.Options] = AnomalyOptions

    def task(self, data: TrainingData, options: Any) -> Task:
        """Always anomaly."""
        return "anomaly"

    def check(self, data: TrainingData, options: Any) -> list[str]:
        """What columns and statistics tell."""
        warnings = tabular.check_columns(data, options)
        if data.facts.rows and data.facts.rows < 20:
            raise InvalidInput(f"{data.facts.rows} rows are too few to tell what is usual; give 20 or more")
        if data.target is None:
            for name in ("anomaly", "only_normal"):
                if getattr(options, name):
                    raise InvalidInput(f"options.{name} needs a target that tells which rows are anomalous")
            return warnings
        tabular.check_target(data, "classification")
        found = tabular.column_of(data, data.target)
        if found is not None and found.distinct is not None and found.distinct_exact and found.distinct != 2:
            raise InvalidInput(
                f"target: column {data.target!r} has {found.distinct} values; it judges anomalies, and needs two"
            )
        counts = tabular.balance_of(data)
        if options.anomaly is not None and counts and options.anomaly not in counts:
            hint = nearest(options.anomaly, [*counts])
            raise InvalidInput(f"options.anomaly: {data.target!r} has no value {options.anomaly!r}{hint}")
        return warnings

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        """Learn from the rows."""
        tabular.refuse_start(run, "anomaly")
        anomaly = import_module("modelport.training.tabular.anomaly")
        with import_module("threadpoolctl").threadpool_limits(run.threads):
            found: Trained = anomaly.train(run, data, options)
        return found
