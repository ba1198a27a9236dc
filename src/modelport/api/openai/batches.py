"""Routes ``/v1/batches`` of control: begin, list, look, cancel. The work itself is ``batch_work``'s."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from modelport.api.native.context import AnyKey
from modelport.api.native.errors import OpenAiErrorBody, responses
from modelport.api.native.jobs import TheJobs
from modelport.control.batches import Batches
from modelport.schemas.batches import Batch, BatchCreate, Listed

router = APIRouter(prefix="/v1/batches", tags=["batches"])


def _batches_of(jobs: TheJobs) -> Batches:
    return Batches(jobs)


TheBatches = Annotated[Batches, Depends(_batches_of)]


@router.post("", operation_id="create_batch", responses=responses(404, 413, 429, body=OpenAiErrorBody))
def create_batch(batches: TheBatches, actor: AnyKey, wish: BatchCreate) -> Batch:
    """Have every request of a file answered, behind all live callers."""
    return batches.create(actor, wish)


@router.get("", operation_id="list_batches")
def list_batches(
    batches: TheBatches,
    actor: AnyKey,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=100, description="Id of the previous page's last item.")] = None,
) -> Listed[Batch]:
    """The project's batches, newest first; a caller's own."""
    found, more = batches.all(actor, limit, after)
    return Listed(data=found, first_id=found[0].id if found else None, last_id=found[-1].id if found else None,
                  has_more=more)  # fmt: skip


@router.get("/{id}", operation_id="get_batch", responses=responses(404, body=OpenAiErrorBody))
def get_batch(batches: TheBatches, actor: AnyKey, id: str) -> Batch:
    """One batch, and how far it is."""
    return batches.get(actor, id)


@router.post("/{id}/cancel", operation_id="cancel_batch", responses=responses(404, 409, body=OpenAiErrorBody))
def cancel_batch(batches: TheBatches, actor: AnyKey, id: str) -> Batch:
    """Have it end; what is done stays."""
    return batches.cancel(actor, id)
