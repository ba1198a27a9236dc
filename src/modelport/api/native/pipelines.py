"""The route of pipelines that is not one of jobs: a run is a job of kind ``pipeline``, and its plan is shown here."""

from __future__ import annotations

from fastapi import APIRouter

from modelport.api.native.context import Viewer
from modelport.api.native.errors import responses
from modelport.api.native.jobs import TheJobs
from modelport.control.pipelines.service import plan_run
from modelport.schemas.pipelines import PipelinePlan, PipelineRun

router = APIRouter(prefix="/pipelines", tags=["pipelines"])


@router.post("/plan", operation_id="plan_pipeline", responses=responses(400, 404, 409))
def plan_pipeline(jobs: TheJobs, actor: Viewer, run: PipelineRun) -> PipelinePlan:
    """What a run would do: every stage in order, and those whose results an earlier run has made. Nothing starts."""
    return plan_run(jobs.services, actor, run)
