"""The route that has the server bring a model from where it lies."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Request

from modelport.api.native.context import Developer, Here, PathName
from modelport.api.native.errors import responses
from modelport.errors import NotFound
from modelport.schemas.imports import Imported, ImportRequest

router = APIRouter(prefix="/models", tags=["models"])


@router.post("/{name}/imports", status_code=201, responses=responses(400, 404, 409, 413))
async def import_model(
    request: Request, here: Here, actor: Developer, name: PathName, wanted: ImportRequest
) -> Imported:
    """Register what a source holds, read by the server: `https://`, `hf://`, or a store that the operator allows.

    An ONNX or skops file, a folder, an archive of one, an MLflow model, or one model of a Triton repository (each of
    its versions becomes one). It answers when all is registered.
    """
    if here.imports is None:
        raise NotFound("this server brings no models; push the files instead")
    made = await to_thread.run_sync(here.imports.run, actor, name, wanted, limiter=request.app.state.uploads)
    return Imported(items=made)
