"""The parameters of batch inference, and the manifest beside its results."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.datasets import ColumnName, DatasetRef

#: ``NAME``, ``NAME:3`` or ``NAME@champion``.
MODEL_REF = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}([:@][A-Za-z0-9][A-Za-z0-9._-]{0,99})?$"


class PredictParams(BaseModel):
    """Job ``predict``: every row of a dataset through one version of a model."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(pattern=MODEL_REF, examples=["digits@champion"])]
    data: DatasetRef
    to: Annotated[str, Field(min_length=1, max_length=1000, examples=["s3://results/digits"])] | None = None
    """``dataset:NAME`` (by default one named after the data), a folder's URL, or ``sql://DATABASE/TABLE``."""
    inputs: dict[str, Annotated[list[ColumnName], Field(min_length=1, max_length=100_000)]] = {}
    """Columns by input, where names do not tell; several make a row of a matrix, and ``*`` stands for any letters."""
    id: Annotated[list[ColumnName], Field(max_length=20)] = []
    """Columns that tell which row a result belongs to; without any, ``row`` counts from 0."""
    keep: Annotated[list[ColumnName], Field(max_length=1000)] = []
    """Further columns that stand beside the results."""
    probabilities: bool = False
    """Whether a classifier's scores of all classes are written, too."""
    on_error: Literal["fail", "record"] = "fail"
    """What a row that the model refuses does: end the job, or get nulls and the reason in the column ``error``."""
    nulls: Literal["refuse", "nan"] = "refuse"
    """What a missing number is to an input of floating point: a row that is refused, or NaN; with ``nan`` a
    missing text or date is the empty text."""
    overwrite: bool = False
    """Whether results of something else at the destination are replaced."""
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    """Replicas of the job's own."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Of each replica."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Rows of one run, where the model can batch."""
    shard_rows: Annotated[int, Field(ge=1, le=10_000_000)] = 16_384
    """Rows of one file of results: what is lost at most when the job is killed."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600
    """A run that takes longer is hung: its replica is killed and replaced."""


class Shard(BaseModel):
    """One file of results, or as many rows of a table."""

    rows: int
    failed_rows: int
    sha256: str
    """Of the Parquet file."""


class PredictManifest(BaseModel):
    """``_manifest.json``: written last, so that who finds it finds everything."""

    job: str
    model: str
    model_digest: str
    data: str
    data_digest: str
    rows: int
    failed_rows: int
    columns: dict[str, str]
    """Types as Arrow writes them."""
    shards: list[Shard]
    code_version: str
    params: dict[str, Any]
