"""The ways to learn that this server has. Training itself is a job of kind ``train``."""

from __future__ import annotations

from fastapi import APIRouter

from modelport.api.native.context import Page, Viewer
from modelport.control.work.training import all_recipes
from modelport.schemas.training import RecipeInfo

router = APIRouter(prefix="/recipes", tags=["training"])


@router.get("", operation_id="list_recipes")
def list_recipes(actor: Viewer) -> Page[RecipeInfo]:
    """The recipes of this server, with the JSON Schema of their options."""
    return Page(items=all_recipes())
