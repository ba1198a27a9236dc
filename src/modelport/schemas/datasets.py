"""Dataset, its versions and their manifest, and the parameters of the jobs that make versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelport.schemas.models import FileEntry
from modelport.schemas.names import Name

ColumnName = Annotated[str, Field(min_length=1, max_length=300, examples=["label"])]
#: ``NAME``, ``NAME:3``, ``NAME:latest``, each also with ``/part`` behind it.
DATASET_REF = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(:([1-9][0-9]{0,8}|latest))?(/[A-Za-z0-9][A-Za-z0-9._-]{0,49})?$"
#: The same without a part.
WHOLE_REF = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(:([1-9][0-9]{0,8}|latest))?$"
DatasetRef = Annotated[str, Field(pattern=DATASET_REF, max_length=200, examples=["digits:3/train"])]
PART_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$"
Format = Literal["csv", "tsv", "jsonl", "parquet", "text", "documents", "images"]
#: Types that a text column can be read as.
TypeName = Literal["int64", "float64", "string", "bool", "date", "timestamp"]


class Histogram(BaseModel):
    """How often values fall between edges: ``len(edges) == len(counts) + 1``; the last bin holds its upper edge."""

    edges: list[float]
    counts: list[int]


class ValueCount(BaseModel):
    """A value as text, and how many rows have it."""

    value: str
    count: int


class Column(BaseModel):
    """One column and what its values are like, over all rows of the version."""

    name: str
    type: str
    """As Arrow writes it, such as ``int64``, ``string`` or ``list<item: float>``."""
    nulls: int = 0
    distinct: int | None = None
    distinct_exact: bool = True
    """Whether ``distinct`` was counted, or estimated by HyperLogLog."""
    min: float | int | str | None = None
    max: float | int | str | None = None
    mean: float | None = None
    std: float | None = None
    """Of the population (divided by the number of values)."""
    quantiles: dict[str, float] = {}
    """By quantile (``0.5``): exact up to a million rows, beyond them from a sketch whose relative error is 1 %."""
    histogram: Histogram | None = None
    top: list[ValueCount] = []
    """The most frequent values, where the column has few enough to count them."""


class Facts(BaseModel):
    """What is known of a table before it has a name and a number."""

    rows: int
    columns: list[Column]
    label: str | None = None
    """The column whose classes are balanced or not."""
    class_balance: dict[str, int] = {}
    parts: dict[str, int] = {}
    """Rows by part of a split; empty when there is none."""
    source: str = ""
    """Where the rows came from, without credentials and query strings."""
    recipe: dict[str, Any] = {}
    """What was asked for: the job's parameters."""
    report: dict[str, Any] = {}
    """What the job found and changed."""
    watermark: dict[str, Any] = {}
    """Where the next incremental collection begins."""
    code_version: str = ""


class DatasetManifest(Facts):
    """The immutable description of a version."""

    dataset: str
    version: int
    files: list[FileEntry]
    size: int
    digest: str
    """SHA-256 over the sorted (path, sha256) pairs of the files: the same rows have the same digest."""
    parents: list[str] = []
    job: str | None = None
    description: str = ""
    created_at: datetime
    created_by: str


class DatasetVersion(BaseModel):
    """A version as the API shows it."""

    dataset: str
    version: int
    digest: str
    rows: int
    size: int
    archived: str | None = None
    """Where its files are kept when they are not here; they come back when they are asked for."""
    created_at: datetime
    created_by: str
    manifest: DatasetManifest


class Dataset(BaseModel):
    """A dataset: a name and its versions."""

    name: str
    latest_version: int | None
    versions: int
    rows: int | None
    """Of the newest version."""
    size: int | None
    created_at: datetime


class DatasetLineage(BaseModel):
    """A version, what it was made from, and what was made from it."""

    version: str
    parents: list[str]
    source: str
    job: str | None
    children: list[str]
    models: list[str]
    """Model versions that name it as ``dataset:NAME:VERSION`` among their parents."""


class Head(BaseModel):
    """The first rows of a version. Bytes are shown by their length."""

    columns: list[str]
    rows: list[dict[str, Any]]


class Params(BaseModel):
    """What every job that makes a dataset version is told."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    """Dataset to add the version to."""
    description: Annotated[str, Field(max_length=10_000)] = ""
    label: ColumnName | None = None
    """Column whose class balance is shown; ``label`` when there is one of that name."""


class CollectParams(Params):
    """Job ``collect``: rows from a source, or from files that were uploaded as blobs."""

    source: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """``https://``, ``s3://`` and so on, ``file://`` (the server's own disk), ``sql://NAME``, ``spark:FORMAT:URL``."""
    files: Annotated[list[FileEntry], Field(min_length=1, max_length=20_000)] | None = None
    """Uploaded contents by the path that each has below the collected folder."""
    query: Annotated[str, Field(min_length=1, max_length=100_000)] | None = None
    """SELECT of a ``sql://`` source."""
    format: Format | None = None
    """By the files' endings when it is left out."""
    on_error: Literal["fail", "skip"] = "fail"
    """What a row or image that cannot be read does: end the job, or be left out and named in the report."""
    on_schema: Literal["fail", "union"] = "fail"
    """What files with different columns do: end the job, or give null where a file lacks a column."""
    types: dict[ColumnName, TypeName] = {}
    """How columns of text formats are read, where the first rows do not tell."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = "utf-8"
    incremental: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    """``files``, or a column that only grows: the newest version's rows, and after them only what is new."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.files is None):
            raise ValueError("give one of source and files")
        return self


class CleanParams(Params):
    """Job ``clean``: a recipe over one version."""

    dataset: DatasetRef
    recipe: dict[str, Any]
    """``{"rules": [{"rule": "missing", …}, …]}``; see docs/data.md."""


class JoinParams(Params):
    """Job ``join``: columns of ``right`` beside the rows of ``left``."""

    left: DatasetRef
    right: DatasetRef
    on: Annotated[list[ColumnName], Field(min_length=1, max_length=20)]
    how: Literal["inner", "left"] = "inner"
    expect: Literal["one", "many"] = "one"
    """How many rows of ``right`` a row of ``left`` may meet; ``one`` refuses a join that multiplies rows."""
    suffix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,20}$")] = "_right"
    """Behind columns of ``right`` that ``left`` has too."""


class ConcatParams(Params):
    """Job ``concat``: the rows of several versions, one after another."""

    datasets: Annotated[list[DatasetRef], Field(min_length=2, max_length=100)]
    on_schema: Literal["fail", "union"] = "fail"


class SplitParams(Params):
    """Job ``split``: one version whose files lie under ``train/``, ``validation/``, ``test/``."""

    dataset: DatasetRef
    ratios: Annotated[
        dict[Annotated[str, Field(pattern=PART_PATTERN)], Annotated[float, Field(gt=0, le=1)]],
        Field(min_length=2, max_length=10),
    ] = {"train": 0.8, "validation": 0.1, "test": 0.1}
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    stratify: ColumnName | None = None
    group: ColumnName | None = None
    """Rows with the same value stay together."""
    time: ColumnName | None = None
    """Parts follow one another in time, the first part first."""
    leaks: Literal["fail", "warn", "move"] = "move"
    """What equal rows in two parts do: end the job, be reported, or stay together in one part."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if abs(sum(self.ratios.values()) - 1) > 1e-6:
            raise ValueError(f"ratios add up to {sum(self.ratios.values()):g}, not to 1")
        if sum(choice is not None for choice in (self.stratify, self.group, self.time)) > 1:
            raise ValueError("give at most one of stratify, group and time")
        return self


class FeatureParams(Params):
    """Job ``features``: columns made from columns, and the choice of those that tell something."""

    dataset: DatasetRef
    recipe: dict[str, Any]
    """``{"steps": [{"step": "dates", …}, …], "select": {…}}``; see docs/data.md."""


class ArchiveParams(BaseModel):
    """Job ``archive``: a version's files move to a place that the operator allows."""

    model_config = ConfigDict(extra="forbid")
    dataset: Annotated[str, Field(pattern=WHOLE_REF, max_length=200, examples=["digits:3"])]
    to: Annotated[str, Field(min_length=1, max_length=1000, examples=["s3://cold/datasets"])]
