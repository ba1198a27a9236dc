"""Pipeline: a declared chain of jobs, as ``modelport run`` reads it; and the plan of a run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelport.schemas.jobs import JobId, ResourcesAsked, Retries
from modelport.schemas.names import Name

#: A part of a job's id, and of a reference: without dots.
StageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$", max_length=60, examples=["clean"])]
ParameterName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}$", max_length=60)]
Condition = Annotated[str, Field(min_length=1, max_length=500)]
Scalar = bool | int | float | str
ParameterType = Literal["string", "integer", "number", "boolean"]


class Parameter(BaseModel):
    """What a run may be given. A bare value in its place is its default, and says its type."""

    model_config = ConfigDict(extra="forbid")

    type: ParameterType = "string"
    default: Scalar | None = None
    """Without one, every run has to give it."""
    description: Annotated[str, Field(max_length=1000)] = ""

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
        for kind, name in kinds:
            if isinstance(value, kind):
                return {"type": name, "default": value}
        return value


class Stage(BaseModel):
    """One job of a pipeline."""

    model_config = ConfigDict(extra="forbid")

    name: StageName
    kind: Name
    """Any kind of job."""
    params: dict[str, Any] = {}
    """What the kind takes; texts may hold ``${parameters.NAME}`` and ``${stages.NAME.result.FIELD}``."""
    needs: list[StageName] = []
    """Stages that have to be done before, besides those whose results are used."""
    when: Condition | None = None
    """Whether it is done at all, such as ``parameters.publish == true``; without it, what needs it is left out too."""
    require: Condition | list[Condition] = []
    """What has to hold of its result, such as ``accuracy >= 0.97``; else the run fails."""
    resources: ResourcesAsked = ResourcesAsked()
    retries: Retries | None = None


class Pipeline(BaseModel):
    """A declared chain of jobs."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "digits",
                    "parameters": {"source": "s3://raw/digits.parquet"},
                    "stages": [
                        {"name": "raw", "kind": "collect", "params": {"source": "${parameters.source}", "name": "raw"}},
                        {"name": "parts", "kind": "split", "params": {"dataset": "${stages.raw.result.dataset}"}},
                    ],
                }
            ]
        },
    )

    name: Name
    description: Annotated[str, Field(max_length=10_000)] = ""
    parameters: Annotated[dict[ParameterName, Parameter], Field(max_length=100)] = {}
    stages: Annotated[list[Stage], Field(min_length=1, max_length=200)]


class PipelineRun(BaseModel):
    """Parameters of a job of kind ``pipeline``, and body of ``POST /pipelines/plan``."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Pipeline
    parameters: dict[ParameterName, Scalar] = {}
    cache: bool = True
    """Whether a stage that would do what an earlier run's has done is taken from there."""
    resume: JobId | None = None
    """An earlier run whose finished stages are not done again."""


class PlannedStage(BaseModel):
    """One stage of a plan, in an order in which they can be done."""

    name: str
    kind: str
    needs: list[str]
    """All stages that come before, by name or by reference."""
    when: str | None = None
    require: list[str] = []
    taken_from: str | None = None
    """The job whose result stands for it; None when it will be done, or when that is not known before."""
    skipped: bool = False


class PipelinePlan(BaseModel):
    """What a run would do."""

    name: str
    parameters: dict[str, Scalar]
    stages: list[PlannedStage]
