"""Routes of grades: what versions were measured to do, and their place among their kin. Measuring itself is a job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from modelport.api.native.context import Here, Limit, Page, PathName, Viewer
from modelport.api.native.errors import responses
from modelport.schemas.grades import Family, Grade
from modelport.schemas.names import Name

router = APIRouter(prefix="/grades", tags=["grades"])


@router.get("", operation_id="list_grades")
def list_grades(
    here: Here,
    actor: Viewer,
    model: Annotated[Name | None, Query(description="Only those of this model.")] = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only those of this version of it.")] = None,
    limit: Limit = 100,
    after: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="`id` of the previous page's last item.")
    ] = None,
) -> Page[Grade]:
    """What was measured, the newest first; class, price and quality are of now."""
    return Page(items=here.grades.list(actor, model, version, limit, after))


@router.get("/{name}", operation_id="get_family", responses=responses(404))
def get_family(
    here: Here,
    actor: Viewer,
    name: PathName,
    machine: Annotated[
        str | None, Query(max_length=200, description="Whose figures; by default the newest grade's.")
    ] = None,
) -> Family:
    """A model's versions and their kin, the cheapest first; marked are those that none beats in price and quality."""
    return here.grades.family(actor, name, machine)
