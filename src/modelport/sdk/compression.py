"""Compression: a version made smaller and faster, by methods or to a budget. Compressing is a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelport.schemas.compression import Budget, MethodInfo
from modelport.schemas.jobs import Job
from modelport.sdk.datasets import submitted
from modelport.sdk.files import Progress, ignore_progress
from modelport.sdk.flows import D_co, Flow, Operations, operation, send_json
from modelport.sdk.jobs import JobWatch, ignore_job
from modelport.sdk.models import API
from modelport.sdk.training import sent

MethodList = list[MethodInfo]


class Compression(Operations[D_co]):
    """``client.compression``."""

    @operation
    def methods(self) -> Flow[MethodList]:
        """The ways to compress that the server has, with their options."""
        found = yield from send_json("GET", f"{API}/methods")
        return [MethodInfo.model_validate(item) for item in found["items"]]

    @operation
    def compress(
        self,
        /,
        model: str,
        *,
        budget: Budget | Mapping[str, float] | None = None,
        methods: Sequence[str | Mapping[str, Any]] = (),
        data: str | None = None,
        code: Sequence[str | Path] = (),
        wait: bool = True,
        upload_progress: Progress = ignore_progress,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Make ``NAME[:VERSION|@ALIAS]`` smaller: to a ``budget``, or by ``methods`` one after another.

        A method is a name, or ``{"method": "quantize", "options": {"mode": "static"}}``. The result's ``model`` is the
        new version; it is None where ``met`` is False: then no candidate keeps to the budget, and nothing was
        registered. ``code`` is what the version's recipe was given to build its network. ``params`` are further fields
        of ``CompressParams``, and ``cores``, ``memory_mb``, ``priority``, ``retries`` of the job.
        """
        asked: dict[str, Any] = {"model": model, "data": data, **params}
        if budget is not None:
            asked["budget"] = budget.model_dump(exclude_none=True) if isinstance(budget, Budget) else dict(budget)
        if methods:
            asked["methods"] = [{"method": one} if isinstance(one, str) else dict(one) for one in methods]
        if code:
            asked["files"] = yield from sent(code, upload_progress)
        return (yield from submitted("compress", asked, wait, watch))
