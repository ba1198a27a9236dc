"""Job ``grade``: a version, or all versions of a model, measured as they are served, on the machine of the job."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.assembly import trust_of
from modelport.control.runnable import check_runnable
from modelport.control.work import made
from modelport.control.work.measuring import measure
from modelport.control.work.questions import Rows
from modelport.control.work.served import binding_of
from modelport.errors import InvalidInput, ModelportError
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.grades import Grade as Graded
from modelport.schemas.grades import GradeParams
from modelport.schemas.models import ModelVersion

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)


class Grade:
    """The work of the kind."""

    Params = GradeParams

    def check(self, services: Services, actor: Actor, params: GradeParams) -> None:
        version = made.model_of(services, actor, params.model)
        if params.all and params.model != version.model:
            raise InvalidInput(f"all: leave the version out of {params.model[:100]!r}, or ask for that one alone")
        if version.manifest.runtime:
            check_runnable(trust_of(services.settings), version.manifest, DeploymentSpec())
        if params.data is None:
            if params.target is not None or params.inputs:
                raise InvalidInput("target and inputs say which columns of the data are meant; say which data")
            return
        made.check_installed()
        data, part = services.datasets.resolve(actor, params.data)
        if not (data.manifest.parts[part] if part else data.rows):
            raise InvalidInput(f"data: {params.data} has no rows to ask about")
        made.check_column(data, params.target, "target")
        columns = {column.name: column.type for column in data.manifest.columns}
        if columns and version.manifest.runtime:
            binding_of(version.manifest, columns, params.target or data.manifest.label, params.inputs or None)

    def run(self, run: JobRun, params: GradeParams) -> dict[str, Any]:
        pinned = _pin(run, params)
        rows = None
        if pinned["data"] is not None:
            data, parts = made.parts_of(run.services, run.actor, pinned["data"])
            rows = Rows(parts, params.target or data.manifest.label, params.inputs or None)
        graded = {f"{one.model}:{one.version}": one for one in run.services.grades.made_by(run.actor, run.id)}
        failed = {}
        for number, ref in enumerate(pinned["models"]):
            if ref in graded:
                continue
            if len(pinned["models"]) > 1:
                _log.info("%s, %d of %d", ref, number + 1, len(pinned["models"]))
            try:
                graded[ref] = _graded(run, made.model_of(run.services, run.actor, ref), rows, params)
            except ModelportError as error:
                if not params.all:
                    raise
                _log.error("%s: %s", ref, error.message)
                failed[ref] = error.message[:300]
        if not graded:
            raise InvalidInput(f"none of {len(failed)} versions could be measured: {next(iter(failed.values()))}")
        return _result(pinned["models"], graded, failed)


def _graded(run: JobRun, version: ModelVersion, rows: Rows | None, params: GradeParams) -> Graded:
    batches = (1, params.batch) if params.batch > 1 else (1,)
    measured = measure(
        run, version.manifest, rows=rows, threads=params.threads, batches=batches, seconds=params.seconds
    )  # fmt: skip
    found = run.services.grades.record(run.actor, version, measured, run.id)
    _log.info("%s is %s", measured.model, found.grade or f"not graded: {measured.reason}")
    return found


def _pin(run: JobRun, params: GradeParams) -> dict[str, Any]:
    """The same versions at every attempt, whatever ``latest`` and an alias mean by then."""

    def settle() -> dict[str, Any]:
        data = made.rows_meant(run, params.data) if params.data else None
        if not params.all:
            return {"models": [made.model_meant(run, params.model)], "data": data}
        found = run.services.registry.versions(run.actor, params.model)
        return {"models": [f"{one.model}:{one.version}" for one in found], "data": data}

    return made.settled(run, settle)


def _result(asked: list[str], graded: dict[str, Graded], failed: dict[str, str]) -> dict[str, Any]:
    """Figures of the newest version at the top, for gates; the grades of all are in the registry."""
    first = next(graded[ref] for ref in asked if ref in graded)
    measured, latency = first.measured, first.measured.latency
    figures = {
        "size_mb": measured.served_bytes / 1e6, "memory_mb": measured.peak_mb, "start_s": measured.start_s,
        "p50_ms": latency and latency.p50_ms, "p99_ms": latency and latency.p99_ms, "rows_per_s": measured.rows_per_s,
        "cost_per_million": first.cost_per_million, "quality": first.quality and first.quality.value,
    }  # fmt: skip
    return {
        **{name: value for name, value in figures.items() if value is not None},
        "model": measured.model,
        "grade": first.grade,
        "machine": measured.machine,
        "graded": {ref: one.grade for ref, one in list(graded.items())[:1000]},
        "warnings": [f"{ref}: {why}" for ref, why in failed.items()][:20],
    }
