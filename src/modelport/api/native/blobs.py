"""Routes of blobs: which contents are missing, sending one, and collecting the unused."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from modelport.api.native.context import Admin, Developer, Here, announced_size, receive
from modelport.api.native.errors import responses
from modelport.schemas.models import GcReport, MissingBlobs, MissingBlobsQuery

router = APIRouter(tags=["blobs"])


class StoredBlob(BaseModel):
    """A content that is stored now."""

    sha256: str
    size: int


@router.post("/blobs/missing")
def missing_blobs(here: Here, actor: Developer, query: MissingBlobsQuery) -> MissingBlobs:
    """Which of these contents have to be uploaded before a push."""
    return MissingBlobs(missing=here.registry.missing_blobs(actor, query.sha256))


@router.put(
    "/blobs/{sha256}",
    responses=responses(400, 409, 413),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_blob(
    request: Request, here: Here, actor: Developer, sha256: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
) -> StoredBlob:
    """Upload one content: the raw bytes are the body, the address is their SHA-256."""
    size = announced_size(request, here.max_file_bytes)
    stored = await receive(request, lambda body: here.registry.put_blob(actor, sha256, body, size))
    return StoredBlob(sha256=sha256, size=stored)


@router.post("/gc")
def collect_garbage(
    here: Here, actor: Admin, dry_run: Annotated[bool, Query(description="Only say what would go.")] = False
) -> GcReport:
    """Remove the project's contents that no version needs and nobody asked for within the grace time."""
    return here.registry.gc(actor, dry_run)
