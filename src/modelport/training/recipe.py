"""What a recipe is, what it is given, and what it gives back.

A recipe is a plug-in of the group ``modelport.recipes``: a class without arguments. It is asked (``check``) in the
server before work begins, where heavy libraries must not be imported, and learns (``train``) in a process of its own
that may be killed at any instant and begun again with the same folder. Knows no job, no registry and no dataset's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from modelport import plugins
from modelport.errors import InvalidInput, MissingExtra
from modelport.schemas.datasets import Facts
from modelport.schemas.training import Task
from modelport.tensors import Array

GROUP = "recipes"


class Options(BaseModel):
    """A recipe's options; every field has a docstring with its unit and default."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows to learn from, as Parquet files in their order."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    """Rows that choices are made by, never learnt from."""
    features: Mapping[str, str]
    """The columns to look at, in the data's order, with their Arrow types (``int64``, ``string``, ``binary`` …)."""
    target: str | None
    target_type: str | None
    facts: Facts
    """What is known of the whole version's columns."""
    replay: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """The version that training goes on from."""

    folder: Path
    """Its files, to be read only."""
    details: Mapping[str, Any]
    labels: Mapping[str, list[str]]
    preprocessing: Sequence[Mapping[str, Any]]


class Score(Protocol):
    """Figures of predictions, the same that ``evaluate`` gives; quick enough for every epoch."""

    def __call__(self, task: Task, truth: Array, predicted: Array) -> dict[str, float]:
        """``truth`` [rows] (codes of classes, or numbers), ``predicted`` [rows, classes] probabilities or [rows]."""
        ...


@dataclass(slots=True)
class TrainingRun:
    """One attempt at training."""

    folder: Path
    """Kept from attempt to attempt: checkpoints and finished steps lie here. Gone at the end."""
    out: Path
    """Empty when training begins; what lies here at the end becomes the version's files."""
    code: Path | None
    """The files that the caller gave."""
    seed: int
    threads: int
    attempt: int
    """1 for the first one."""
    score: Score
    environment: Callable[[Sequence[str]], tuple[str, Mapping[str, str]]]
    """Interpreter and environment variables of a virtual environment with these requirements, built when needed."""
    progress: Callable[[float, float | None, str, str], None] = field(repr=False)
    """Done, total, message, unit."""
    metric: Callable[[str, float, int | None], None] = field(repr=False)
    """Name, value, step: told to whoever watches, kept."""
    start: Start | None = None


@dataclass(slots=True)
class Trained:
    """What became of it, beside the files in ``out``."""

    task: Task
    preprocessing: list[dict[str, Any]] = field(default_factory=list)
    """Steps of the version's manifest (``schemas.preprocessing``): raw rows in."""
    class_labels: list[str] | None = None
    """Names of the classes, where the files do not hold them."""
    sample: dict[str, Any] | None = None
    """Example inputs, ``{"inputs": [V2 tensors]}``."""
    inputs: dict[str, list[str]] = field(default_factory=dict)
    """Columns by input of the model as it is served, where its names do not tell."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures of the training itself, such as ``best_epoch`` and ``train_seconds``."""
    judged_itself: bool = False
    """Whether rows of the data are not what the served model is asked about (windows of a series, tokens of a text):
    then the recipe tells the figures of the validation rows among ``metrics``, as ``validation_NAME``."""
    warnings: list[str] = field(default_factory=list)
    """What a careful reader should know: leaking columns, rows that were left out."""
    report: dict[str, Any] = field(default_factory=dict)
    """JSON: curves by step, what was chosen and why, versions of libraries."""


@runtime_checkable
class Recipe(Protocol):
    """A way to learn."""

    summary: str
    """One line."""
    extra: str
    """The extra of Modelport that brings what it needs."""
    needs: tuple[str, ...]
    """Modules without which it cannot learn."""
    code: bool
    """Whether it runs code of the caller's, which the operator has to allow."""
    Options: type[Options]

    def task(self, data: TrainingData, options: Any) -> Task:
        """What its models are for."""
        ...

    def check(self, data: TrainingData, options: Any) -> list[str]:
        """Warnings; raises InvalidInput for what can be known to be wrong by columns and statistics alone.

        ``data`` has no files yet.
        """
        ...

    def train(self, run: TrainingRun, data: TrainingData, options: Any) -> Trained:
        """Learn; raises InvalidInput for what is wrong with the data."""
        ...


@runtime_checkable
class Divides(Protocol):
    """A recipe whose rows may not be parted just anyhow."""

    def divide(self, options: Any) -> dict[str, str]:
        """``{"time": COLUMN}``: later rows judge what earlier ones taught; ``{"group": COLUMN}``: rows that belong
        together stay together. Empty where chance will do."""
        ...


def recipe_of(name: str) -> Recipe:
    """A recipe by its name; raises InvalidInput with the nearest name, or all."""
    recipe: Recipe = plugins.asked_for(GROUP, name, "recipe", "recipe")
    return recipe


class Needing(Protocol):
    """A plug-in that needs libraries."""

    summary: str
    extra: str
    needs: tuple[str, ...]


def check_installed(plugin: Needing, doing: str = "training") -> None:
    """Raise MissingExtra when it cannot work here."""
    if not is_available(plugin):
        raise MissingExtra(plugin.extra, f"{doing} ({plugin.summary.lower().rstrip('.')})")


def is_available(plugin: Needing) -> bool:
    """Whether what it needs is installed; loads nothing."""
    return all(find_spec(module) is not None for module in plugin.needs)


class TakesOptions(Protocol):
    """A plug-in that takes options."""

    Options: type[Options]


def options_of(recipe: TakesOptions, given: Mapping[str, Any]) -> Options:
    """A plug-in's options, checked; raises InvalidInput naming the first that is wrong, with the nearest name."""
    try:
        return recipe.Options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:100] for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = plugins.nearest(str(first["loc"][-1]), tuple(recipe.Options.model_fields))
            raise InvalidInput(f"options: there is no option {where!r}{hint}") from None
        raise InvalidInput(f"options.{where}: {first['msg'][:500]}") from None
