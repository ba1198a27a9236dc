"""Job ``compress``: a version becomes a smaller, faster one whose quality is proven, or the answer that it cannot.

Methods that are named are used as they are said. Else sequences of methods are searched: many are looked at quickly,
the best are made in full and measured, and of these the first that keeps to the budget on rows which nobody saw
becomes a version. Nothing is registered before that, and never twice.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.compression import budget as budgets
from modelport.compression import chains
from modelport.control.actors import Actor
from modelport.control.work import compression, judging, made, training
from modelport.control.work.candidates import Candidates
from modelport.control.work.compression import Asked
from modelport.errors import InvalidInput
from modelport.schemas.compression import Candidate, CompressParams, MethodStep, label_of
from modelport.schemas.models import ModelVersion
from modelport.training.recipe import TrainingData

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)
_NEAREST = 3


class Compress:
    """The work of the kind."""

    Params = CompressParams

    def check(self, services: Services, actor: Actor, params: CompressParams) -> None:
        compression.plan(services, actor, params)

    def inputs(self, services: Services, actor: Actor, params: CompressParams) -> list[str] | None:
        if not params.methods:
            return None  # what is fast enough depends on the machine
        found = made.digests(services, actor, [params.data] if params.data else [])
        if found is None:
            return None
        asked, _ = compression.plan(services, actor, params)
        others = (made.model_of(services, actor, ref).digest for ref in asked.others)
        return [*found, asked.version.digest, *others, *(f"{entry.path} {entry.sha256}" for entry in params.files)]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.versions_there(services, actor, [str(result.get("model"))])

    def run(self, run: JobRun, params: CompressParams) -> dict[str, Any]:
        params = _pinned(run, params)
        note = run.folder / "result.json"
        if (before := run.services.registry.made_from(run.actor, training.job_parent(run.id))) and note.exists():
            return {**json.loads(note.read_text()), **made.version_told(before[0])}
        asked, warnings = compression.plan(run.services, run.actor, params)
        return _Attempt(run, params, asked, warnings).run()


class _Attempt:
    """One attempt at the job."""

    def __init__(self, run: JobRun, params: CompressParams, asked: Asked, warnings: list[str]) -> None:
        self._run, self._params, self._asked, self._warnings = run, params, asked, warnings
        self._data: TrainingData | None = None
        self._proof: tuple[Path, ...] = ()
        self._part: str | None = None
        if asked.rows is not None:
            self._data, self._proof, self._part = compression.lay_out(run, asked)
        self._original = compression.model_in(run, asked.version, compression.consulted(run, asked.others))
        self._candidates = Candidates(run, params, asked, self._original, self._data)
        self._found: list[Candidate] = [Candidate(number=0, steps=[], state="measured", size_ratio=1.0, drop=0.0)]

    def run(self) -> dict[str, Any]:
        self._run.progress(0, None, "judging the original", "candidates")
        before = self._candidates.judge_original()
        first = self._found[0]
        first.size_bytes = self._asked.version.manifest.served_bytes
        first.speed_ratio = 1.0 if self._asked.version.manifest.runtime else None
        if before is not None and before.main is not None:
            first.quality = before.figures[before.main]
        named, self._end = self._params.methods, compression.end_of(self._asked.version, self._params)
        finalists = [self._one([*named, *self._end])] if named else self._searched()
        for found in finalists[: self._params.proofs]:
            if not found.misses and self._proves(found):
                return self._registered(found)
        return self._told(None)

    # Candidates

    def _one(self, steps: list[MethodStep]) -> Candidate:
        """The sequence that was asked for: what is wrong with it ends the job."""
        self._run.progress(0, 1, label_of(steps), "candidates")
        found = self._candidates.measure(1, steps)
        self._keep(found)
        if found.state == "failed":
            raise InvalidInput(found.message)
        return found

    def _searched(self) -> list[Candidate]:
        """Those that keep to the budget on the rows that the search judges by, the best first."""
        params = self._params
        families = chains.families(self._original, self._asked.forms, params.only, self._data is not None)
        if not families:
            raise InvalidInput(f"no method that the search may try has anything to do in {self._asked.name}")
        search = compression.import_optuna().Search(families, params.seed)
        looked: list[Candidate] = []
        total = params.trials + min(params.finalists, params.trials)
        while len(looked) < params.trials and (steps := search.ask()) is not None:
            steps += self._end
            number = len(looked) + 1
            self._run.progress(number - 1, total, f"{number}: {label_of(steps)}", "candidates")
            found = self._candidates.look(number, steps)
            search.tell(self._score(found))
            looked.append(found)
            self._keep(found)
        ranked = sorted((one for one in looked if one.state != "failed"), key=self._score)
        if not ranked:
            raise InvalidInput(_hopeless(looked))
        self._candidates.forget_all_but(ranked[: params.finalists])
        for place, one in enumerate(ranked[: params.finalists]):
            self._run.progress(len(looked) + place, total, f"measuring {one.label}", "candidates")
            self._keep(self._candidates.measure(one.number, one.steps))
        measured = sorted((one for one in self._found[1:] if one.state == "measured"), key=self._score)
        return [one for one in measured if not one.misses]

    def _score(self, found: Candidate) -> float:
        name, first = self._candidates.main, self._found[0]
        points = None
        if name is not None and found.quality is not None and first.quality is not None:
            points = 100 * judging.worse_by(name, first.quality, found.quality)
        return budgets.score(self._params.budget, found, budgets.misses(self._params.budget, found, points))

    def _keep(self, found: Candidate) -> None:
        """Among the others, in the place of what was known of it before; and told to whoever watches."""
        self._found = [one for one in self._found if one.number != found.number] + [found]
        self._found.sort(key=lambda one: one.number)
        label = found.label
        self._run.metric(f"{found.state}: {label}"[:100], float(not found.misses), found.number)
        for name in ("quality", "drop", "size_ratio", "speed_ratio", "latency_p99_ms"):
            value = getattr(found, name)
            if value is not None and math.isfinite(value):
                self._run.metric(name, value, found.number)
        _log.info("%d: %s: %s", found.number, label, _said(found))

    # Proof

    def _proves(self, found: Candidate) -> bool:
        """Whether it keeps to the budget on rows that nobody saw, and when it is measured again."""
        budget = self._params.budget
        self._run.progress(0, None, f"proving {found.label}", "candidates")
        told = self._candidates.prove(found.steps, self._proof, self._part) if self._proof else {}
        found.proof = told
        missed = budgets.misses_unseen(budget, self._candidates.main, told)
        if not budget.is_empty:
            found, again = self._candidates.again(found)
            missed += again
        found.misses = list(dict.fromkeys([*found.misses, *(f"{one.text}, proving it" for one in missed)]))
        found.state = "proven" if not found.misses else "measured"
        self._keep(found)
        return not found.misses

    # The result

    def _registered(self, winner: Candidate) -> dict[str, Any]:
        winner = next(one for one in self._found if one.number == winner.number)
        params, asked = self._params, self._asked
        result = self._told(winner)
        rows = [f"dataset:{asked.rows.reference}"] if asked.rows is not None else []
        about = {
            "parents": [asked.name, *rows, training.job_parent(self._run.id)], "labels": params.labels,
            "alias": params.alias, "description": params.description, "licence": asked.version.manifest.licence,
            "metrics": self._metrics(winner),
        }  # fmt: skip
        report = {name: value for name, value in result.items() if name not in ("model", "version")}
        push, name = self._candidates.offer(winner, report, about)
        made.write_whole(self._run.folder / "result.json", result)
        version = self._run.services.registry.push(self._run.actor, name, push)
        self._record(version, winner)
        return {**result, **made.version_told(version)}

    def _metrics(self, winner: Candidate) -> dict[str, float]:
        """Of the manifest: figures of the rows that prove, and ratios to the original."""
        part = "test" if self._part is not None else "proof"
        proof = {f"{part}_{k}": v for k, v in winner.proof.items() if not k.startswith("original_")}
        ratios = {"size_ratio": winner.size_ratio, "speed_ratio": winner.speed_ratio}
        main = self._candidates.main
        own = {f"validation_{main}": winner.quality} if main is not None else {}
        found = {**proof, **ratios, **own}
        return {k: float(v) for k, v in found.items() if v is not None and math.isfinite(v)}

    def _record(self, version: ModelVersion, winner: Candidate) -> None:
        """What was found out about the version by rows that have a name."""
        rows = self._asked.rows
        if rows is None or self._part is None or not winner.proof:
            return
        figures = {k: v for k, v in winner.proof.items() if not k.startswith("original_")}
        self._run.services.evaluations.record(
            self._run.actor, rows.data, self._part, self._run.id, version.model, model=version.model,
            version=version.version, figures=figures,
        )  # fmt: skip

    def _told(self, winner: Candidate | None) -> dict[str, Any]:
        params, asked = self._params, self._asked
        missed = (
            sorted(self._found[1:], key=lambda one: (one.state == "looked at", self._score(one)))[:_NEAREST]
            if (winner is None)
            else []
        )
        return {
            "model": None, "met": None if params.budget.is_empty else winner is not None,
            "original": asked.name, "task": asked.version.manifest.task, "main": self._candidates.main,
            "data": asked.rows.reference if asked.rows is not None else None,
            "judged_by": None if asked.rows is None else {
                "search": str(asked.rows.validation), "proof": self._part or "half of the validation rows",
            },
            "budget": params.budget.model_dump(exclude_none=True),
            "winner": winner.number if winner is not None else None,
            "steps": [step.model_dump() for step in winner.steps] if winner is not None else [],
            "label": winner.label if winner is not None else None,
            "figures": winner.proof if winner is not None else {},
            **({k: getattr(winner, k) for k in ("quality", "drop", "size_ratio", "speed_ratio")} if winner else {}),
            "candidates": [one.model_dump() for one in self._found],
            "nearest": [one.number for one in missed],
            "frontier": [one.number for one in budgets.frontier(self._found)],
            "warnings": [*self._warnings, *(self._candidates.warnings(winner.steps) if winner is not None else [])],
        }  # fmt: skip


def _pinned(run: JobRun, params: CompressParams) -> CompressParams:
    """The same versions at every attempt, whatever ``latest`` and an alias mean by then."""

    def settle() -> dict[str, Any]:
        found: dict[str, Any] = {"model": made.model_meant(run, params.model)}
        return found if params.data is None else found | {"data": made.rows_meant(run, params.data)}

    return params.model_copy(update=made.settled(run, settle))


def _said(found: Candidate) -> str:
    if found.state == "failed":
        return f"failed: {found.message}"
    parts: Mapping[str, str | None] = {
        "quality": None if found.quality is None else f"{found.quality:.4g}",
        "drop": None if found.drop is None else f"{found.drop:.2%}",
        "size": None if found.size_ratio is None else f"{found.size_ratio:.2f} x smaller",
        "speed": None if found.speed_ratio is None else f"{found.speed_ratio:.2f} x faster",
        "misses": ", ".join(found.misses) or None,
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


def _hopeless(looked: list[Candidate]) -> str:
    reasons = dict.fromkeys(f"{one.label}: {one.message}" for one in looked)
    return "no method worked on this version: " + "; ".join(list(reasons)[:_NEAREST])
