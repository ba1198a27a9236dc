"""Health by the names that probes, load balancers and other servers use for it; V2 has its own beside these.

``/livez``, ``/ping`` and their like: the process answers. ``/readyz``: every deployed endpoint is ready.
"""

from __future__ import annotations

import re

from modelport.api.answers import answer, error_answer
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.engine.dataplane import DataPlane

LIVE = ("/healthz", "/livez", "/health", "/ping", "/-/healthz")
READY = ("/readyz",)


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The aliases, all public."""

    async def live(request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer({"status": "ok"})

    async def ready(request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        return answer({"status": "ok"}) if plane.ready else answer({"status": "not ready"}, 503)

    handlers = [*((path, live) for path in LIVE), *((path, ready) for path in READY)]
    return [HttpRoute("GET", re.compile(re.escape(path)), run, error_answer, public=True) for path, run in handlers]
