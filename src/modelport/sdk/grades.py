"""Grades: have versions measured, and see what they are worth beside their kin. Measuring is a job."""

from __future__ import annotations

from typing import Any

from modelport.schemas.grades import Family, Grade
from modelport.schemas.jobs import Job
from modelport.sdk.datasets import submitted
from modelport.sdk.flows import D_co, Flow, Operations, operation, path_of, send_json
from modelport.sdk.jobs import JobWatch, ignore_job
from modelport.sdk.models import API

GradeList = list[Grade]


class Grades(Operations[D_co]):
    """``client.grades``."""

    @operation
    def grade(
        self, /, model: str, data: str | None = None, *, wait: bool = True, watch: JobWatch = ignore_job, **params: Any
    ) -> Flow[Job]:
        """Measure ``NAME[:VERSION|@ALIAS]`` on the server's machine; the result has its figures.

        ``data`` are rows to ask about, ``NAME[:VERSION][/PART]``. ``params`` are further fields of ``GradeParams``
        (``all``, ``threads``, ``batch``, ``seconds`` …), and ``cores``, ``memory_mb``, ``priority``, ``retries`` of the
        job, which holds a core for each thread unless ``cores`` says otherwise.
        """
        asked = {"model": model, "data": data, **params}
        asked.setdefault("cores", params.get("threads"))
        return (yield from submitted("grade", asked, wait, watch))

    @operation
    def list(
        self, model: str | None = None, version: int | None = None, limit: int = 100, after: int | None = None
    ) -> Flow[GradeList]:
        """What was measured, newest first; class, price and quality are of now."""
        asked = {"model": model, "version": version, "limit": limit, "after": after}
        params = {name: str(value) for name, value in asked.items() if value is not None}
        found = yield from send_json("GET", f"{API}/grades", params=params)
        return [Grade.model_validate(item) for item in found["items"]]

    @operation
    def family(self, model: str, machine: str | None = None) -> Flow[Family]:
        """A model's versions and their kin, the cheapest first; raises NotFound."""
        params = {} if machine is None else {"machine": machine}
        return Family.model_validate((yield from send_json("GET", API + path_of("grades", model), params=params)))
