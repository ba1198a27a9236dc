"""Evaluation: how well predictions agree with the truth, and the parameters of the job that finds out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.datasets import ColumnName, DatasetRef
from modelport.schemas.models import FileEntry
from modelport.schemas.training import ModelRef, Task

#: Who looked at rows to judge by them.
Purpose = Literal["evaluate", "train", "tune", "compress"]
#: ``module:function``.
OWN_METRIC = r"^[A-Za-z_][A-Za-z0-9_.]{0,199}:[A-Za-z_][A-Za-z0-9_]{0,99}$"


class Interval(BaseModel):
    """Where a figure would lie for other rows of the same kind, by bootstrap."""

    low: float
    high: float


class FoldFigure(BaseModel):
    """One figure over the folds of a cross-validation."""

    mean: float
    std: float
    """Between folds, divided by their number less one."""
    low: float
    high: float
    """Where the mean lies, by Student's t."""
    values: list[float]


class ClassFigures(BaseModel):
    """One class against all others."""

    label: str
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float
    roc_auc: float | None = None
    pr_auc: float | None = None


class Confusion(BaseModel):
    """``counts[truth][prediction]`` rows; of many classes those that are mixed up most."""

    labels: list[str]
    counts: list[list[int]]
    complete: bool = True
    """Whether all classes are here."""


class Curve(BaseModel):
    """At most 200 points of a curve: ``roc`` (false, true positive rate) or ``pr`` (recall, precision)."""

    kind: Literal["roc", "pr"]
    label: str
    area: float
    x: list[float]
    y: list[float]


class CalibrationBin(BaseModel):
    """Rows whose probability lies in one bin."""

    predicted: float
    """Their mean probability."""
    observed: float
    """The share of them that came true."""
    rows: int


class Slice(BaseModel):
    """The rows where a column has one value, or lies in one range."""

    column: str
    value: str
    rows: int
    figures: dict[str, float]
    small: bool = False
    """Whether there are too few rows to tell much."""


class Difference(BaseModel):
    """One figure of two versions on the same rows."""

    figure: str
    value: float
    other: float
    difference: float
    """``value - other``."""
    low: float
    high: float
    """Where the difference lies, at the evaluation's confidence, by paired bootstrap."""
    p_value: float
    """How often chance alone makes such a difference, two-sided, by the same bootstrap."""


class Comparison(BaseModel):
    """Two versions on the same rows."""

    other: str
    differences: list[Difference]
    only_this_right: int | None = None
    only_other_right: int | None = None
    mcnemar_p: float | None = None
    """How often chance alone makes versions of equal accuracy differ on so many rows (exact McNemar test)."""
    verdict: str


class Evaluation(BaseModel):
    """How well predictions agree with the truth."""

    task: Task
    rows: int
    main: str | None
    """The figure that tells most."""
    figures: dict[str, float]
    intervals: dict[str, Interval] = {}
    confidence: float = 0.95
    resamples: int = 0
    seed: int = 0
    stratified: bool = False
    labels: list[str] = []
    """Of a classification, in the order of the probabilities."""
    positive: str | None = None
    """The class that ``precision``, ``recall`` and ``f1`` are about, of two."""
    classes: list[ClassFigures] = []
    confusion: Confusion | None = None
    curves: list[Curve] = []
    calibration: list[CalibrationBin] = []
    error_quantiles: dict[str, float] = {}
    """Of prediction minus truth, by quantile."""
    by_step: list[float] = []
    """Mean absolute error of every step of a forecast."""
    slices: list[Slice] = []
    comparison: Comparison | None = None
    warnings: list[str] = []


class EvaluateParams(BaseModel):
    """Job ``evaluate``: a version's predictions of rows whose truth is known."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model": "digits@champion", "data": "digits:1/test", "slices": ["writer"]}]},
    )

    model: ModelRef
    data: DatasetRef
    target: ColumnName | None = None
    """The column that holds the truth. [the dataset's label]"""
    task: Task | None = None
    """What the model is for. [told by its outputs and by the column]"""
    against: ModelRef | None = None
    """Another version that is judged on the same rows, and compared with."""
    inputs: dict[str, Annotated[list[ColumnName], Field(min_length=1, max_length=100_000)]] = {}
    """Columns by input, where names do not tell."""
    output: Annotated[str, Field(max_length=200)] | None = None
    """The output that answers, where the model has several."""
    positive: Annotated[str, Field(max_length=300)] | None = None
    """Of two classes the one that is asked for. [the second]"""
    weight: ColumnName | None = None
    """A column that says how much each row counts."""
    group: ColumnName | None = None
    """Of a ranking: the column that says which rows are one list."""
    naive: Annotated[float, Field(gt=0)] | None = None
    """Of a forecast: the mean absolute error of the naive forecast on the rows that were learnt from, for ``mase``."""
    slices: Annotated[list[ColumnName], Field(max_length=20)] = []
    """Columns whose values are judged one by one; of numbers, four ranges with as many rows each."""
    metrics: Annotated[list[Annotated[str, Field(pattern=OWN_METRIC)]], Field(max_length=20)] = []
    """Figures of your own, ``module:function``, found among ``files``; the operator has to allow it."""
    files: Annotated[list[FileEntry], Field(max_length=1000)] = []
    """Python files of ``metrics``; their blobs must have been uploaded."""
    intervals: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Resamples of the bootstrap; 0 for none."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    stratified: bool = False
    """Whether every resample has as many rows of each class as the data."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    nulls: Literal["refuse", "nan"] = "refuse"
    """What a missing number is to an input of floating point: a row that is refused, or NaN."""
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    """Replicas of the job's own."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 64


class Opening(BaseModel):
    """One time that rows were used to judge a version, or to choose one."""

    id: int
    at: datetime
    by: str
    purpose: Purpose
    model: str | None = None
    job: str | None = None


class EvaluationRecord(BaseModel):
    """An evaluation that is kept."""

    id: int
    model: str
    version: int | None
    """None when the model was judged before it became a version."""
    data: str
    """``NAME:NUMBER``, with ``/part``."""
    purpose: Purpose
    job: str | None
    figures: dict[str, float]
    opened_before: int
    """How often the same rows had been judged by before."""
    created_at: datetime
    created_by: str


class EvaluationShown(EvaluationRecord):
    """An evaluation with its whole report."""

    report: Evaluation | None
    openings: list[Opening] = []
    """When the same rows were judged by before, newest first."""
    about: dict[str, Any] = {}
    """What was asked for."""
