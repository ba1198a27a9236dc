"""Route of the audit record."""

from __future__ import annotations

from fastapi import APIRouter

from modelport.api.native.context import Admin, AfterNumber, Here, Limit, Page
from modelport.control import audit
from modelport.schemas.access import AuditRow

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("")
def list_audit(here: Here, actor: Admin, limit: Limit = 100, after: AfterNumber = None) -> Page[AuditRow]:
    """What was done in this project, newest first."""
    return Page(items=audit.rows(here.database, actor, limit, before=after))
