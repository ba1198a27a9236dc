"""Routes of models, their versions, aliases, labels and files."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from modelport.api.native.context import (
    AfterName,
    AfterNumber,
    Developer,
    Here,
    Limit,
    Page,
    PathName,
    PathRef,
    Viewer,
    announced_size,
    read_json,
    receive,
)
from modelport.api.native.errors import responses
from modelport.api.native.files import BINARY, FILE, FilePath, IfRange, Range, file_answer
from modelport.control import bundles
from modelport.errors import UnsupportedEncoding
from modelport.schemas.models import AliasTarget, LabelTarget, LineageNode, Model, ModelVersion, VersionPush
from modelport.schemas.names import AliasName, LabelKey

router = APIRouter(prefix="/models", tags=["models"])

ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": BINARY}}}
_PUSH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/VersionPush"}},
            "application/octet-stream": BINARY,
        },
    }
}


@router.get("")
def list_models(here: Here, actor: Viewer, limit: Limit = 100, after: AfterName = None) -> Page[Model]:
    """The project's models, by name."""
    return Page(items=here.registry.models(actor, limit, after))


@router.get("/{name}", responses=responses(404))
def get_model(here: Here, actor: Viewer, name: PathName) -> Model:
    """One model: its newest version and its aliases."""
    return here.registry.model(actor, name)


@router.delete("/{name}", status_code=204, responses=responses(404, 409))
def delete_model(here: Here, actor: Developer, name: PathName) -> None:
    """Delete a model with all its versions; refused while a deployment uses one."""
    here.registry.delete_model(actor, name)


@router.get("/{name}/versions", responses=responses(404))
def list_versions(
    here: Here, actor: Viewer, name: PathName, limit: Limit = 100, after: AfterNumber = None
) -> Page[ModelVersion]:
    """A model's versions, newest first."""
    return Page(items=here.registry.versions(actor, name, limit, after))


@router.post("/{name}/versions", status_code=201, openapi_extra=_PUSH_BODY, responses=responses(400, 409, 413, 415))
async def push_version(
    request: Request,
    here: Here,
    actor: Developer,
    name: PathName,
    filename: Annotated[str, Query(max_length=500, description="Of a one-file push.")] = "model",
    alias: Annotated[AliasName | None, Query(description="Points to the new version; of a one-file push.")] = None,
) -> ModelVersion:
    """Register the next version.

    As JSON it names files whose contents were uploaded as blobs. As `application/octet-stream` the body is the only
    file: `curl --data-binary @model.onnx -H 'Content-Type: application/octet-stream' …/models/digits/versions`.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/octet-stream":
        size = announced_size(request, here.max_file_bytes)
        entry = await receive(request, lambda body: here.registry.add_file(actor, filename, body, size))
        push = VersionPush(files=[entry], alias=alias)
    elif media == "application/json":
        push = await read_json(request, VersionPush)
    else:
        raise UnsupportedEncoding(
            f"Content-Type {media[:100]!r}: send application/json, or one file as application/octet-stream"
        )
    return await to_thread.run_sync(here.registry.push, actor, name, push)


@router.get("/{name}/versions/{ref}", responses=responses(404))
def get_version(here: Here, actor: Viewer, name: PathName, ref: PathRef) -> ModelVersion:
    """One version with its manifest."""
    return here.registry.version(actor, name, ref)


@router.delete("/{name}/versions/{ref}", status_code=204, responses=responses(404, 409))
def delete_version(here: Here, actor: Developer, name: PathName, ref: PathRef) -> None:
    """Delete a version; refused while a deployment uses it or an alias points to it."""
    here.registry.delete_version(actor, name, ref)


@router.get("/{name}/versions/{ref}/lineage", responses=responses(404))
def get_lineage(here: Here, actor: Viewer, name: PathName, ref: PathRef) -> LineageNode:
    """What a version was made from, what was made from it, and which deployments use it."""
    return here.registry.lineage(actor, name, ref)


@router.get("/{name}/versions/{ref}/bundle", response_class=StreamingResponse, responses={**ZIP, **responses(400, 404)})
def bundle_version(here: Here, actor: Viewer, name: PathName, ref: PathRef) -> StreamingResponse:
    """A version of the formats ONNX and LiteRT as one signed zip: its model, manifest, a runner, hashes."""
    file_name, file = bundles.build(here.settings, here.database, here.registry, actor, name, ref)
    headers = {"content-disposition": f'attachment; filename="{file_name}"', "x-content-type-options": "nosniff"}
    return StreamingResponse(bundles.read(file), 200, headers, "application/zip")


@router.get(
    "/{name}/versions/{ref}/files/{path:path}", response_class=StreamingResponse, responses={**FILE, **responses(404)}
)
def get_file(
    here: Here, actor: Viewer, name: PathName, ref: PathRef, path: FilePath, range_: Range = "", if_range: IfRange = ""
) -> StreamingResponse:
    """One file of a version, or the rest of one. It breaks off before its end when the stored content is damaged.

    The ETag is the file's SHA-256. A range of another form, or beyond the end, is answered with the whole file.
    """
    entry = here.registry.find_file(actor, name, ref, path)
    return file_answer(entry, partial(here.registry.iterate_file, actor, entry), range_, if_range)


@router.put("/{name}/aliases/{alias}", responses=responses(400, 404))
def set_alias(here: Here, actor: Developer, name: PathName, alias: AliasName, target: AliasTarget) -> Model:
    """Point an alias at a version, wherever it pointed before."""
    here.registry.set_alias(actor, name, alias, target.version)
    return here.registry.model(actor, name)


@router.delete("/{name}/aliases/{alias}", status_code=204, responses=responses(404))
def delete_alias(here: Here, actor: Developer, name: PathName, alias: PathRef) -> None:
    """Remove an alias; its version stays."""
    here.registry.delete_alias(actor, name, alias)


@router.put("/{name}/versions/{ref}/labels/{key}", responses=responses(404))
def set_label(
    here: Here, actor: Developer, name: PathName, ref: PathRef, key: LabelKey, target: LabelTarget
) -> ModelVersion:
    """Put a label on a version, or change it."""
    here.registry.set_label(actor, name, ref, key, target.value)
    return here.registry.version(actor, name, ref)


@router.delete("/{name}/versions/{ref}/labels/{key}", status_code=204, responses=responses(404))
def delete_label(here: Here, actor: Developer, name: PathName, ref: PathRef, key: LabelKey) -> None:
    """Remove a label."""
    here.registry.delete_label(actor, name, ref, key)
