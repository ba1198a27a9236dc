"""What a version was measured to take and to do on a machine, and what it is worth by that."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from modelport.schemas.datasets import ColumnName, DatasetRef
from modelport.schemas.training import ModelRef

#: What a version was asked while it was measured: rows of a dataset, its own sample, or what fits its signature.
Asked = Literal["rows", "sample", "made up"]


class Latency(BaseModel):
    """How long one caller waits who is alone. Milliseconds."""

    batch: int
    """Rows of a request."""
    p50_ms: float
    p99_ms: float
    """Of enough calls (three hundred and more) the median of what each part of them says, so that a machine that was
    busy with something else for a moment does not decide."""
    model_ms: float
    """The median of the run alone, without the way to the replica and back."""
    calls: int


class Throughput(BaseModel):
    """What a replica does that is never without work."""

    batch: int
    """Rows of a request; requests share no run."""
    rows_per_s: float
    calls: int


class Measured(BaseModel):
    """One replica of a version, measured in the runtime that serves it, on the machine that did it."""

    model: str
    """``NAME:NUMBER``; the number is 0 where it is not registered."""
    machine: str
    """Such as ``AMD EPYC 7B13, 2 cores``."""
    threads: int
    reason: str | None = None
    """Why there is nothing but sizes: no runtime here serves it."""
    asked: Asked | None = None
    latency: Latency | None = None
    throughput: list[Throughput] = []
    """By batch; the last is the largest that was tried."""
    memory_mb: float | None = None
    """Of the replica at work (PSS: what it shares counts for its share), MB."""
    peak_mb: float | None = None
    """The same at its highest, loading included, MB."""
    start_s: float | None = None
    """From its start to its first answer, files at hand."""
    served_bytes: int
    """Files that serving needs: all but those below ``training/``."""
    total_bytes: int
    """All files."""

    @property
    def rows_per_s(self) -> float | None:
        """At the largest batch."""
        return self.throughput[-1].rows_per_s if self.throughput else None


class Compared(BaseModel):
    """Two versions measured by turns, so that what else the machine does weighs on both. Ratios: above 1, ``other`` is
    the better one; None where one of them has nothing to compare."""

    one: Measured
    other: Measured
    faster: float | None = None
    """Latency: the median of what neighbouring turns say."""
    faster_model: float | None = None
    """The same of the run alone, without the way to the replica and back."""
    more_rows: float | None = None
    """Rows per second at the largest batch that both take."""
    smaller: float
    """Files that serving needs."""
    leaner: float | None = None
    """Memory at work."""


class GradeParams(BaseModel):
    """Job ``grade``: versions measured in the runtime that serves them, on the machine that runs the job."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model": "digits@champion", "data": "digits:1/test"}]}
    )

    model: ModelRef
    all: bool = False
    """Every version of the model, not one."""
    data: DatasetRef | None = None
    """Rows to ask about. [the version's sample, else inputs that fit its signature]"""
    target: ColumnName | None = None
    """A column of the data that the model must not see. [the dataset's label]"""
    inputs: dict[str, Annotated[list[ColumnName], Field(min_length=1, max_length=100_000)]] = {}
    """Columns by input, where names do not tell."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Of the runtime, as deployed."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Rows of a request where rows per second are measured."""
    seconds: Annotated[float, Field(ge=0.1, le=600)] = 2.0
    """How long latency is measured, and rows per second; up to three times as long for latency with few calls."""


class Quality(BaseModel):
    """How good a version is, by the figure that tells most."""

    figure: str
    value: float
    less_is_better: bool
    data: str
    """``digits:1/test``, or ``test rows of its training``."""
    evaluation: int | None = None
    """Its number in the record; None when only the version itself tells."""
    flattered: bool = False
    """Whether choices were made by these rows."""


class Grade(BaseModel):
    """A version on a machine: what was measured, and what follows by the prices and rules of now."""

    id: int
    model: str
    version: int
    measured: Measured
    quality: Quality | None = None
    """Of now: the newest evaluation by rows that no choice was made by; None when it was never judged."""
    cost_per_million: float | None = None
    """Of a million rows asked about, in the currency of the settings."""
    currency: str
    grade: str | None = None
    """The first class whose conditions hold; None where no runtime serves it."""
    job: str
    graded_at: datetime
    graded_by: str


class Relative(BaseModel):
    """One version of a family."""

    model: str
    version: int
    aliases: list[str] = []
    grade: Grade | None = None
    """None when it was not measured on this machine."""
    best: bool = False
    """Whether no other is at least as good and as cheap, and better in one of both."""


class Family(BaseModel):
    """The versions of a model, what they were made from and what was made from them: price and quality."""

    model: str
    machine: str | None
    """All figures are from this one; None when nothing was measured."""
    machines: list[str] = []
    """All that have measured one of them."""
    figure: str | None = None
    """The quality that is compared: the one that most of them have."""
    less_is_better: bool = False
    currency: str
    relatives: list[Relative]
    """The cheapest first, those without a price last."""
    warnings: list[str] = []
