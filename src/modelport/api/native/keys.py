"""Routes of keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from modelport.api.native.context import Admin, Here, Limit, Page
from modelport.api.native.errors import responses
from modelport.schemas.access import Key, KeyCreate, NewKey

router = APIRouter(prefix="/keys", tags=["keys"])

_ID = "^[0-9a-f]{1,32}$"


@router.get("")
def list_keys(
    here: Here,
    actor: Admin,
    limit: Limit = 100,
    after: Annotated[str | None, Query(pattern=_ID, description="Id of the previous page's last item.")] = None,
) -> Page[Key]:
    """Keys without their secrets, oldest first."""
    return Page(items=here.identity.list(actor, limit, after))


@router.post("", status_code=201)
def create_key(here: Here, actor: Admin, wish: KeyCreate) -> NewKey:
    """Make a key. Its secret is in this answer and nowhere else. From the first key on, every caller needs one."""
    return here.identity.create(actor, wish)


@router.delete("/{id}", status_code=204, responses=responses(404))
def revoke_key(here: Here, actor: Admin, id: str) -> None:
    """Make a key useless, at once and for good."""
    here.identity.revoke(actor, id)
