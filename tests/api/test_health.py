"""Health by its many names."""

from __future__ import annotations

from modelport.api import health, inference_v2
from tests.api.asgi import call
from tests.api.plane import zoo


async def test_live_and_ready() -> None:
    plane = zoo()
    routes = health.routes(plane)
    assert all(route.public for route in routes)
    for path in (*health.LIVE, *health.READY):
        assert (await call(routes, "GET", path)).status == 200
    plane.by_name["mlp"].is_ready = False
    for path in health.LIVE:
        assert (await call(routes, "GET", path)).status == 200
    for path in health.READY:
        assert (await call(routes, "GET", path)).status == 503


async def test_v2_answers_health_alone_without_a_key() -> None:
    public = {route.pattern.pattern for route in inference_v2.routes(zoo()) if route.public}
    assert public == {"/v2/health/live", "/v2/health/ready"}
