"""The ways to compress that this server has. Compressing itself is a job of kind ``compress``."""

from __future__ import annotations

from fastapi import APIRouter

from modelport.api.native.context import Page, Viewer
from modelport.control.work.compression import all_methods
from modelport.schemas.compression import MethodInfo

router = APIRouter(prefix="/methods", tags=["compression"])


@router.get("", operation_id="list_methods")
def list_methods(actor: Viewer) -> Page[MethodInfo]:
    """The methods of this server, with the JSON Schema of their options."""
    return Page(items=all_methods())
