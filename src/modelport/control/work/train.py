"""Job ``train``: a recipe learns from rows, and what it made becomes a version, judged as it will be served.

Choices are made by the validation rows; the test part is opened once, at the end. Nothing is registered before all of
that is done, and never twice.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import judging, made, training
from modelport.control.work.training import Plan
from modelport.errors import InvalidInput
from modelport.schemas.evaluation import Evaluation, Purpose
from modelport.schemas.models import ModelVersion
from modelport.schemas.training import TrainParams
from modelport.training.recipe import Trained, TrainingData

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_KEPT_ASIDE = 0.2


class Train:
    """The work of the kind."""

    Params = TrainParams

    def check(self, services: Services, actor: Actor, params: TrainParams) -> None:
        training.plan(services, actor, params)

    def inputs(self, services: Services, actor: Actor, params: TrainParams) -> list[str] | None:
        found = made.digests(services, actor, [params.data, *([params.replay] if params.replay else [])])
        if found is None:
            return None
        start = made.model_of(services, actor, params.start).digest if params.start else ""
        return [*found, start, *(f"{entry.path} {entry.sha256}" for entry in params.files)]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.versions_there(services, actor, [str(result.get("model"))])

    def run(self, run: JobRun, params: TrainParams) -> dict[str, Any]:
        def learn(planned: Plan, pinned: TrainParams, data: TrainingData) -> Learnt:
            return Learnt(planned, pinned, *training.learn(run, run.folder / "model", planned, pinned, data))

        return make_version(run, params, "train", learn)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What is to become a version."""

    planned: Plan
    params: TrainParams
    trained: Trained
    out: Path
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the job's result says besides."""


def make_version(
    run: JobRun, params: TrainParams, purpose: Purpose, learn: Callable[[Plan, TrainParams, TrainingData], Learnt]
) -> dict[str, Any]:
    """Have ``learn`` learn from the rows, judge what it made as it is served, register it; the job's result."""
    note = run.folder / "result.json"
    params = training.pinned(run, params)
    if (before := run.services.registry.made_from(run.actor, training.job_parent(run.id))) and note.exists():
        judging.record(run, run.services.datasets.resolve(run.actor, params.data)[0], before[0])
        return {**json.loads(note.read_text()), **made.version_told(before[0])}
    planned, warnings = training.plan(run.services, run.actor, params)
    data, test, kept_aside = lay_out(run, planned, params)
    learnt = learn(planned, params, data)
    planned, params, out = learnt.planned, learnt.params, learnt.out
    trained = replace(learnt.trained, warnings=[*warnings, *learnt.trained.warnings])
    push, draft = training.offer(run, planned, params, trained, out)
    judge = judging.Judge(run, planned, trained, purpose)
    named = planned.validation if isinstance(planned.validation, str) else None
    found = {"validation": judge.rows(draft, data.validation, "validation", named)}
    if test and judge.asks(draft):
        found["test"] = judge.rows(draft, test, "test", planned.test)
    elif test:
        warnings.append(f"part {planned.test!r} was not judged: this recipe's figures are of the validation rows alone")
    figures = {part: evaluation.figures for part, evaluation in found.items()}
    if params.folds is not None:
        figures |= _cross_validated(run, planned, params, data, params.folds)
    if kept_aside and params.start is not None:
        figures |= _forgotten(run, params, judge, draft, kept_aside, warnings)
    result = {**_result(planned, trained, found, figures, warnings), **learnt.told}
    made.write_whole(note, result)
    told = {"metrics": manifest_metrics(figures, trained.metrics)}
    version = run.services.registry.push(run.actor, draft.model, push.model_copy(update=told))
    judging.record(run, planned.data, version)
    return {**result, **made.version_told(version)}


def lay_out(run: JobRun, planned: Plan, params: TrainParams) -> tuple[TrainingData, tuple[Path, ...], tuple[Path, ...]]:
    """The rows to learn from and to choose by, those of the test part, and older ones that tell what was forgotten."""
    data, test = training.lay_out(run, planned, params.seed, params.replay)
    data, kept_aside = _replayed(run, planned, params, data)
    return data, test, kept_aside


def manifest_metrics(figures: Mapping[str, Mapping[str, float]], more: Mapping[str, float]) -> dict[str, float]:
    """Figures as the manifest names them: ``validation_accuracy``, ``test_accuracy`` and so on."""
    found = {f"{part}_{name}": value for part, told in figures.items() for name, value in told.items()}
    return {name: float(value) for name, value in {**found, **more}.items() if math.isfinite(value)}


def _result(
    planned: Plan, trained: Trained, found: Mapping[str, Evaluation], figures: Mapping[str, Mapping[str, float]],
    warnings: list[str],
) -> dict[str, Any]:  # fmt: skip
    """What conditions of pipelines read by name are the figures of the validation rows."""
    judged = (f"{part}: {warning}" for part, evaluation in found.items() for warning in evaluation.warnings)
    return {
        **figures["validation"],
        "data": planned.rows_of(planned.train),
        "task": trained.task,
        "main": found["validation"].main,
        "figures": {part: dict(told) for part, told in figures.items()},
        "training": trained.metrics,
        "warnings": list(dict.fromkeys([*trained.warnings, *warnings, *judged])),
    }


# Folds


def _cross_validated(
    run: JobRun, planned: Plan, params: TrainParams, data: TrainingData, folds: int
) -> dict[str, dict[str, float]]:
    """Each fold of the rows judged by what was learnt from the others: means, and how far folds differ."""
    folder = run.folder / "folds"
    shares = {f"fold-{number}": 1 / folds for number in range(folds)}
    rows = [*data.train, *(data.validation if isinstance(planned.validation, float) else ())]
    parts = training.split_rows(folder / "rows", rows, planned, shares, params.seed)
    told = []
    for number, (name, held) in enumerate(parts.items()):
        note = folder / f"{name}.json"
        if not note.exists():
            run.progress(number, folds, f"fold {number + 1} of {folds}", "folds")
            others = tuple(part for other, files in parts.items() if other != name for part in files)
            laid = replace(data, train=others, validation=tuple(held))
            trained, out = training.learn(run, folder / name, planned, params, laid, lambda *told: None)
            _, draft = training.offer(run, planned, params, trained, out, keep=False)
            judge = judging.Judge(training.job_in(run, folder / name), planned, trained, "train", out)
            made.write_whole(note, judge.rows(draft, tuple(held), name).figures)
            shutil.rmtree(folder / name)
        told.append(json.loads(note.read_text()))
    summary = import_module("modelport.evaluation.intervals").summarise_folds(told)
    return {
        "cv": {name: found.mean for name, found in summary.items()},
        "cv_std": {name: found.std for name, found in summary.items()},
    }


# What was learnt before


def _replayed(
    run: JobRun, planned: Plan, params: TrainParams, data: TrainingData
) -> tuple[TrainingData, tuple[Path, ...]]:
    """The older rows to mix in, and those of them that are kept aside to tell what was forgotten."""
    if not data.replay or params.replay is None:
        return data, ()
    older, part = run.services.datasets.resolve(run.actor, params.replay)
    for name in ("validation", "test"):
        if part is None and name in older.manifest.parts:
            _, aside = made.parts_of(run.services, run.actor, f"{older.dataset}:{older.version}/{name}")
            return data, tuple(aside)
    shares = {"train": 1 - _KEPT_ASIDE, "validation": _KEPT_ASIDE}
    parts = training.split_rows(run.folder / "replay", data.replay, planned, shares, params.seed)
    return replace(data, replay=tuple(parts["train"])), tuple(parts["validation"])


def _forgotten(
    run: JobRun, params: TrainParams, judge: judging.Judge, draft: ModelVersion, rows: tuple[Path, ...],
    warnings: list[str],
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The old rows by the version before and by this one; raises InvalidInput when too much was forgotten."""
    if not judge.asks(draft):
        told = "what was forgotten is not known: this recipe's figures are of the validation rows alone"
        if params.max_forgotten is not None:
            raise InvalidInput(f"max_forgotten: {told}; leave it out")
        warnings.append(told)
        return {}
    earlier = made.model_of(run.services, run.actor, str(params.start))
    before = judge.rows(earlier, rows, "replay-before")
    after = judge.rows(draft, rows, "replay")
    name = after.main
    if name is not None and name in before.figures:
        fall = judging.worse_by(name, before.figures[name], after.figures[name])
        told = f"{name} on {params.replay} was {before.figures[name]:.4g} and is {after.figures[name]:.4g} now"
        if params.max_forgotten is not None and fall > params.max_forgotten:
            raise InvalidInput(
                f"{told}: it fell by more than {params.max_forgotten:g}, so nothing was registered; give more of the "
                "old rows, or a lower learning rate"
            )
        if fall > 0:
            warnings.append(f"{told}: some of what was learnt before is forgotten")
    return {"replay_before": before.figures, "replay": after.figures}
