"""The words of a feature recipe: steps that make columns, and the choice among them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelport.errors import InvalidInput, NotFound
from modelport.schemas.datasets import ColumnName, DatasetRef
from modelport.schemas.predictions import MODEL_REF

Columns = Annotated[list[ColumnName], Field(min_length=1, max_length=1000)]


class Step(BaseModel):
    """What all steps share."""

    model_config = ConfigDict(extra="forbid")


class Dates(Step):
    """Year, month, day, weekday and seconds since 1970 of dates and times, in place of the column."""

    step: Literal["dates"]
    columns: Columns


class Texts(Step):
    """Numbers for texts or categories: ``gap`` (topics of letters), ``minhash``, or ``string`` (TF-IDF, then SVD)."""

    step: Literal["texts"]
    columns: Columns
    method: Literal["gap", "minhash", "string"] = "string"
    components: Annotated[int, Field(ge=1, le=300)] = 10


class Vectorize(Step):
    """Every column but the label, each by its kind, as skrub's TableVectorizer does."""

    step: Literal["vectorize"]


class Aggregate(Step):
    """Aggregates of another dataset's rows with the same key, beside each row."""

    step: Literal["aggregate"]
    dataset: DatasetRef
    on: ColumnName
    columns: Columns
    operations: Annotated[list[Literal["mean", "sum", "min", "max", "count", "std"]], Field(min_length=1)] = ["mean"]


class Embed(Step):
    """A vector for each row, beside its columns: what a version of a model in the registry gives for it."""

    step: Literal["embed"]
    columns: Columns
    """Of a model with one input, what that is made of (``p*``: all that begin so); else columns named as its inputs."""
    model: Annotated[str, Field(pattern=MODEL_REF, examples=["minilm@champion"])]
    into: ColumnName
    """The new column, a list of as many float32 for every row."""
    output: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Which of the model's outputs, where several might be meant."""
    pooling: Literal["mean", "cls", "max", "lasttoken"] | None = None
    """How the vectors of a row's tokens become one: ``mean`` unless said; padding does not count."""
    normalize: bool = False
    """Whether every vector is scaled to the length 1."""
    components: Annotated[int, Field(ge=1, le=4096)] | None = None
    """So many principal components of the vectors in their place."""
    spread: bool = False
    """A column for each number (``into_0``, ``into_1`` …) in place of one column of lists."""
    missing: Literal["fail", "zero", "drop"] = "fail"
    """What a row without a value does: end the job, get a vector of zeros, or go."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Rows of one run, where the model can batch."""
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    """Replicas of the job's own."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Of each replica."""


AnyStep = Annotated[Dates | Texts | Vectorize | Aggregate | Embed, Field(discriminator="step")]


class Selection(BaseModel):
    """Keep the columns that say most about the label."""

    model_config = ConfigDict(extra="forbid")
    top: Annotated[int, Field(ge=1, le=10_000)]
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


class FeatureRecipe(BaseModel):
    """The whole recipe."""

    model_config = ConfigDict(extra="forbid")
    steps: Annotated[list[AnyStep], Field(max_length=50)] = []
    select: Selection | None = None


def parse_features(recipe: dict[str, Any]) -> FeatureRecipe:
    """A recipe, checked; raises InvalidInput naming the step and the field."""
    try:
        found = FeatureRecipe.model_validate(recipe)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("recipe", *first["loc"]))
        raise InvalidInput(f"{where}: {first['msg'][:300]}; docs/data.md lists the steps") from None
    if not found.steps and found.select is None:
        raise InvalidInput("recipe: has neither steps nor select; say what is to be made")
    return found


def check_steps(recipe: FeatureRecipe, columns: dict[str, str], label: str | None, dataset: str) -> None:
    """Raise unless the first step's columns are there; what later ones need may be made before them."""
    for index, step in enumerate(recipe.steps):
        if isinstance(step, Embed):
            continue  # its columns depend on its model
        named = [step.on] if isinstance(step, Aggregate) else getattr(step, "columns", [])
        for name in named:
            if index == 0 and name not in columns:
                raise NotFound(f"recipe.steps.0: dataset {dataset} has no column {name[:100]!r}")
        if isinstance(step, Dates) and index == 0:
            for name in step.columns:
                if not columns[name].startswith(("date", "timestamp")):
                    raise InvalidInput(f"recipe.steps.0: column {name[:100]!r} is {columns[name]}, no date or time")
    if recipe.select is not None and label is None:
        raise InvalidInput("label: select needs to know the column that the others are to tell; give --label")
