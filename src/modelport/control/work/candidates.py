"""Makes, judges and measures what a compression tries; every step is noted, so that a killed attempt goes on.

A candidate is a sequence of methods. Sequences that begin alike share what they make. Knows the rows and the replicas;
which candidate comes next is the business of ``compress``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.compression import budget as budgets
from modelport.compression.method import Method, Model, Previews, method_of
from modelport.control.work import judging, made, measuring, training
from modelport.control.work.compression import RUNTIMES, Asked
from modelport.control.work.questions import Rows
from modelport.errors import InvalidInput, ModelportError
from modelport.evaluation.score import less_is_better
from modelport.schemas.compression import Candidate, CompressParams, MethodStep, label_of
from modelport.schemas.evaluation import Evaluation
from modelport.schemas.models import ModelVersion, VersionPush
from modelport.training.recipe import Options, Trained, TrainingData, options_of

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)
_QUICK_S, _MEASURE_S = 0.3, 1.0
_LETTERS = 16
_OWN, _BEFORE = "validation_", "_before"


class Made:
    """What a sequence of methods made."""

    def __init__(self, trained: Trained, out: Path, draft: ModelVersion) -> None:
        self.trained, self.out, self.draft = trained, out, draft

    @property
    def model(self) -> Model:
        """For the next method."""
        return Model(self.out, self.draft.manifest)


class Candidates:
    """All candidates of one job."""

    def __init__(
        self, run: JobRun, params: CompressParams, asked: Asked, original: Model, data: TrainingData | None
    ) -> None:
        self._run, self._params, self._asked, self._original, self._data = run, params, asked, original, data
        self._version = asked.version
        self._is_search = not params.methods
        self._folder = run.folder / "candidates"
        self._folder.mkdir(exist_ok=True)
        self._known: dict[Path, Made] = {}
        self.before: Evaluation | None = None
        self.main: str | None = None

    # Making

    def make(self, steps: Sequence[MethodStep], preview: bool = False) -> Made:
        """The files of a sequence; raises what its methods raise."""
        model, found, told = self._original, None, []
        for step in steps:
            method = method_of(step.method)
            options = options_of(method, step.options)
            if preview and isinstance(method, Previews):
                options = method.preview(model, options)
            told.append([step.method, options.model_dump(mode="json")])
            found = self._step(self._folder / _address(told), method, step.method, model, options)
            model = replace(found.model, others=model.others)
        assert found is not None
        return found

    def _step(self, folder: Path, method: Method, name: str, model: Model, options: Options) -> Made:
        run, params, data = self._run, self._params, self._data
        if folder in self._known:  # inspecting files takes a process of its own
            return self._known[folder]
        if not (folder / "trained.json").exists():
            method.check(model, data, options)
        trained, out = training.learnt_once(
            training.job_in(run, folder), folder, params.files, params.seed, model.start,
            lambda attempt: method.compress(attempt, model, data, options), f"method {name!r}",
            lambda *told: None,
        )  # fmt: skip
        _, draft = training.push_of(run, self._name, trained, out, {}, keep=False)
        self._known[folder] = Made(trained, out, draft)
        return self._known[folder]

    @property
    def _name(self) -> str:
        return self._params.name or self._version.model

    def forget_all_but(self, kept: Sequence[Candidate]) -> None:
        """Remove the files of all candidates that are not needed any more; what they were found to be stays."""
        needed = set()
        for one in kept:
            told: list[Any] = []
            for step in one.steps:
                options = options_of(method_of(step.method), step.options)
                told.append([step.method, options.model_dump(mode="json")])
                needed.add(_address(told))
        for folder in self._folder.iterdir():
            if folder.is_dir() and len(folder.name) == _LETTERS and folder.name not in needed:
                shutil.rmtree(folder, ignore_errors=True)
        self._known.clear()

    # Judging

    def judge_original(self) -> Evaluation | None:
        """The original's figures on the rows that a search judges by; None where nobody can tell."""
        manifest = self._version.manifest
        own = {name: value for name, value in manifest.metrics.items() if name.startswith(_OWN)}
        trained = Trained(task=manifest.task or "other", inputs=manifest.columns, metrics=own)  # type: ignore[arg-type]
        trained.judged_itself = manifest.task in ("language", "forecast", "embedding")
        self.before = self._judged(self._version, trained, None, "original")
        self.main = self.before.main if self.before is not None else None
        return self.before

    def _judged(self, version: ModelVersion, trained: Trained, out: Path | None, name: str) -> Evaluation | None:
        rows, data = self._asked.rows, self._data
        if rows is None or data is None or not data.validation:
            return None
        run = training.job_in(self._run, self._folder / "judging" / name)
        judge = judging.Judge(run, rows, trained, "compress", out, resamples=0)
        if not judge.asks(version) and not any(key.startswith(_OWN) for key in trained.metrics):
            return None
        found = judge.rows(version, data.validation, "validation")
        shutil.rmtree(run.folder / "judging-validation", ignore_errors=True)
        return found

    # Finding out

    def look(self, number: int, steps: list[MethodStep]) -> Candidate:
        """A first look: made quickly where a method can, judged, and its size; its speed where the budget asks."""
        seconds = _QUICK_S if self._params.budget.asks_the_machine else None
        return self._found(number, steps, "looked at", seconds, preview=True)

    def measure(self, number: int, steps: list[MethodStep]) -> Candidate:
        """Made in full, judged by all rows, measured beside the original."""
        return self._found(number, steps, "measured", _MEASURE_S, preview=False)

    def _found(
        self, number: int, steps: list[MethodStep], state: Any, seconds: float | None, preview: bool
    ) -> Candidate:
        name = f"{_address([step.model_dump(mode='json') for step in steps])}-{state.replace(' ', '-')}"
        note = self._folder / f"{name}.json"
        if note.exists():
            return Candidate.model_validate_json(note.read_bytes())
        try:
            found = self._examined(number, steps, state, seconds, preview, name)
        except ModelportError as error:
            if error.status >= 500 and error.status not in (501, 507):
                raise
            found = Candidate(number=number, steps=steps, state="failed", message=error.message)
        except (MemoryError, OSError):
            raise
        except Exception as error:  # of a library: of many candidates one may not work
            if not self._is_search:
                raise
            _log.exception("%s failed", label_of(steps))
            message = f"it failed with {type(error).__name__}; the job's log shows where"
            found = Candidate(number=number, steps=steps, state="failed", message=message)
        made.write_whole(note, found.model_dump(mode="json"))
        return found

    def _examined(
        self, number: int, steps: list[MethodStep], state: Any, seconds: float | None, preview: bool, name: str
    ) -> Candidate:
        result = self.make(steps, preview)
        wanted = RUNTIMES.get(self._params.runtime or "")
        if wanted is not None and result.draft.format != wanted:
            raise InvalidInput(
                f"runtime: {label_of(steps)} makes a file of the format {result.draft.format}, and {wanted} is wanted"
            )
        found = Candidate(number=number, steps=steps, state=state, size_bytes=result.draft.manifest.served_bytes)
        found.size_ratio = self._version.manifest.served_bytes / max(found.size_bytes or 1, 1)
        judged = self._judged(result.draft, result.trained, result.out, name)
        points = self._compare(found, judged, result.trained)
        if seconds is not None and result.draft.manifest.runtime:
            self._measure(found, result, seconds)
        found.misses = [one.text for one in budgets.misses(self._params.budget, found, points)]
        return found

    def _compare(self, found: Candidate, judged: Evaluation | None, trained: Trained) -> float | None:
        """Its main figure beside the original's; by how many points of 100 it fell."""
        if judged is None:
            return None
        self.main = name = self.main or judged.main
        before = _before(trained).get(name or "", self.before.figures.get(name or "") if self.before else None)
        if name is None or before is None or name not in judged.figures:
            return None
        found.quality = judged.figures[name]
        found.drop = budgets.drop_of(before, found.quality, less_is_better(name))
        return 100 * judging.worse_by(name, before, found.quality)

    def _measure(self, found: Candidate, result: Made, seconds: float) -> None:
        rows = None
        if self._data is not None and self._asked.rows is not None and self._data.validation:
            rows = Rows(self._data.validation, self._asked.rows.target)
        compared = measuring.compare(
            training.job_in(self._run, self._folder / "measuring"),
            measuring.Subject(self._version.manifest, self._original.folder),
            measuring.Subject(result.draft.manifest, result.out),
            rows=rows, threads=self._params.threads, batches=(1,), seconds=seconds,
        )  # fmt: skip
        latency = compared.other.latency
        if latency is not None:
            found.latency_p50_ms, found.latency_p99_ms = latency.p50_ms, latency.p99_ms
        found.memory_mb, found.speed_ratio = compared.other.memory_mb, compared.faster_model

    def again(self, found: Candidate) -> tuple[Candidate, list[budgets.Miss]]:
        """Measured once more, at another time; what of the budget it misses by the worse of both."""
        result, once = self.make(found.steps), found.model_copy()
        if not result.draft.manifest.runtime or not self._params.budget.asks_the_machine:
            return once, []
        self._measure(once, result, _MEASURE_S)
        worse = found.model_copy(
            update={
                "latency_p50_ms": _worse(max, found.latency_p50_ms, once.latency_p50_ms),
                "latency_p99_ms": _worse(max, found.latency_p99_ms, once.latency_p99_ms),
                "memory_mb": _worse(max, found.memory_mb, once.memory_mb),
                "speed_ratio": _worse(min, found.speed_ratio, once.speed_ratio),
            }
        )
        missed = budgets.misses(self._params.budget.model_copy(update=_NO_QUALITY), worse)
        return worse, missed

    # Proving

    def prove(self, steps: Sequence[MethodStep], parts: tuple[Path, ...], part: str | None) -> dict[str, float]:
        """Figures on rows that nobody saw: the original's as ``original_…``, and those of the candidate."""
        rows = self._asked.rows
        assert rows is not None
        result = self.make(steps)
        manifest = self._version.manifest
        first = replace(result.trained, inputs=manifest.columns)
        told: dict[str, float] = {}
        for prefix, version, trained, out, name in (
            ("original_", self._version, first, None, "original"),
            ("", result.draft, result.trained, result.out, _address([step.model_dump(mode="json") for step in steps])),
        ):
            run = training.job_in(self._run, self._folder / "proving" / name)
            judge = judging.Judge(run, rows, trained, "compress", out, resamples=0)
            if not judge.asks(version):
                return self._proven_by_method(steps, parts)
            found = judge.rows(version, parts, "proof", part)
            told |= {f"{prefix}{key}": value for key, value in found.figures.items()}
        return told

    def _proven_by_method(self, steps: Sequence[MethodStep], parts: tuple[Path, ...]) -> dict[str, float]:
        """Where rows have no truth that a replica could be asked about (texts that are written): what the last method
        says of these rows when it does its work once more."""
        if self._data is None:
            return {}
        unseen = Candidates(
            training.job_in(self._run, self._folder / "unseen"), self._params, self._asked, self._original,
            replace(self._data, validation=parts),
        )  # fmt: skip
        trained = unseen.make(steps).trained
        own = {k.removeprefix(_OWN): v for k, v in trained.metrics.items() if k.startswith(_OWN)}
        return {**own, **{f"original_{name}": value for name, value in _before(trained).items()}}

    # A version to be

    def offer(self, found: Candidate, report: dict[str, Any], about: dict[str, Any]) -> tuple[VersionPush, str]:
        """The push of a candidate with its report; and the model whose version it becomes."""
        result = self.make(found.steps)
        folder = result.out / "training"
        folder.mkdir(exist_ok=True)
        made.write_whole(folder / "compression.json", {**report, "methods": self._reports(found.steps)})
        push, _ = training.push_of(self._run, self._name, result.trained, result.out, about)
        return push, self._name

    def _reports(self, steps: Sequence[MethodStep]) -> list[dict[str, Any]]:
        """What each method said of its work."""
        told = []
        for number, step in enumerate(steps):
            trained = self.make(steps[: number + 1]).trained
            told.append({"step": label_of([step]), "report": trained.report, "warnings": trained.warnings})
        return told

    def warnings(self, steps: Sequence[MethodStep]) -> list[str]:
        """What a careful reader should know."""
        every = [self.make(steps[: number + 1]).trained.warnings for number in range(len(steps))]
        return list(dict.fromkeys(warning for told in every for warning in told))


_NO_QUALITY = {"max_drop": None, "max_drop_points": None}


def _before(trained: Trained) -> dict[str, float]:
    """The original's figures, where the method itself judged both."""
    return {k.removesuffix(_BEFORE): v for k, v in trained.metrics.items() if k.endswith(_BEFORE)}


def _worse(of: Any, one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else of(one, other)


def _address(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:_LETTERS]
