"""What a version was measured to take and to do on a machine, and what it is worth by that."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

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
