"""Job ``evaluate``: a version, as it is served, judged by rows whose truth is known; beside another one, if wanted.

The rows are opened in the record of evaluations before anybody looks at them; what was found is written there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.assembly import trust_of
from modelport.control.evaluations import told_of
from modelport.control.runnable import check_runnable
from modelport.control.work import made
from modelport.control.work.served import Asking, Served, answers_of, check_answers
from modelport.errors import InvalidInput, NotAllowed, NotFound
from modelport.schemas.datasets import DatasetVersion
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.evaluation import EvaluateParams, Evaluation, Opening
from modelport.schemas.models import ModelVersion
from modelport.storage.paths import check_paths

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)
_SIMPLE = ("int", "uint", "float", "double", "halffloat", "bool", "string")


class Evaluate:
    """The work of the kind."""

    Params = EvaluateParams

    def check(self, services: Services, actor: Actor, params: EvaluateParams) -> None:
        made.check_installed()
        data, part = services.datasets.resolve(actor, params.data)
        if not (data.manifest.parts[part] if part else data.rows):
            raise InvalidInput(f"data: {params.data} has no rows, so there is nothing to judge")
        columns = {column.name: column.type for column in data.manifest.columns}
        asking = _asking(params, data)
        if data.manifest.columns and (nulls := _nulls(data, asking.truth)) and part is None:
            raise InvalidInput(
                f"target: column {asking.truth[:100]!r} has no value in {nulls} rows, which cannot be judged; leave "
                "them out with `modelport data clean`"
            )
        check_paths(entry.path for entry in params.files)
        services.datasets.check_uploaded(actor, params.files)
        for what in ("weight", "group"):
            made.check_column(data, getattr(params, what), what)
        for name in params.slices:
            made.check_column(data, name, "slices")
        if params.metrics and not services.settings.trust.python_predictors:
            raise NotAllowed(
                "metrics: figures of your own are Python code, which this server does not run: an operator who trusts "
                "whoever may submit jobs can set MODELPORT_TRUST_PYTHON_PREDICTORS=true"
            )
        for ref in (params.model, params.against):
            if ref is not None:
                version = made.model_of(services, actor, ref)
                check_runnable(trust_of(services.settings), version.manifest, DeploymentSpec())
                if check_answers(version.manifest, columns, asking) == "classification":
                    _check_classes(version, data, asking.truth)

    def inputs(self, services: Services, actor: Actor, params: EvaluateParams) -> list[str] | None:
        found = made.digests(services, actor, [params.data])
        if found is None:
            return None
        versions = [made.model_of(services, actor, ref) for ref in (params.model, params.against) if ref]
        return [*found, *(f"{one.model}:{one.version} {one.digest}" for one in versions)]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        try:
            services.evaluations.get(actor, int(result.get("evaluation", 0)))
        except NotFound:
            return False
        return True

    def run(self, run: JobRun, params: EvaluateParams) -> dict[str, Any]:
        pinned = _pin(run, params)
        version = made.model_of(run.services, run.actor, pinned["model"])
        against = made.model_of(run.services, run.actor, pinned["against"]) if pinned["against"] else None
        data, parts = made.parts_of(run.services, run.actor, pinned["data"])
        part = pinned["data"].partition("/")[2] or None
        metrics = _metrics(run, params)
        asking = _asking(params, data)
        openings = _open(run, data, part, version)
        if against is not None:
            _open(run, data, part, against)
        served = answers_of(run, version.manifest, parts, asking, name="served")
        other = None
        if against is not None:
            other = answers_of(run, against.manifest, parts, asking, name="against")
        run.progress(data.rows, data.rows, "judging")
        report = _judged(params, asking, version, against, served, other, metrics)
        report.warnings = [*told_of(pinned["data"], openings), *_learnt_from(version, data, part), *report.warnings]
        return _recorded(run, params, data, part, version, against, report, len(openings))


def _asking(params: EvaluateParams, data: DatasetVersion) -> Asking:
    target = params.target or data.manifest.label
    if target is None:
        names = ", ".join(column.name for column in data.manifest.columns)
        raise InvalidInput(
            f"target: dataset {data.dataset}:{data.version} has no label; say which column holds the truth: it has "
            f"{names[:500]}"
        )
    kept = dict.fromkeys(name for name in (*params.slices, params.weight, params.group) if name)
    if params.metrics:
        kept |= dict.fromkeys(
            column.name for column in data.manifest.columns if column.type.startswith(_SIMPLE) or column.name in kept
        )
    return Asking(
        target, list(kept), params.task, params.inputs, params.output, params.nulls, params.workers, batch=params.batch
    )


def _check_classes(version: ModelVersion, data: DatasetVersion, target: str) -> None:
    """Raise InvalidInput when none of the texts in the truth is a class of the model, as far as statistics tell."""
    column = next(column for column in data.manifest.columns if column.name == target)
    known = {name for names in version.manifest.labels.values() for name in names}
    seen = [one.value for one in column.top]
    if column.type == "string" and known and seen and known.isdisjoint(seen):
        raise InvalidInput(
            f"target: column {target[:100]!r} holds {', '.join(seen[:5])[:200]}; {version.model}:{version.version} "
            f"knows {', '.join(sorted(known)[:5])[:200]}; is it the right column, and the right model?"
        )


def _nulls(data: DatasetVersion, name: str) -> int:
    return next((column.nulls for column in data.manifest.columns if column.name == name), 0)


def _pin(run: JobRun, params: EvaluateParams) -> dict[str, Any]:
    """The same versions at every attempt, whatever ``latest`` and an alias mean by then."""
    models = {"model": params.model, "against": params.against}
    return made.settled(
        run,
        lambda: {
            **{name: made.model_meant(run, ref) if ref else None for name, ref in models.items()},
            "data": made.rows_meant(run, params.data),
        },
    )


def _metrics(run: JobRun, params: EvaluateParams) -> list[Any]:
    """The caller's own figures, loaded before anything else is done."""
    if not params.metrics:
        return []
    folder = run.services.datasets.uploaded(run.actor, params.files) if params.files else None
    found: list[Any] = import_module("modelport.evaluation.own").load_metrics(folder, params.metrics)
    return found


def _open(run: JobRun, data: DatasetVersion, part: str | None, version: ModelVersion) -> list[Opening]:
    subject = f"{version.model}:{version.version}"
    return run.services.evaluations.open(run.actor, data, part, "evaluate", run.id, subject)


def _judged(
    params: EvaluateParams,
    asking: Asking,
    version: ModelVersion,
    against: ModelVersion | None,
    served: Served,
    other: Served | None,
    metrics: Sequence[Any],
) -> Evaluation:
    room = import_module("modelport.evaluation.judge")
    asked = room.Asked(
        served.task, asking.truth, served.labels, other.labels if other is not None else None,
        (f"{version.model}:{version.version}", f"{against.model}:{against.version}" if against else ""),
        params.positive, params.weight, params.group, params.naive, params.slices, params.intervals, params.confidence,
        params.stratified, params.seed,
    )  # fmt: skip
    found: Evaluation = room.judge(served.parts, asked, other.parts if other is not None else None, metrics)
    return found


def _learnt_from(version: ModelVersion, data: DatasetVersion, part: str | None) -> list[str]:
    """A warning when the version was made from these very rows."""
    me = f"dataset:{data.dataset}:{data.version}"
    for parent in version.manifest.parents:
        whole, _, learnt = parent.partition("/")
        if whole == me and (part is None or part == learnt or (not learnt and part == "train")):
            return [
                f"{version.model}:{version.version} was made from {parent.removeprefix('dataset:')}: figures on rows "
                "that a model has learnt from are too good"
            ]
    return []


def _recorded(
    run: JobRun,
    params: EvaluateParams,
    data: DatasetVersion,
    part: str | None,
    version: ModelVersion,
    against: ModelVersion | None,
    report: Evaluation,
    opened_before: int,
) -> dict[str, Any]:
    about = params.model_dump(mode="json", exclude_defaults=True, exclude={"files"})
    keep = run.services.evaluations.record
    if against is not None and report.comparison is not None:
        figures = {one.figure: one.other for one in report.comparison.differences}
        subject = f"{against.model}:{against.version}"
        keep(run.actor, data, part, run.id, subject, model=against.model, version=against.version, figures=figures)
    subject = f"{version.model}:{version.version}"
    kept = keep(
        run.actor, data, part, run.id, subject, model=version.model, version=version.version, figures=report.figures,
        report=report, about=about,
    )  # fmt: skip
    for name, value in report.figures.items():
        run.metric(name, value)
    _log.info("%s on %s: %s", subject, kept.data, report.main and f"{report.main} {report.figures[report.main]:.4g}")
    more = {} if report.comparison is None else {"verdict": report.comparison.verdict}
    return {
        **report.figures,
        "evaluation": kept.id,
        "model": subject,
        "data": kept.data,
        "rows": report.rows,
        "opened_before": opened_before,
        "warnings": report.warnings[:20],
        "figures": report.figures,
        **more,
    }
