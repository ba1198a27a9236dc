"""What a job that compresses takes: methods in sequence, or a budget to search for; and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

from modelport.schemas.datasets import ColumnName, DatasetRef
from modelport.schemas.models import FileEntry
from modelport.schemas.names import AliasName, LabelKey, LabelValue, Name
from modelport.schemas.training import Fraction, ModelRef, PartName

Target = Literal["onnx", "litert", "openvino", "torch"]
Positive = Annotated[float, Field(gt=0, le=1e15)]


class MethodStep(BaseModel):
    """One method, and its own options."""

    model_config = ConfigDict(extra="forbid")

    method: Name
    options: dict[str, Any] = {}


def label_of(steps: Sequence[MethodStep]) -> str:
    """``prune-structured ratio=0.5 > quantize mode=static``, as it is typed."""
    parts = []
    for step in steps:
        options = " ".join(f"{name}={value}" for name, value in step.options.items())
        parts.append(f"{step.method} {options}".strip())
    return " > ".join(parts) or "original"


class Budget(BaseModel):
    """What the smaller version has to keep to; what is left out does not matter."""

    model_config = ConfigDict(extra="forbid")

    max_drop: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Largest fall of the main figure, as a share of the original's: 0.01 is 1 %. A figure of which less is better may
    rise by that share."""
    max_drop_points: Annotated[float, Field(ge=0, lt=100)] | None = None
    """The same in points of 100 (of accuracy and other figures between 0 and 1)."""
    size_ratio: Annotated[float, Field(gt=1, le=10_000)] | None = None
    """So many times smaller than the original, by the bytes of the files that are served."""
    size_bytes: Positive | None = None
    """At most so many bytes."""
    speed_ratio: Annotated[float, Field(gt=1, le=10_000)] | None = None
    """So many times faster than the original: median latency of one row alone, in one run."""
    latency_p99_ms: Positive | None = None
    """Milliseconds, one row alone, in the serving runtime."""
    latency_p50_ms: Positive | None = None
    memory_mb: Positive | None = None
    """Of one replica, MB."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep to."""
        return not self.model_dump(exclude_none=True)

    @property
    def asks_the_machine(self) -> bool:
        """Whether it says something of speed or memory."""
        asked = (self.speed_ratio, self.latency_p50_ms, self.latency_p99_ms, self.memory_mb)
        return any(one is not None for one in asked)


class CompressParams(BaseModel):
    """Parameters of the job ``compress``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "digits:1", "data": "digits:1", "budget": {"max_drop": 0.01, "size_ratio": 4}}]
        },
    )

    model: ModelRef
    data: DatasetRef | None = None
    """Rows to learn from, to calibrate with and to judge by. [those that the version was trained on]"""
    methods: Annotated[list[MethodStep], Field(max_length=8)] = []
    """One after another, as they are said. [searched for]"""
    budget: Budget = Budget()
    runtime: Target | None = None
    """The runtime that it is for. [the original's]"""
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Of the runtime while latency is measured: what the deployment will have."""
    only: Annotated[list[Name], Field(max_length=50)] = []
    """Methods that the search may use. [all that apply]"""
    trials: Annotated[int, Field(ge=1, le=500)] = 24
    """Candidates that the search looks at."""
    finalists: Annotated[int, Field(ge=1, le=50)] = 6
    """Of those, how many are made in full and measured."""
    proofs: Annotated[int, Field(ge=1, le=20)] = 3
    """Of those, how many may be tried on the rows that nobody saw."""
    name: Name | None = None
    """The model whose next version it becomes. [the same model]"""
    target: ColumnName | None = None
    """The column that holds the truth. [as it was trained, or the dataset's label]"""
    train: PartName | None = None
    validation: PartName | Fraction | None = None
    """The part, or the share of the training rows, that the search judges by."""
    test: PartName | None = None
    """The part that proves the winner. [``test``; else a half of the validation rows]"""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    alias: AliasName | None = None
    labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=64)] = {}
    description: Annotated[str, Field(max_length=10_000)] = ""
    files: Annotated[list[FileEntry], Field(max_length=10_000)] = []
    """Code that the version's recipe needs to build its network; the blobs must have been uploaded."""


class Candidate(BaseModel):
    """What was tried: a sequence of methods, and what came of it."""

    number: int
    """0 is the original."""
    steps: list[MethodStep]
    state: Literal["looked at", "measured", "proven", "failed"] = "looked at"
    message: str = ""
    """Why it failed."""
    quality: float | None = None
    """The main figure on the rows that the search judges by; of a few of them while it was only looked at."""
    drop: float | None = None
    """By how much it fell, as a share of the original's; below 0 where it rose."""
    size_bytes: int | None = None
    size_ratio: float | None = None
    """The original's bytes by its own."""
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    speed_ratio: float | None = None
    """The original's median latency by its own, both measured in one run."""
    memory_mb: float | None = None
    misses: list[str] = []
    """What of the budget it does not keep to; empty when it keeps to all of it."""
    proof: dict[str, float] = {}
    """Figures on the rows that nobody saw, before (``original_…``) and after."""

    @computed_field
    def label(self) -> str:
        """The sequence in one line."""
        return label_of(self.steps)


class MethodInfo(BaseModel):
    """A method, as it is listed."""

    name: str
    summary: str
    forms: list[str]
    """What it works on."""
    options: dict[str, Any]
    """JSON Schema of its options."""
    available: bool
    """Whether what it needs is installed."""
    extra: str
