"""Judges versions for the jobs that make them: raw rows through the version as it is served, figures of its answers.

Each judgement is made once and noted in the job's folder; those of rows that callers may name are kept as evaluations.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.control.evaluations import told_of
from modelport.control.work import made, served
from modelport.control.work.served import Asking
from modelport.evaluation.score import less_is_better, main_figure
from modelport.schemas.datasets import DatasetVersion
from modelport.schemas.evaluation import Evaluation, Opening, Purpose
from modelport.schemas.models import ModelVersion
from modelport.training.recipe import Trained

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun
    from modelport.control.work.training import Rows

_OWN = "validation_"
_RESAMPLES = 200


class Judge:
    """Judges what one job has made."""

    def __init__(
        self, run: JobRun, planned: Rows, trained: Trained, purpose: Purpose, files: Path | None = None,
        resamples: int = _RESAMPLES,
    ) -> None:  # fmt: skip
        """``files``: the folder of a version whose contents are not in the store; ``resamples``: for intervals."""
        self._run, self._planned, self._trained, self._purpose = run, planned, trained, purpose
        self._files, self._resamples = files, resamples

    def rows(self, version: ModelVersion, parts: Sequence[Path], name: str, part: str | None = None) -> Evaluation:
        """The version's answers to rows; ``name`` is that of the folder where they lie.

        Rows that are a ``part`` of the data are opened on record.
        """
        openings = [] if part is None else self._open(version, part)
        note = self._run.folder / "judged" / f"{name}.json"
        if note.exists():
            found = Evaluation.model_validate_json(note.read_bytes())
        else:
            found = self._judged(version, parts, name, note)
        if part is not None:
            found.warnings = [*told_of(self._planned.rows_of(part), openings), *found.warnings]
            note.with_suffix(".part").write_text(part)
        return found

    def _open(self, version: ModelVersion, part: str) -> list[Opening]:
        record, run = self._run.services.evaluations, self._run
        return record.open(run.actor, self._planned.data, part, self._purpose, run.id, version.model)

    def _judged(self, version: ModelVersion, parts: Sequence[Path], name: str, note: Path) -> Evaluation:
        self._run.progress(0, None, f"judging by the {name} rows", "rows")
        found = self._served(version, parts, name) if self.asks(version) else self._told(parts)
        note.parent.mkdir(exist_ok=True)
        made.write_whole(note, found.model_dump(mode="json"))
        return found

    def asks(self, version: ModelVersion) -> bool:
        """Whether rows of the data have a truth, and the model can be asked about them.

        Else only the validation rows have figures: those that the recipe tells.
        """
        asked = self._planned.target is not None and bool(version.manifest.runtime)
        return asked and not self._trained.judged_itself

    def _served(self, version: ModelVersion, parts: Sequence[Path], name: str) -> Evaluation:
        target, trained = str(self._planned.target), self._trained
        asking = Asking(
            truth=target, task=trained.task, inputs=trained.inputs or None, nulls="nan", threads=self._run.threads
        )
        answers = served.answers_of(
            self._run, version.manifest, parts, asking, name=f"judging-{name}", files=self._files
        )
        judge = import_module("modelport.evaluation.judge")
        asked = judge.Asked(task=answers.task, truth_name=target, labels=answers.labels, resamples=self._resamples)
        found: Evaluation = judge.judge(answers.parts, asked)
        return found

    def _told(self, parts: Sequence[Path]) -> Evaluation:
        """What the recipe itself found out about its validation rows."""
        own = {k.removeprefix(_OWN): v for k, v in self._trained.metrics.items() if k.startswith(_OWN)}
        rows = sum(made.room("writing").rows_in(part) for part in parts)
        return Evaluation(task=self._trained.task, rows=rows, main=main_figure(self._trained.task, own), figures=own)


def record(run: JobRun, data: DatasetVersion, version: ModelVersion) -> None:
    """Write on record what was found about a version, by every part that was opened for it."""
    for note in sorted((run.folder / "judged").glob("*.part")):
        found = Evaluation.model_validate_json(note.with_suffix(".json").read_bytes())
        run.services.evaluations.record(
            run.actor, data, note.read_text(), run.id, version.model, model=version.model, version=version.version,
            figures=found.figures, report=found,
        )  # fmt: skip


def worse_by(name: str, before: float, after: float) -> float:
    """By how much a figure fell, whichever way is better; below 0 when it rose."""
    return after - before if less_is_better(name) else before - after
