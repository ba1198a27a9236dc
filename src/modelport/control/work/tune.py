"""Job ``tune``: many models by the same recipe on the same rows, each with other options; the best becomes a version.

Each is judged by the validation rows as it would be served; the test part is opened once, for the best. The study lies
in the job's folder: after a kill what has ended is not tried again, and what ran goes on under its number. The best
trial's own files become the version, and the study goes along in them.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from modelport.control.actors import Actor
from modelport.control.work import made, training
from modelport.control.work.train import Learnt, Train, make_version
from modelport.control.work.training import Plan
from modelport.control.work.trials import TrialProcess, TrialProcesses
from modelport.errors import InvalidInput, MissingExtra, Unavailable
from modelport.evaluation.score import less_is_better, main_figure
from modelport.plugins import nearest
from modelport.schemas.training import TrainParams
from modelport.schemas.tuning import Trial, TuneParams
from modelport.training.recipe import TrainingData, recipe_of
from modelport.training.tuning import space as spaces

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_ATTEMPTS = 3
_DEFAULT_TRIALS = 50
_REPEATS = 4
_HOPELESS = 5
"""So many trials without one that ended well end the job."""
_WAIT_S = 0.5
_LARGEST_TABLE = 600_000
_FIGURES = ("accuracy", "r2", "rmse", "mae", "perplexity", "ndcg_at_10", "roc_auc", "spearman", "pearson")
_TIME_UP = "the study's time was up (timeout_s)"
_log = logging.getLogger(__name__)


class Tune:
    """The work of the kind."""

    Params = TuneParams

    def check(self, services: Services, actor: Actor, params: TuneParams) -> None:
        if find_spec("optuna") is None or find_spec("matplotlib") is None:
            raise MissingExtra("train", "tuning")
        if params.folds is not None:
            raise InvalidInput("folds: tuning chooses by the validation rows; train with the options that it finds")
        if params.metric is None and params.direction is not None:
            raise InvalidInput("direction: say of which metric")
        recipe = recipe_of(params.recipe)
        spaces.check_space(recipe, params.options, params.space)
        if params.sampler == "grid":
            spaces.check_grid(params.space)
        training.plan(services, actor, _begun(params))

    def inputs(self, services: Services, actor: Actor, params: TuneParams) -> list[str] | None:
        return None if params.timeout_s is not None else Train().inputs(services, actor, params)

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return Train().still_there(services, actor, result)

    def run(self, run: JobRun, params: TuneParams) -> dict[str, Any]:
        def learn(planned: Plan, begun: TrainParams, data: TrainingData) -> Learnt:
            asked = params.model_copy(update=begun.model_dump(include={"data", "replay", "start"}))
            return Search(run, planned, asked, data).run()

        return make_version(run, _begun(params), "tune", learn)


def _begun(params: TuneParams) -> TuneParams:
    """With the options where the search begins."""
    recipe = recipe_of(params.recipe)
    first = spaces.start_point(recipe, params.options, params.space)
    return params.model_copy(update={"options": spaces.merged(params.options, first)})


class Search:
    """One attempt at the search."""

    def __init__(self, run: JobRun, planned: Plan, params: TuneParams, data: TrainingData) -> None:
        self._run, self._planned, self._params, self._data = run, planned, params, data
        self._task = planned.recipe.task(data, planned.options)
        self._settled = run.folder / "metric.json"
        self._metric = params.metric or str(main_figure(self._task, dict.fromkeys(_FIGURES, 0.0)))
        if self._settled.exists():
            self._metric = json.loads(self._settled.read_text())
        by_figure: Literal["minimize", "maximize"] = "minimize" if less_is_better(self._metric) else "maximize"
        self._direction = params.direction or by_figure
        self._module = import_module("modelport.training.tuning.study")
        how = self._module.How(
            params.sampler, params.pruner, self._direction, params.seed, params.warm_up,
            spaces.known_start(planned.recipe, params.options, params.space),
        )  # fmt: skip
        self._folder = run.folder / "trials"
        self._folder.mkdir(exist_ok=True)
        self._study = self._module.Study(run.folder / "study.log", params.space, how)
        self._wanted = self._count()
        self._deadline = self._until()
        self._waiting = list(self._study.running())
        self._held: list[Trial] = []
        self._attempts: dict[int, int] = {}
        self._saying = ""

    def run(self) -> Learnt:
        """Try until there is enough; what is to become the version."""
        self._sweep()
        self._tell()
        with TrialProcesses(self._run, self._params, self._metric) as processes:
            while self._give(processes) or processes.busy() or self._held:
                for process, message in processes.heard(_WAIT_S):
                    self._hear(process, message)
                if self._is_over():
                    self._stop(processes)
                self._tell()
        return self._best()

    # -- trials -------------------------------------------------------------------------------------------------------

    def _give(self, processes: TrialProcesses) -> bool:
        """Give idle processes something to try; whether there was something."""
        self._release()
        given = False
        while not self._is_over() and (process := self._free(processes)) is not None:
            trial = self._waiting.pop(0) if self._waiting else self._study.ask()
            if trial is None:  # the grid is done
                self._wanted = 0
                break
            if (twin := self._study.twin(trial)) is None:
                self._begin(process, trial)
                given = True
            elif twin.state == "running":
                self._held.append(trial)
                break
            else:
                self._ended(trial, partial(self._study.same_as, trial.number, twin))
        return given

    def _begin(self, process: TrialProcess, trial: Trial) -> None:
        folder = self._folder_of(trial.number)
        folder.mkdir(exist_ok=True)
        attempt = self._attempts[trial.number] = self._attempts.get(trial.number, 0) + 1
        options = spaces.merged(self._params.options, trial.options)
        process.give(trial.number, {"options": options, "folder": str(folder), "attempt": attempt})

    def _release(self) -> None:
        """Those that waited for another trial of the same options to end."""
        for trial in [one for one in self._held if self._study.twin(one) is None]:  # the other one failed
            self._held.remove(trial)
            self._waiting.append(trial)
        for trial in [one for one in self._held if self._study.twin(one).state != "running"]:
            self._held.remove(trial)
            self._ended(trial, partial(self._study.same_as, trial.number, self._study.twin(trial)))

    def _free(self, processes: TrialProcesses) -> TrialProcess | None:
        return processes.idle() if self._waiting or self._wants_more() else None

    def _wants_more(self) -> bool:
        """Trials that only repeat another one do not count, unless there is hardly anything else."""
        trials = self._study.trials()
        fresh = sum(one.same_as is None for one in trials)
        return fresh < self._wanted and len(trials) < self._wanted * _REPEATS

    def _hear(self, process: TrialProcess, message: dict[str, Any] | None) -> None:
        number = process.number
        if number is None:
            if message is None:
                raise Unavailable("a process for trials ended before it had one; the job's log says why")
            return
        if message is not None and "progress" in message:
            self._saying = f"trial {number}: {message['progress'].get('message', '')}"
            return
        if message is not None and "step" in message:
            goes_on = self._study.goes_on(number, self._epoch(number, message["step"]), float(message["value"]))
            process.channel.send({"go": goes_on})
            return
        process.number = None
        seconds = time.monotonic() - process.begun if message is None else float(message["seconds"])
        if message is None:
            self._again(number, "its process died; out of memory, perhaps", seconds)
        elif "error" in message and message["error"]["again"]:
            self._again(number, message["error"]["message"], seconds)
        else:
            self._settle(number, message, seconds)

    def _settle(self, number: int, message: dict[str, Any], seconds: float) -> None:
        if "pruned" in message:
            self._ended(self._trial(number), partial(self._study.pruned, number, seconds))
        elif "error" in message:
            self._ended(self._trial(number), partial(self._study.failed, number, message["error"]["message"], seconds))
        else:
            figures = message["done"]["figures"]
            self._choose(figures)
            value = figures.get(self._metric)
            if value is None:
                known = sorted(figures)
                raise InvalidInput(
                    f"metric: {self._metric!r} is none of the figures that {self._params.recipe!r} has here"
                    f"{nearest(self._metric, known)}"
                )
            if not math.isfinite(value):
                why = f"{self._metric} is {value}"
                self._ended(self._trial(number), partial(self._study.failed, number, why, seconds))
            else:
                self._ended(self._trial(number), partial(self._study.complete, number, value, seconds))

    def _choose(self, figures: dict[str, float]) -> None:
        """Not every dataset has its task's main figure (NDCG needs lists): the first trial shows what there is."""
        if self._params.metric is not None or self._metric in figures or self._study.best() is not None:
            return
        found = main_figure(self._task, figures)
        if found is not None and less_is_better(found) == less_is_better(self._metric):
            self._metric = found
            made.write_whole(self._settled, found)

    def _again(self, number: int, why: str, seconds: float) -> None:
        """It may have been bad luck."""
        trial = self._trial(number)
        if self._attempts[number] >= _ATTEMPTS:
            self._ended(trial, partial(self._study.failed, number, why, seconds))
        else:
            _log.warning("trial %d is run again: %s", number, why)
            self._waiting.insert(0, trial)

    def _ended(self, trial: Trial, note: Callable[[], None]) -> None:
        """Note what came of a trial; of all files only the best trial's are kept."""
        before = self._study.best()
        note()
        self._say(self._trial(trial.number))
        best = self._study.best()
        for one in (before, trial):
            if one is not None and (best is None or one.number != best.number):
                shutil.rmtree(self._folder_of(one.number), ignore_errors=True)
        ended = [one for one in self._study.trials() if one.state != "running"]
        if best is None and len(ended) >= min(self._wanted, _HOPELESS) and not any(o.state == "pruned" for o in ended):
            raise InvalidInput(f"none of {len(ended)} trials ended well; the last one: {ended[-1].message}"[:900])

    # -- its end ------------------------------------------------------------------------------------------------------

    def _best(self) -> Learnt:
        best, trials = self._study.best(), self._study.trials()
        if best is None and self._is_over():
            raise InvalidInput(f"no trial ended within {self._params.timeout_s:g} s (timeout_s); give more time")
        if best is None:
            last = next((one.message for one in reversed(trials) if one.message), "all were stopped early (pruner)")
            raise InvalidInput(f"none of {len(trials)} trials ended well; {last}"[:900])
        options = spaces.merged(self._params.options, best.options)
        params = self._params.model_copy(update={"options": options})
        planned, _ = training.plan(self._run.services, self._run.actor, params)
        kept = self._folder_of(best.number) / "model"
        trained, out = training.learn(self._run, kept, planned, params, self._data, lambda *_: None)
        study = {
            "metric": self._metric, "direction": self._direction, "best": best.number, "options": best.options,
            "counts": {state: sum(one.state == state for one in trials) for state in ("complete", "pruned", "failed")},
            "importance": import_module("modelport.training.tuning.pictures").importance(
                trials, self._params.space, self._direction
            ),
        }  # fmt: skip
        space = self._params.model_dump(mode="json", include={"space"})
        (out / "training").mkdir(exist_ok=True)
        whole = [one.model_dump(exclude_defaults=True) for one in trials]
        made.write_whole(out / "training" / "study.json", {**study, **space, "trials": whole})
        told = {"study": {**study, "trials": _table(whole)}}
        tried = sum(one.same_as is None for one in trials)
        return Learnt(planned, params, replace(trained, metrics={**trained.metrics, "trials": tried}), out, told)

    def _stop(self, processes: TrialProcesses) -> None:
        """Time is up."""
        for process in processes.busy():
            number, seconds = process.number, time.monotonic() - process.begun
            processes.end(process)
            assert number is not None
            self._ended(self._trial(number), partial(self._study.failed, number, _TIME_UP, seconds))
        for trial in (*self._waiting, *self._held):
            self._study.failed(trial.number, _TIME_UP, 0)
        self._waiting, self._held = [], []

    def _is_over(self) -> bool:
        return self._deadline is not None and time.time() > self._deadline

    def _until(self) -> float | None:
        """When no trial may begin any more: counted from the first attempt."""
        if self._params.timeout_s is None:
            return None
        note = self._run.folder / "begun.json"
        if not note.exists():
            made.write_whole(note, time.time())
        return float(json.loads(note.read_text())) + self._params.timeout_s

    # -- what is known ------------------------------------------------------------------------------------------------

    def _count(self) -> int:
        """How many trials there are to be: no more than there are combinations."""
        every = spaces.combination_count(self._params.space)
        wanted = self._params.trials or (None if self._params.sampler == "grid" else _DEFAULT_TRIALS)
        return min(count for count in (every, wanted) if count is not None)

    def _folder_of(self, number: int) -> Path:
        return self._folder / f"{number:05}"

    def _trial(self, number: int) -> Trial:
        found: Trial = self._study.trials()[number]
        return found

    def _sweep(self) -> None:
        """Files of trials that are neither the best nor under way: a kill came before they were removed."""
        best = self._study.best()
        kept = {one.number for one in (*self._waiting, *([best] if best else []))}
        for folder in self._folder.iterdir():
            if int(folder.name) not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _epoch(self, number: int, step: int) -> int:
        """How many times a trial has told its figure, this step being the last: steps differ with the options."""
        note = self._folder_of(number) / "steps.txt"
        told = [int(line) for line in note.read_text().split()] if note.exists() else []
        if step not in told:
            with note.open("a") as file:
                file.write(f"{step}\n")
            told.append(step)
        return told.index(step) + 1

    def _say(self, trial: Trial) -> None:
        """The trial's figure and options as figures of the job, by its number: who watches can draw a table."""
        for name, value in trial.options.items():
            choices = getattr(self._params.space[name], "choices", None)
            number = value if choices is None else spaces.place_of(choices, value)
            self._run.metric(f"option {name}", number, trial.number)
        self._run.metric(f"trial {trial.state}", math.nan if trial.value is None else trial.value, trial.number)
        if (best := self._study.best()) is not None and best.value is not None:
            self._run.metric(f"best {self._direction} {self._metric}", best.value, trial.number)

    def _tell(self) -> None:
        trials, best = self._study.trials(), self._study.best()
        done = sum(one.state != "running" and one.same_as is None for one in trials)
        said = "" if best is None else f"best {self._metric} {best.value:.4g} (trial {best.number}); "
        self._run.progress(done, self._wanted, (said + self._saying)[:200], "trials")


def _table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All trials, or as many as a job's result holds: the newest; the version's files have all."""
    size = 0
    for number in range(len(rows), 0, -1):
        size += len(json.dumps(rows[number - 1]))
        if size > _LARGEST_TABLE:
            return rows[number:]
    return rows
