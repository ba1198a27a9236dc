"""The rows' predictions by a version as it is served: on replicas of the job's own, raw columns in, answers out.

What trains and what evaluates judge by the same answers that a caller would get. A version need not be registered.
A killed attempt goes on where it was: rows that were answered are not asked about again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from modelport.control.work import made
from modelport.control.work.predict_run import Predictor
from modelport.data.binding import bind
from modelport.data.outputs import Wanted, wanted
from modelport.engine.routing import features_of
from modelport.errors import InvalidInput, NotFound
from modelport.evaluation.answers import pick
from modelport.schemas.models import Manifest
from modelport.schemas.predictions import PredictParams
from modelport.schemas.training import Task

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun

_TASKS: tuple[Task, ...] = get_args(Task)
_ADVICE = "correct the row, or leave it out with `modelport data clean`"


@dataclass(frozen=True, slots=True)
class Asking:
    """How rows are asked about."""

    truth: str
    """The column that holds the truth; the model does not see it."""
    keep: Sequence[str] = ()
    """Columns that are wanted beside the answers."""
    task: Task | None = None
    """None to tell by the outputs and the truth."""
    inputs: Mapping[str, Sequence[str]] | None = None
    """Columns by input, where names do not tell."""
    output: str | None = None
    """The output that answers, where names do not tell."""
    nulls: str = "refuse"
    workers: int = 1
    threads: int = 1
    batch: int = 64


@dataclass(frozen=True, slots=True)
class Served:
    """Answers: Parquet files that ``evaluation.judge`` takes."""

    parts: list[Path]
    task: Task
    labels: list[str] | None
    """Classes in the order of the probabilities."""


def check_answers(manifest: Manifest, columns: Mapping[str, str], asking: Asking) -> Task:
    """What can be known to be wrong by names and types (as Arrow writes them) alone; the task."""
    if asking.truth not in columns:
        raise NotFound(
            f"target: the data has no column {asking.truth[:100]!r}; it has {', '.join(columns)[:500]}; say which "
            "column holds the truth"
        )
    wants, task = _wants(manifest, columns, asking)
    pick(task, wants, asking.output)
    return task


def answers_of(
    run: JobRun, manifest: Manifest, parts: Sequence[Path], asking: Asking, *, name: str, files: Path | None = None
) -> Served:
    """The answers of a version to all rows of Parquet files, in their order.

    ``name`` is that of a folder inside the job's own where they lie; ``files`` the folder of a version that is not
    registered. Raises InvalidInput for columns that do not fit, ModelRejectedInput naming a row that is refused.
    """
    folder = run.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    schema = made.room("writing").schema_of(parts)
    columns = {field.name: str(field.type) for field in schema}
    wants, task = _wants(manifest, columns, asking)
    picked = pick(task, wants, asking.output)
    note = folder / "ranks.json"
    if note.exists():
        wants.ranks.update(json.loads(note.read_text()))
    params = PredictParams.model_validate(
        {
            "model": manifest.model, "data": "rows", "nulls": asking.nulls, "workers": asking.workers,
            "threads": asking.threads, "batch": asking.batch,
        }
    )  # fmt: skip

    def learnt() -> None:
        made.write_whole(note, wants.ranks)

    predictor = Predictor(
        replace(run, folder=folder), params, manifest, _binding(manifest, columns, asking), wants, files, _ADVICE
    )
    before = Path.cwd()
    try:
        asyncio.run(predictor.run(list(parts), lambda number, file: None, learnt))
    finally:
        os.chdir(before)
    shutil.rmtree(folder / "replicas", ignore_errors=True)
    results, ready = folder / "parts", folder / "answers"
    found = import_module("modelport.evaluation.rows").write_answers(
        results, ready, wants, picked, task, asking.truth, asking.keep
    )
    labels = list(picked.labels) if picked.labels is not None else None
    return Served(found, task, labels)


def binding_of(
    manifest: Manifest, columns: Mapping[str, str], truth: str | None, inputs: Mapping[str, Sequence[str]] | None
) -> Any:
    """Which columns (with their types as Arrow writes them) a version is asked about, the truth never among them."""
    given = {**manifest.columns, **(inputs or {})}
    seen = {name: kind for name, kind in columns.items() if name != truth}
    if truth not in given and any(spec.name == truth for spec in manifest.signature.inputs):
        raise InvalidInput(
            f"input {truth!r} has the name of the column that holds the truth, which no model may see. A "
            "forecast takes the past of what it tells: it is judged by rows with a list of past values for each input, "
            f"and a list of those that follow; say which columns these are (inputs.{truth}, target)"
        )
    return bind(manifest.signature, features_of(manifest.details), seen, given)


def _binding(manifest: Manifest, columns: Mapping[str, str], asking: Asking) -> Any:
    return binding_of(manifest, columns, asking.truth, asking.inputs)


def _wants(manifest: Manifest, columns: Mapping[str, str], asking: Asking) -> tuple[Wanted, Task]:
    """Columns of the results, and the task."""
    named = [spec for spec in manifest.signature.outputs if manifest.labels.get(spec.name) and spec.datatype != "BYTES"]
    beside = list(dict.fromkeys((asking.truth, *asking.keep)))
    wants = wanted(
        manifest.signature, manifest.labels, beside, number=False, probabilities=len(named) == 1, record=False,
        has_rows=_binding(manifest, columns, asking).has_rows,
    )  # fmt: skip
    task = asking.task or next((known for known in _TASKS if known == manifest.task), None)
    if task is None:
        scored = any(column.part for column in wants.columns)
        task = "classification" if scored or columns[asking.truth] in ("string", "bool") else "regression"
    return wants, task
