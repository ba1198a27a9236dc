"""Evaluations: judge a version by rows whose truth is known, and look at what was found. Judging is a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelport.schemas.evaluation import EvaluationRecord, EvaluationShown
from modelport.schemas.jobs import Job
from modelport.sdk.datasets import submitted
from modelport.sdk.files import Progress, ignore_progress
from modelport.sdk.flows import D_co, Flow, Operations, operation, send_json
from modelport.sdk.jobs import JobWatch, ignore_job
from modelport.sdk.models import API
from modelport.sdk.training import sent

EvaluationList = list[EvaluationRecord]


class Evaluations(Operations[D_co]):
    """``client.evaluations``."""

    @operation
    def evaluate(
        self,
        /,
        model: str,
        data: str,
        *,
        code: Sequence[str | Path] = (),
        wait: bool = True,
        upload_progress: Progress = ignore_progress,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Judge ``NAME[:VERSION|@ALIAS]`` by the rows of ``NAME[:VERSION][/PART]``; the result has its figures.

        ``code`` are Python files and folders of this machine that hold ``metrics`` of your own. ``params`` are further
        fields of ``EvaluateParams`` (``against``, ``slices``, ``metrics`` …), and ``cores``, ``memory_mb``, ``gpus``,
        ``priority``, ``retries`` of the job. ``get(job.result["evaluation"])`` has the whole report.
        """
        asked = {"model": model, "data": data, **params}
        if code:
            asked["files"] = yield from sent(code, upload_progress)
        return (yield from submitted("evaluate", asked, wait, watch))

    @operation
    def list(
        self,
        model: str | None = None,
        version: int | None = None,
        data: str | None = None,
        limit: int = 100,
        after: int | None = None,
    ) -> Flow[EvaluationList]:
        """What was judged by which rows, newest first."""
        asked = {"model": model, "version": version, "data": data, "limit": limit, "after": after}
        params = {name: str(value) for name, value in asked.items() if value is not None}
        found = yield from send_json("GET", f"{API}/evaluations", params=params)
        return [EvaluationRecord.model_validate(item) for item in found["items"]]

    @operation
    def get(self, id: int) -> Flow[EvaluationShown]:
        """One with its whole report, and when the same rows were opened before; raises NotFound."""
        return EvaluationShown.model_validate((yield from send_json("GET", f"{API}/evaluations/{int(id)}")))
