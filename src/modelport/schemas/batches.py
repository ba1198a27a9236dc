"""File and Batch as OpenAI's API shows them: requests that are uploaded as lines, and what became of each."""

from __future__ import annotations

import re
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

T = TypeVar("T")

Purpose = Literal["batch", "batch_output"]
BatchStatus = Literal[
    "validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled"
]
#: States that are never left again.
FINAL: tuple[BatchStatus, ...] = ("completed", "failed", "expired", "cancelled")
BatchEndpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
MOST_BYTES = 200_000_000
MOST_LINES = 50_000
_WINDOW = re.compile(r"(?P<count>[1-9][0-9]{0,3})(?P<unit>[smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_WINDOW_S = 30 * 86_400


class ExpiresAfter(BaseModel):
    """How long a file is kept."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class FileObject(BaseModel):
    """An uploaded file, or what a batch has written."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    """Seconds since the epoch, as all moments here."""
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    expires_at: int | None = None


class FileDeleted(BaseModel):
    """The answer to a deletion."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Listed(BaseModel, Generic[T]):
    """One page. The next one begins ``after`` the last item's id."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool


class RequestCounts(BaseModel):
    """Lines of a batch; ``failed`` are those in the error file."""

    total: int
    completed: int
    failed: int


class BatchProblem(BaseModel):
    """Why a batch, or a line of it, could not be worked on."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(BaseModel):
    """Of a batch that has failed."""

    object: Literal["list"] = "list"
    data: list[BatchProblem]


class Batch(BaseModel):
    """One file of requests, and how far it is."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = None
    """That the first request asks."""
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    usage: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class BatchCreate(BaseModel):
    """Body of ``POST /v1/batches``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"input_file_id": "file-01", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
            ]
        },
    )

    input_file_id: Annotated[str, StringConstraints(max_length=100)]
    endpoint: BatchEndpoint
    """Where every line's request would have been sent."""
    completion_window: Annotated[str, StringConstraints(max_length=10)] = "24h"
    """What is not done by then expires: a number and s, m, h or d."""
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None
    """How long what it writes is kept; without it until somebody deletes it."""


class BatchParams(BaseModel):
    """Of the job that works on a batch."""

    model_config = ConfigDict(extra="forbid")

    batch: str
    """Its id."""


def seconds_of(window: str) -> int | None:
    """Of a completion window; None when it is none, or longer than 30 days."""
    found = _WINDOW.fullmatch(window)
    if found is None:
        return None
    seconds = int(found["count"]) * _SECONDS[found["unit"]]
    return seconds if seconds <= _LONGEST_WINDOW_S else None
