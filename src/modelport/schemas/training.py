"""What a job that trains takes, and what a recipe tells of itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.datasets import PART_PATTERN, ColumnName, DatasetRef
from modelport.schemas.models import FileEntry
from modelport.schemas.names import AliasName, LabelKey, LabelValue, Name

#: What a model is for, which decides how its answers are judged.
Task = Literal["classification", "regression", "ranking", "anomaly", "forecast", "embedding", "language", "other"]
#: ``NAME``, ``NAME:3`` or ``NAME@alias``.
MODEL_REF = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(:[1-9][0-9]{0,8}|@[A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"
ModelRef = Annotated[str, Field(pattern=MODEL_REF, max_length=210, examples=["digits:3"])]
PartName = Annotated[str, Field(pattern=PART_PATTERN)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class TrainParams(BaseModel):
    """Parameters of the job ``train``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"recipe": "tabular", "data": "wine:1", "target": "class", "options": {"model": "boosting"}}]
        },
    )

    recipe: Name
    """How it learns: the name of a plug-in."""
    data: DatasetRef
    name: Name | None = None
    """The model whose next version it becomes. [the dataset's name]"""
    target: ColumnName | None = None
    """The column that is to be predicted. [the dataset's label]"""
    features: Annotated[list[ColumnName], Field(max_length=10_000)] | None = None
    """The columns that it may look at. [all others]"""
    exclude: Annotated[list[ColumnName], Field(max_length=10_000)] = []
    """Columns that it must not look at."""
    options: dict[str, Any] = {}
    """The recipe's own."""
    train: PartName | None = None
    """The dataset's part to learn from. [``train``, or all rows]"""
    validation: PartName | Fraction | None = None
    """The part, or the share of the training rows, that choices are made by. [``validation`` where there is one, else
    0.2]"""
    test: PartName | None = None
    """The part that is opened once, when everything is settled. [``test`` where there is one]"""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Also train on so many folds of the training rows, to tell how much the figures depend on the split."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    start: ModelRef | None = None
    """The version that it goes on from."""
    replay: DatasetRef | None = None
    """Older rows that are mixed in, so that what was learnt is kept; its figures before and after are compared."""
    max_forgotten: Annotated[float, Field(ge=0, le=1)] | None = None
    """Fail rather than register when the main figure on ``replay`` falls by more than this."""
    alias: AliasName | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    description: Annotated[str, Field(max_length=10_000)] = ""
    licence: Annotated[str, Field(max_length=200)] = ""
    files: Annotated[list[FileEntry], Field(max_length=10_000)] = []
    """Code and weights that the recipe is given; their blobs must have been uploaded."""


class RecipeInfo(BaseModel):
    """A recipe, as it is listed."""

    name: str
    summary: str
    options: dict[str, Any]
    """JSON Schema of its options."""
    available: bool
    """Whether what it needs is installed."""
    extra: str | None = None
    """The extra that brings what it needs."""
