"""Recipe ``ensemble``: several tabular models that vote, or whose answers another model weighs, as one version."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelport.errors import InvalidInput
from modelport.schemas.training import Task
from modelport.training import recipe
from modelport.training.recipe import Trained, TrainingData, TrainingRun
from modelport.training.recipes import tabular

MemberName = Literal[
    "logistic", "linear", "ridge", "sgd", "tree", "forest", "extra-trees", "boosting", "svm", "knn", "mlp",
    "naive-bayes",
]  # fmt: skip


class Member(BaseModel):
    """One of the models."""

    model_config = ConfigDict(extra="forbid")

    model: MemberName
    params: dict[str, Any] = Field(default_factory=dict)
    """scikit-learn's own parameters."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How much its vote counts."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"model": given} if isinstance(given, str) else given


class EnsembleOptions(tabular.Columns):
    """Options of the recipe ``ensemble``."""

    task: Literal["auto", "classification", "regression"] = "auto"
    """``auto``: texts, true and false, and whole numbers with at most 20 values are classes."""
    kind: Literal["voting", "stacking"] = "voting"
    """``voting`` averages the answers; ``stacking`` learns from the members' answers on folds what they are worth."""
    models: Annotated[list[Member], Field(min_length=2, max_length=20)] | None = None
    """The members, by name or with ``params`` and ``weight``. [a linear model, a forest, gradient boosting]"""
    voting: Literal["soft", "hard"] = "soft"
    """``soft`` averages probabilities, ``hard`` counts each member's best class."""
    final: MemberName | None = None
    """The model that weighs the others' answers. [logistic, or ridge]"""
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    """Folds by which stacking gets answers for rows that a member has not seen."""
    class_weight: tabular.ClassWeight = None
    """How much a row of each class counts."""
    importance: bool = True
    """Measure by how much the score falls when a column is shuffled."""

    def members(self, task: str) -> list[Member]:
        """All with their parameters."""
        first: MemberName = "logistic" if task == "classification" else "ridge"
        return self.models or [Member(model=name) for name in (first, "forest", "boosting")]


class Ensemble:
    """Several models as one."""

    summary = "Voting and stacking of several tabular models as one version"
    extra = "train"
    needs: tuple[str, ...] = tabular.Tabular.needs
    code = False
    Options: type[recipe.Options] = EnsembleOptions

    def task(self, data: TrainingData, options: Any) -> Task:
        """Classification or regression, by the option or the target."""
        return tabular.Tabular().task(data, options)

    def check(self, data: TrainingData, options: Any) -> list[str]:
        """What columns and statistics tell."""
        task = self.task(data, options)
        warnings = tabular.check_columns(data, options) + tabular.check_target(data, task)
        tabular.check_classes(data, task, options.class_weight)
        names = [member.model for member in options.members(task)]
        for name in [*names, *([options.final] if options.final else [])]:
            tabular.check_model(name, task, str(data.target))
        if options.kind == "voting" and options.final is not None:
            raise InvalidInput("options.final is for kind=stacking; a vote needs none")
        if options.kind == "stacking" and options.voting == "hard":
            raise InvalidInput("options.voting is for kind=voting; stacking learns from probabilities")
        if task == "regression" and (options.voting == "hard" or options.class_weight is not None):
            raise InvalidInput(f"options: voting=hard and class_weight are for classes; {data.target!r} is a number")
        return warnings

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        """Learn from the rows."""
        tabular.refuse_start(run, "ensemble")
        ensemble = import_module("modelport.training.tabular.ensemble")
        with import_module("threadpoolctl").threadpool_limits(run.threads):
            found: Trained = ensemble.train(run, data, options, self.task(data, options))
        return found
