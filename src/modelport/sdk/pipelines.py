"""Pipelines: look at what a run would do, run it, go on with one that failed. A run is a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modelport.errors import InvalidInput
from modelport.schemas.jobs import Job
from modelport.schemas.pipelines import Pipeline, PipelinePlan, PipelineRun
from modelport.sdk.flows import D_co, Flow, Operations, operation, path_of, send_json
from modelport.sdk.models import API, refused

KIND = "pipeline"


def run_of(pipeline: Pipeline | dict[str, Any], parameters: Mapping[str, Any] | None, cache: bool) -> PipelineRun:
    """A run from the arguments of ``run``; raises InvalidInput naming the field."""
    try:
        return PipelineRun.model_validate(
            {
                "pipeline": pipeline.model_dump(mode="json") if isinstance(pipeline, Pipeline) else pipeline,
                "parameters": dict(parameters or {}),
                "cache": cache,
            }
        )
    except ValidationError as error:
        raise refused(error, PipelineRun) from None


class Pipelines(Operations[D_co]):
    """``client.pipelines``. Runs are looked at, waited for and cancelled as jobs."""

    @operation
    def plan(
        self, pipeline: Pipeline | dict[str, Any], parameters: Mapping[str, Any] | None = None, *, cache: bool = True
    ) -> Flow[PipelinePlan]:
        """What a run would do; nothing starts. Raises InvalidInput naming the stage that cannot be."""
        body = run_of(pipeline, parameters, cache).model_dump(mode="json")
        return PipelinePlan.model_validate((yield from send_json("POST", f"{API}/pipelines/plan", body)))

    @operation
    def run(
        self,
        pipeline: Pipeline | dict[str, Any],
        parameters: Mapping[str, Any] | None = None,
        *,
        cache: bool = True,
        priority: int = 0,
    ) -> Flow[Job]:
        """Begin a run; without ``cache`` every stage is done, whatever earlier runs have made."""
        params = run_of(pipeline, parameters, cache).model_dump(mode="json", exclude_unset=True)
        return (yield from _submit(params, priority))

    @operation
    def resume(self, run: str) -> Flow[Job]:
        """Begin a new run that does what an ended one has left undone."""
        earlier = Job.model_validate((yield from send_json("GET", API + path_of("jobs", run))))
        if earlier.kind != KIND:
            raise InvalidInput(f"job {run} is a {earlier.kind}, no pipeline run; there is nothing to go on with")
        return (yield from _submit({**earlier.params, "resume": run}, earlier.priority))


def _submit(params: dict[str, Any], priority: int) -> Flow[Job]:
    body = {"kind": KIND, "params": params, "priority": priority}
    return Job.model_validate((yield from send_json("POST", f"{API}/jobs", body, idempotent=False)))
