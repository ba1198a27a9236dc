"""Routes ``/v1/files`` of control: upload, list, look, read, delete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from pydantic import ValidationError

from modelport.api.native.context import AnyKey, Here, announced_size, receive
from modelport.api.native.errors import OpenAiErrorBody, responses
from modelport.control.actors import Actor
from modelport.control.files import Files, too_large
from modelport.errors import InvalidInput
from modelport.schemas.batches import MOST_BYTES, ExpiresAfter, FileDeleted, FileObject, Listed, Purpose
from modelport.schemas.models import FileEntry

router = APIRouter(prefix="/v1/files", tags=["batches"])
_PARTS = 16
_EXPIRES = re.compile(r"expires_after\[(anchor|seconds)\]")
_LONGEST_FIELD = 1000
_FORM_BYTES = 100_000
"""Of a form besides its file."""
_FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": ["batch"]},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
    },
}


@router.post(
    "",
    operation_id="create_file",
    responses=responses(413, body=OpenAiErrorBody),
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def create_file(request: Request, here: Here, actor: AnyKey) -> FileObject:
    """Upload requests for a batch, one line of JSON each, as a form with ``purpose`` and ``file``."""
    if (announced_size(request, here.max_file_bytes) or 0) > MOST_BYTES + _FORM_BYTES:
        raise too_large()
    media, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get("boundary", "")
    if media != "multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise InvalidInput("the body is a form (multipart/form-data) with the fields 'purpose' and 'file'")
    return await receive(request, lambda chunks: _Form(here.files, actor).read(chunks, boundary))


class _Form:
    """A form while it is read: its file goes to the store as it comes."""

    def __init__(self, files: Files, actor: Actor) -> None:
        self._files, self._actor = files, actor
        self._entry: FileEntry | None = None
        self._filename = ""
        self._purpose: Purpose | None = None
        self._expires: dict[str, str] = {}

    def read(self, chunks: Iterator[bytes], boundary: str) -> FileObject:
        """The file that it makes; raises InvalidInput."""
        try:
            with PushMultipartParser(boundary, max_segment_count=_PARTS) as parser:
                events = (event for chunk in chunks for event in parser.parse(chunk))
                for event in events:
                    assert isinstance(event, MultipartSegment)
                    self._field(event, _data(events))
        except MultipartError as error:
            raise InvalidInput(f"the body is no whole form: {str(error)[:200]}") from None
        if self._entry is None:
            raise InvalidInput.of("file", "'file' is missing")
        if self._purpose is None:
            raise InvalidInput.of("purpose", "'purpose' is missing; it is 'batch'")
        return self._files.create(self._actor, self._entry, self._filename, self._purpose, self._keep_s())

    def _keep_s(self) -> int | None:
        if not self._expires:
            return None
        try:
            return ExpiresAfter.model_validate(self._expires).seconds
        except ValidationError as error:
            first = error.errors()[0]
            field = f"expires_after.{first['loc'][0]}"
            raise InvalidInput.of(field, f"{field!r}: {first['msg']}; 'seconds' after 'created_at'") from None

    def _field(self, segment: MultipartSegment, data: Iterator[bytes]) -> None:
        name = segment.name or ""
        if name == "file":
            if self._entry is not None:
                raise InvalidInput.of("file", "'file' stands there twice")
            self._filename = (segment.filename or "file").replace("\\", "/").rpartition("/")[2]
            self._entry = self._files.upload(self._actor, data)
        elif name == "purpose":
            value = _text(data)
            if value != "batch":
                raise InvalidInput.of("purpose", f"'purpose' is 'batch' here, not {value[:40]!r}")
            self._purpose = "batch"
        elif found := _EXPIRES.fullmatch(name):
            self._expires[found[1]] = _text(data)
        else:
            raise InvalidInput.of(
                name[:100], f"{name[:100]!r} is unknown here; a file has 'purpose', 'file' and 'expires_after'"
            )


def _data(events: Iterator[MultipartSegment | bytes | bytearray | None]) -> Iterator[bytes]:
    """What belongs to the part that has just begun."""
    for event in events:
        if event is None:
            return
        assert isinstance(event, bytes | bytearray)
        yield bytes(event)


def _text(data: Iterator[bytes]) -> str:
    found = b""
    for piece in data:
        found += piece
        if len(found) > _LONGEST_FIELD:
            raise InvalidInput("a field of the form is too long")
    return found.decode(errors="replace")


@router.get("", operation_id="list_files")
def list_files(
    here: Here,
    actor: AnyKey,
    purpose: Annotated[str | None, Query(max_length=40)] = None,
    order: Literal["asc", "desc"] = "desc",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    after: Annotated[str | None, Query(max_length=100, description="Id of the previous page's last item.")] = None,
) -> Listed[FileObject]:
    """The project's files; a caller's own."""
    found, more = here.files.all(actor, purpose, order, limit, after)
    return Listed(data=found, first_id=found[0].id if found else None, last_id=found[-1].id if found else None,
                  has_more=more)  # fmt: skip


@router.get("/{id}", operation_id="retrieve_file", responses=responses(404, body=OpenAiErrorBody))
def retrieve_file(here: Here, actor: AnyKey, id: str) -> FileObject:
    """One file."""
    return here.files.get(actor, id)


@router.delete("/{id}", operation_id="delete_file", responses=responses(404, 409, body=OpenAiErrorBody))
def delete_file(here: Here, actor: AnyKey, id: str) -> FileDeleted:
    """Forget a file that no batch is to read any more."""
    here.files.delete(actor, id)
    return FileDeleted(id=id)


@router.get(
    "/{id}/content",
    operation_id="read_file",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The bytes."},
        **responses(404, body=OpenAiErrorBody),
    },
)
def read_file(here: Here, actor: AnyKey, id: str) -> StreamingResponse:
    """What is in it."""
    file, chunks = here.files.content(actor, id)
    headers = {"content-length": str(file.bytes), "x-content-type-options": "nosniff"}
    return StreamingResponse(chunks, headers=headers, media_type="application/octet-stream")
