"""The steps of training that jobs share: what is meant, rows laid out, a recipe run, its files a version to be.

Every step that takes long leaves its result in the job's folder, so that an attempt after a kill goes on behind it.
Knows jobs, datasets and the registry; how a model learns is the recipe's business, how it is judged ``judging``'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modelport import plugins
from modelport.control.actors import Actor
from modelport.control.environments import Environments
from modelport.control.work import made
from modelport.errors import InvalidInput, NotAllowed, NotFound
from modelport.schemas.datasets import Column, DatasetVersion, SplitParams
from modelport.schemas.models import FileEntry, ModelVersion, VersionPush
from modelport.schemas.training import RecipeInfo, TrainParams
from modelport.storage.disk import told_of_disk
from modelport.storage.paths import check_paths
from modelport.training.recipe import (
    GROUP,
    Divides,
    Options,
    Recipe,
    Start,
    Trained,
    TrainingData,
    TrainingRun,
    check_installed,
    is_available,
    options_of,
    recipe_of,
)

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)
_TRAIN, _VALIDATION, _TEST = ("train", "training"), ("validation", "val", "valid", "dev"), ("test",)
_SHARE = 0.2
#: What a row is called is no reason for what it is: a folder of images has its classes in its paths.
_NAMES_OF_ROWS = ("path",)
_MOST_CLASSES = 1000
#: Tasks whose target has classes, perhaps rare ones.
CLASSES = ("classification", "ranking", "anomaly")
#: What a version is called and who sees it are not what it is.
_CALLED = {"name", "alias", "labels", "description", "licence", "files"}
NO_CODE = (
    "the recipe runs code of the caller's, and this server does not allow that. An operator who trusts whoever may "
    "submit jobs can set MODELPORT_TRUST_PYTHON_PREDICTORS=true"
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a dataset version are for what."""

    data: DatasetVersion
    train: str | None
    """The part to learn from; None for all rows."""
    validation: str | float
    test: str | None
    target: str | None
    features: dict[str, str]
    divide: dict[str, str]
    """How rows may be parted without a leak, where chance alone will not do."""

    @property
    def reference(self) -> str:
        """The dataset version."""
        return f"{self.data.dataset}:{self.data.version}"

    def rows_of(self, part: str | None) -> str:
        """A part of the data as callers write it."""
        return f"{self.reference}/{part}" if part else self.reference


@dataclass(frozen=True, slots=True)
class Plan(Rows):
    """What a job of training means, settled before anything is done."""

    recipe: Recipe
    options: Options


def plan(services: Services, actor: Actor, params: TrainParams) -> tuple[Plan, list[str]]:
    """What is meant, and the recipe's warnings; raises what can be known to be wrong before work begins."""
    made.check_installed()
    recipe = recipe_of(params.recipe)
    if recipe.code and not services.settings.trust.python_predictors:
        raise NotAllowed(f"recipe {params.recipe!r}: {NO_CODE}")
    check_installed(recipe)
    options = options_of(recipe, params.options)
    check_paths(entry.path for entry in params.files)
    services.datasets.check_uploaded(actor, params.files)
    data, part = services.datasets.resolve(actor, params.data)
    target = params.target or data.manifest.label
    made.check_column(data, target, "target")
    for name in (*(params.features or ()), *params.exclude):
        made.check_column(data, name, "features and exclude")
    if target is not None and params.features is not None and target in params.features:
        raise InvalidInput(f"features: {target!r} is the target; a model that sees it learns nothing")
    train, validation, test = parts_meant(params, data, part)
    features = features_of(data, target, params.features, params.exclude)
    rows = Rows(data, train, validation, test, target, features, {})
    divide = _divide(rows, recipe, options)
    found = Plan(data, train, validation, test, target, features, divide, recipe, options)
    if params.start is not None:
        made.model_of(services, actor, params.start)
    if params.replay is not None:
        _check_replay(services, actor, params, found)
    return found, recipe.check(training_data(found), options)


def pinned(run: JobRun, params: TrainParams) -> TrainParams:
    """The same versions at every attempt, whatever ``latest`` and an alias mean by then."""

    def settle() -> dict[str, Any]:
        rows = {name: ref for name in ("data", "replay") if (ref := getattr(params, name)) is not None}
        found = {name: made.rows_meant(run, ref) for name, ref in rows.items()}
        return found if params.start is None else found | {"start": made.model_meant(run, params.start)}

    return params.model_copy(update=made.settled(run, settle))


def training_data(planned: Rows, **parts: tuple[Path, ...]) -> TrainingData:
    """As the recipe is told; without files while none are laid out."""
    manifest = planned.data.manifest
    kinds = {column.name: column.type for column in manifest.columns}
    target = planned.target
    return TrainingData(
        train=parts.get("train", ()), validation=parts.get("validation", ()), features=planned.features,
        target=target, target_type=kinds[target] if target else None, facts=manifest, replay=parts.get("replay", ()),
    )  # fmt: skip


class _Says(Protocol):
    """Parameters that may name parts of the data."""

    @property
    def data(self) -> str | None: ...
    @property
    def train(self) -> str | None: ...
    @property
    def validation(self) -> str | float | None: ...
    @property
    def test(self) -> str | None: ...


def parts_meant(params: _Says, data: DatasetVersion, given: str | None) -> tuple[str | None, str | float, str | None]:
    """Names of the parts that are learnt from, chosen by, and judged by at the end."""
    rows = data.manifest.parts
    name = f"{data.dataset}:{data.version}"
    for what in ("train", "validation", "test"):
        wanted = getattr(params, what)
        if isinstance(wanted, str) and wanted not in rows:
            known = f"it has {', '.join(rows)}" if rows else "it is not split: `modelport data split` makes parts"
            raise NotFound(f"{what}: dataset {name} has no part {wanted!r}; {known}")
    train = params.train or given or _first(_TRAIN, rows)
    if rows and train is None:
        raise InvalidInput(f"train: dataset {name} has the parts {', '.join(rows)}; say which one to learn from")
    if given and params.train and given != params.train:
        raise InvalidInput(f"train: {params.data} names the part {given!r} and train says {params.train!r}; say one")
    validation = params.validation or _first(_VALIDATION, rows) or _SHARE
    test = params.test or _first(_TEST, rows)
    named = [part for part in (train, validation, test) if isinstance(part, str)]
    if len(set(named)) < len(named):
        raise InvalidInput("train, validation and test have to be different parts: what was learnt is no test")
    for part in named:
        if not rows[part]:
            raise InvalidInput(f"part {part!r} of dataset {name} has no rows; split it again")
    if not data.rows:
        raise InvalidInput(f"data: dataset {name} has no rows; there is nothing to learn from")
    return train, validation, test


def _first(names: Sequence[str], rows: Mapping[str, int]) -> str | None:
    return next((name for name in names if name in rows), None)


def features_of(
    data: DatasetVersion, target: str | None, features: Sequence[str] | None, exclude: Sequence[str]
) -> dict[str, str]:
    """The columns that may be looked at, with their types; raises InvalidInput when none is left."""
    kinds = {column.name: column.type for column in data.manifest.columns}
    left_out = {*exclude, target, *(() if features else _NAMES_OF_ROWS)}
    wanted = [name for name in features or kinds if name not in left_out]
    if not wanted:
        raise InvalidInput("features: nothing is left to learn from; the data has only the target and what is excluded")
    return {name: kinds[name] for name in wanted}


def _check_replay(services: Services, actor: Actor, params: TrainParams, planned: Plan) -> None:
    if params.start is None:
        raise InvalidInput("replay: there is nothing to forget without a version to go on from; give start as well")
    older, _ = services.datasets.resolve(actor, str(params.replay))
    kinds = {column.name: column.type for column in older.manifest.columns}
    for name in (*planned.features, *([planned.target] if planned.target else [])):
        if name not in kinds:
            raise InvalidInput(f"replay: dataset {params.replay} lacks the column {name[:100]!r}")


# Rows


def lay_out(
    run: JobRun, planned: Rows, seed: int, replay_ref: str | None = None
) -> tuple[TrainingData, tuple[Path, ...]]:
    """The rows on this disk: to learn from, to choose by; and those of the test part, which nobody learns from."""
    _, train = made.parts_of(run.services, run.actor, planned.rows_of(planned.train))
    if isinstance(planned.validation, str):
        _, validation = made.parts_of(run.services, run.actor, planned.rows_of(planned.validation))
    else:
        train, validation = divided(run.folder / "rows", train, planned, seed)
    test: list[Path] = []
    if planned.test is not None:
        _, test = made.parts_of(run.services, run.actor, planned.rows_of(planned.test))
    replay: list[Path] = []
    if replay_ref is not None:
        older, part = run.services.datasets.resolve(run.actor, replay_ref)
        chosen = part or _first(_TRAIN, older.manifest.parts)
        _, replay = made.parts_of(
            run.services, run.actor, f"{older.dataset}:{older.version}" + (f"/{chosen}" if chosen else "")
        )
    laid = training_data(planned, train=tuple(train), validation=tuple(validation), replay=tuple(replay))
    return laid, tuple(test)


def divided(folder: Path, rows: Sequence[Path], planned: Rows, seed: int) -> tuple[list[Path], list[Path]]:
    """A share of the rows put aside to choose by: by strata where there are classes, equal rows on one side."""
    assert isinstance(planned.validation, float)
    shares = {"train": 1 - planned.validation, "validation": planned.validation}
    parts = split_rows(folder, rows, planned, shares, seed)
    return parts["train"], parts["validation"]


def split_rows(
    folder: Path, rows: Sequence[Path], planned: Rows, shares: Mapping[str, float], seed: int
) -> dict[str, list[Path]]:
    """Rows by part; made once."""
    writing = made.room("writing")
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        wish: dict[str, Any] = {"dataset": planned.data.dataset, "name": planned.data.dataset, "ratios": dict(shares)}
        made.room("split").split(rows, SplitParams(**wish, seed=seed, **planned.divide), folder)
        (folder / "done").touch()
    return {name: writing.parts_in(folder / name) for name in shares}


def _divide(rows: Rows, recipe: Recipe, options: Options) -> dict[str, str]:
    """How rows may be parted without a leak: as the recipe says, or by the classes' shares."""
    if isinstance(recipe, Divides) and (wish := recipe.divide(options)):
        return wish
    return by_classes(rows) if recipe.task(training_data(rows), options) in CLASSES else {}


def by_classes(rows: Rows) -> dict[str, str]:
    """Shares of the classes stay alike, unless a class has too few rows for that."""
    if rows.target is None:
        return {}
    column = column_of(rows.data, rows.target)
    few = column.distinct is not None and column.distinct <= _MOST_CLASSES
    rare = min((value.count for value in column.top), default=0) < 2
    return {"stratify": rows.target} if few and not column.nulls and not rare else {}


def column_of(data: DatasetVersion, name: str) -> Column:
    """What is known of a column."""
    return next(column for column in data.manifest.columns if column.name == name)


# Learning


def learn(
    run: JobRun, folder: Path, planned: Plan, params: TrainParams, data: TrainingData,
    telling: Callable[[str, float, int | None], None] | None = None,
) -> tuple[Trained, Path]:  # fmt: skip
    """Let the recipe learn in ``folder``; what it tells, and the folder of the files it made. Done once."""
    return learnt_once(
        run, folder, params.files, params.seed, start_of(run, params.start),
        lambda attempt: planned.recipe.train(attempt, data, planned.options), f"recipe {params.recipe!r}", telling,
    )  # fmt: skip


def learnt_once(
    run: JobRun, folder: Path, files: Sequence[FileEntry], seed: int, start: Start | None,
    work: Callable[[TrainingRun], Trained], who: str,
    telling: Callable[[str, float, int | None], None] | None = None,
) -> tuple[Trained, Path]:  # fmt: skip
    """Have ``work`` make a version's files in ``folder``; what it tells, and the folder of the files. Done once."""
    out, note = folder / "out", folder / "trained.json"
    if note.exists():
        return Trained(**json.loads(note.read_text())), out
    shutil.rmtree(out, ignore_errors=True)
    for each in (folder, out, folder / "kept"):
        each.mkdir(parents=True, exist_ok=True)
    attempt = TrainingRun(
        folder=folder / "kept", out=out, code=_code(run, files), seed=seed, threads=run.threads, attempt=run.attempt,
        score=import_module("modelport.evaluation.score").score, environment=partial(environment, run),
        progress=run.progress, metric=telling or run.metric, start=start,
    )  # fmt: skip
    with told_of_disk():
        trained = work(attempt)
    if not any(path.is_file() for path in out.rglob("*")):
        raise InvalidInput(f"{who} made no files; there is nothing to register")
    made.write_whole(note, asdict(trained))
    return trained, out


def _code(run: JobRun, files: Sequence[FileEntry]) -> Path | None:
    """The caller's files, in a folder that is only read."""
    return run.services.datasets.uploaded(run.actor, files) if files else None


def start_of(run: JobRun, ref: str | None) -> Start | None:
    """The version to go on from."""
    if ref is None:
        return None
    manifest = made.model_of(run.services, run.actor, ref).manifest
    folder = run.services.artifacts.materialize(run.actor.project_id, manifest.digest, manifest.files)
    return Start(folder, manifest.details, manifest.labels, [step.model_dump() for step in manifest.preprocessing])


def environment(run: JobRun, requirements: Sequence[str]) -> tuple[str, Mapping[str, str]]:
    """Interpreter and variables of a virtual environment with these requirements, built when it is not there."""
    folder = run.services.settings.home / "environments"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    run.progress(0, None, f"building the environment: {', '.join(requirements)}"[:200], "steps")
    built = asyncio.run(Environments(folder).ensure(requirements, run.folder / "environment.log"))
    return built.python, built.variables


# A version to be


def offer(
    run: JobRun, planned: Plan, params: TrainParams, trained: Trained, out: Path, keep: bool = True
) -> tuple[VersionPush, ModelVersion]:  # fmt: skip
    """The files as a push of them would be, inspected; nothing is registered yet.

    They are in the store then, unless they are not to be kept: most of what is tried is thrown away.
    """
    story = {
        "recipe": params.recipe,
        "params": params.model_dump(mode="json", exclude_defaults=True, exclude=_CALLED),
        "data": {"version": planned.reference, "digest": planned.data.digest},
        "task": trained.task,
        "warnings": trained.warnings,
        "report": trained.report,
        "code_version": metadata.version("modelport"),
    }
    (out / "training").mkdir(exist_ok=True)
    made.write_whole(out / "training" / "training.json", story)  # by a new file: an earlier attempt's is in the store
    name, mine = params.name or planned.data.dataset, parents(run, planned, params)
    about = params.model_dump(include={"labels", "alias", "description", "licence"})
    return push_of(run, name, trained, out, {**about, "parents": mine}, keep)


def push_of(
    run: JobRun, name: str, trained: Trained, out: Path, about: Mapping[str, Any], keep: bool = True
) -> tuple[VersionPush, ModelVersion]:
    """The files of ``out`` as a push of them would be, inspected; ``about`` are more fields of the push."""
    registry = run.services.registry
    found = [(path.relative_to(out).as_posix(), path) for path in sorted(out.rglob("*")) if path.is_file()]
    files = [registry.adopt(run.actor, name, path) if keep else _entry(name, path) for name, path in found]
    push = VersionPush.model_validate(
        {
            "files": files, "class_labels": trained.class_labels, "preprocessing": trained.preprocessing,
            "sample": trained.sample, "task": trained.task, "columns": trained.inputs, **about,
        }
    )  # fmt: skip
    return push, registry.draft(run.actor, name, push, None if keep else out)


def _entry(name: str, file: Path) -> FileEntry:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return FileEntry(path=name, size=file.stat().st_size, sha256=digest)


def parents(run: JobRun, planned: Plan, params: TrainParams) -> list[str]:
    """What the version is made of: rows, the version that it went on from, and the job that made it."""
    found = [f"dataset:{planned.reference}", job_parent(run.id)]
    if params.start is not None:
        found.append(params.start)
    if params.replay is not None:
        found.append(f"dataset:{params.replay.partition('/')[0]}")
    return list(dict.fromkeys(found))


def job_parent(job_id: str) -> str:
    """How a version says which job made it."""
    return f"job:{job_id}"


def job_in(run: JobRun, folder: Path) -> JobRun:
    """The same job at work in a folder below its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return replace(run, folder=folder)


def all_recipes() -> list[RecipeInfo]:
    """What there is to learn with."""
    found = []
    for name in plugins.names(GROUP):
        recipe = recipe_of(name)
        about = {"summary": recipe.summary, "extra": recipe.extra, "available": is_available(recipe)}
        found.append(RecipeInfo(name=name, options=recipe.Options.model_json_schema(), **about))
    return found
