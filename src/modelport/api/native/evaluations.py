"""Routes of evaluations: what was judged by which rows, and what came of it. Judging itself is a job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from modelport.api.native.context import Here, Limit, Page, Viewer
from modelport.api.native.errors import responses
from modelport.schemas.datasets import DATASET_REF
from modelport.schemas.evaluation import EvaluationRecord, EvaluationShown
from modelport.schemas.names import Name

router = APIRouter(prefix="/evaluations", tags=["evaluations"])
_Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("", operation_id="list_evaluations")
def list_evaluations(
    here: Here,
    actor: Viewer,
    model: Annotated[Name | None, Query(description="Only those of this model.")] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only those of this version of it.")] = None,
    data: Annotated[
        str | None,
        Query(pattern=DATASET_REF, max_length=200, description="Only by rows of this dataset, version or part."),
    ] = None,
    limit: Limit = 100,
    after: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Id of the previous page's last item.")] = None,
) -> Page[EvaluationRecord]:
    """What was judged by which rows, newest first. Also without a result: rows that were opened were seen."""
    return Page(items=list(here.evaluations.list(actor, model, version, data, limit, after)))


@router.get("/{id}", operation_id="get_evaluation", responses=responses(404))
def get_evaluation(here: Here, actor: Viewer, id: _Id) -> EvaluationShown:
    """One with its whole report, and when the same rows were opened before."""
    return here.evaluations.get(actor, id)
