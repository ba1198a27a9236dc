"""What a job that compresses means, settled before work begins: version, methods, budget, and which rows do what.

Knows the registry, datasets and what a method says of itself; how methods work and how a search goes lies elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport import plugins
from modelport.compression import budget as budgets
from modelport.compression import chains
from modelport.compression.method import GROUP, Consults, Form, Method, Model, check_installed, method_of
from modelport.control.actors import Actor
from modelport.control.work import made, training
from modelport.control.work.training import Rows
from modelport.errors import InvalidInput, MissingExtra, ModelportError
from modelport.schemas.compression import CompressParams, MethodInfo, MethodStep
from modelport.schemas.models import ModelVersion
from modelport.schemas.training import TrainParams
from modelport.storage.paths import check_paths
from modelport.training.recipe import Options, TrainingData, is_available, options_of

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_STORY = "training/training.json"
_LARGEST_STORY = 64 << 20
#: What the registry calls the format of each runtime that can be asked for.
RUNTIMES = {"onnx": "onnx", "litert": "litert", "openvino": "openvino", "torch": "torch_export"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is meant."""

    version: ModelVersion
    story: Mapping[str, Any]
    forms: tuple[Form, ...]
    steps: list[tuple[Method, Options]]
    """Empty to search."""
    rows: Rows | None
    seed: int
    """The one that parted the rows when the version was trained, so that rows which taught it never judge it."""
    others: tuple[str, ...] = ()
    """Further versions that the methods look at."""

    @property
    def name(self) -> str:
        """``digits:3``."""
        return f"{self.version.model}:{self.version.version}"


def plan(services: Services, actor: Actor, params: CompressParams) -> tuple[Asked, list[str]]:
    """What is meant, and warnings; raises what can be known to be wrong before work begins."""
    made.check_installed()
    version = made.model_of(services, actor, params.model)
    name = f"{version.model}:{version.version}"
    story = story_of(services, actor, version)
    forms = chains.forms_of(version.manifest, story)
    if not params.methods and params.budget.is_empty:
        raise InvalidInput(
            "say what is wanted: a budget (max_drop, size_ratio, latency_p99_ms …), or methods; `modelport methods` "
            "lists those"
        )
    if params.methods and params.only:
        raise InvalidInput("only: there is nothing to search for where methods are given; leave one of both out")
    budgets.check(params.budget, version.manifest.served_bytes or version.size, bool(version.manifest.runtime))
    methods = chains.check(forms, params.methods, name)
    for only in params.only:
        method_of(only)
    ending = end_of(version, params)
    if ending:
        check_installed(method_of("convert"))
        method_of("convert").check(
            Model(Path(), version.manifest), None, options_of(method_of("convert"), ending[0].options)
        )
    check_paths(entry.path for entry in params.files)
    services.datasets.check_uploaded(actor, params.files)
    rows, seed = _rows(services, actor, params, version, story)
    steps, warnings = [], []
    data = training.training_data(rows) if rows is not None else None
    model = Model(Path(), version.manifest)
    others: dict[str, Model] = {}
    for number, (method, step) in enumerate(zip(methods, params.methods, strict=True)):
        check_installed(method)
        options = options_of(method, step.options)
        if method.data and data is None:
            raise InvalidInput(f"data: method {step.method!r} needs rows; name a dataset")
        if isinstance(method, Consults):
            for ref in method.consulted(options):
                others[ref] = Model(Path(), made.model_of(services, actor, ref).manifest)
        if number == 0:  # what the others work on is not there yet
            warnings += method.check(replace(model, others=others), data, options)
        steps.append((method, options))
    if not methods:
        if rows is None:
            raise InvalidInput(f"data: a search judges by rows, and nobody wrote down what {name} was trained on")
        if rows.target is None and "language" not in forms:
            raise InvalidInput("target: a search judges by rows whose truth is known; say which column holds it")
        _check_search(model, forms, params, name)
    return Asked(version, story, forms, steps, rows, seed, tuple(others)), warnings


def _check_search(model: Model, forms: tuple[Form, ...], params: CompressParams, name: str) -> None:
    import_optuna()
    if not chains.families(model, forms, params.only, has_data=True):
        known = ", ".join(one for one in plugins.names(GROUP) if set(method_of(one).forms) & set(forms))
        raise InvalidInput(
            f"no method that a search could try applies to {name}"
            + (f" among {', '.join(params.only)}; to it apply: {known or 'none'}" if params.only else "")
        )


def end_of(version: ModelVersion, params: CompressParams) -> list[MethodStep]:
    """What follows every sequence, so that the runtime which is asked for serves what comes out."""
    if params.runtime in (None, "onnx") or RUNTIMES.get(str(params.runtime)) == version.format:
        return []
    if any(step.method == "convert" for step in params.methods):
        raise InvalidInput("runtime: the method convert says it already; leave one of both out")
    return [MethodStep(method="convert", options={"to": params.runtime})]


def import_optuna() -> Any:
    """The search's room; raises MissingExtra."""
    try:
        return import_module("modelport.compression.search")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("modelport"):
            raise
        raise MissingExtra("compress", "searching for a compression") from None


def story_of(services: Services, actor: Actor, version: ModelVersion) -> dict[str, Any]:
    """What the version's training wrote down; empty for one that was pushed."""
    entry = next((one for one in version.manifest.files if one.path == _STORY), None)
    if entry is None or entry.size > _LARGEST_STORY:
        return {}
    try:
        found = json.loads(b"".join(services.registry.iterate_file(actor, entry)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def model_in(run: JobRun, version: ModelVersion, others: Mapping[str, Model] | None = None) -> Model:
    """A registered version with its files here."""
    manifest = version.manifest
    folder = run.services.artifacts.materialize(run.actor.project_id, manifest.digest, manifest.files)
    return Model(folder, manifest, others or {})


def consulted(run: JobRun, names: Iterable[str]) -> dict[str, Model]:
    """Other versions that methods look at, by the names they have there: the same ones at every attempt."""
    note = run.folder / "consulted.json"
    if not note.exists():
        made.write_whole(note, {name: made.model_meant(run, name) for name in names})
    meant: dict[str, str] = json.loads(note.read_text())
    return {name: model_in(run, made.model_of(run.services, run.actor, ref)) for name, ref in meant.items()}


# Rows


def _rows(
    services: Services, actor: Actor, params: CompressParams, version: ModelVersion, story: Mapping[str, Any]
) -> tuple[Rows | None, int]:
    """The rows as the version's training saw them, unless the caller says otherwise."""
    said = story.get("params") or {}
    before = (story.get("data") or {}).get("version")
    wanted = params.data or before
    if wanted is None:
        return None, params.seed
    try:
        data, part = services.datasets.resolve(actor, wanted)
    except ModelportError:
        if params.data is not None:
            raise
        return None, params.seed  # what it was trained on is gone
    same = f"{data.dataset}:{data.version}" == before
    taught = TrainParams.model_validate({"recipe": "none", "data": wanted, **_of_rows(said if same else {})})
    wish = taught.model_copy(
        update={name: value for name in ("train", "validation", "test") if (value := getattr(params, name)) is not None}
    )
    target = params.target or said.get("target") or data.manifest.label
    kinds = {column.name for column in data.manifest.columns}
    if params.target is not None or (target is not None and target not in kinds):
        made.check_column(data, target, "target")
    train, validation, test = training.parts_meant(wish, data, part)
    features = said.get("features")
    if features is not None:
        for name in features:
            made.check_column(data, name, "data")
    rows = Rows(
        data, train, validation, test, target,
        training.features_of(data, target, features, [*said.get("exclude", [])]), {},
    )  # fmt: skip
    task = version.manifest.task or story.get("task", "")
    divide = training.by_classes(rows) if task in training.CLASSES else {}
    return replace(rows, divide=divide), int(said.get("seed", 0)) if same else params.seed


def _of_rows(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in ("train", "validation", "test") if name in said}


def lay_out(run: JobRun, asked: Asked) -> tuple[TrainingData, tuple[Path, ...], str | None]:
    """Rows to learn from and to judge by, those that prove the winner, and the part that these are, if they are one."""
    rows = asked.rows
    assert rows is not None
    data, test = training.lay_out(run, rows, asked.seed)
    if test:
        return data, test, rows.test
    halves = training.split_rows(
        run.folder / "halves", data.validation, rows, {"judging": 0.5, "proving": 0.5}, asked.seed
    )
    return replace(data, validation=tuple(halves["judging"])), tuple(halves["proving"]), None


def all_methods() -> list[MethodInfo]:
    """What there is to compress with."""
    found = []
    for name in plugins.names(GROUP):
        method = method_of(name)
        found.append(
            MethodInfo(
                name=name, summary=method.summary, forms=list(method.forms), available=is_available(method),
                options=method.Options.model_json_schema(), extra=method.extra,
            )
        )  # fmt: skip
    return found
