"""What every kind of job that makes a dataset version does around its own work: read versions, describe, register.

Knows what a job's run is; the rows are the business of the room ``data``, which is imported when a job runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.evaluations import reference
from modelport.control.jobs.gate import machine_cores
from modelport.errors import InvalidInput, MissingExtra, NotFound
from modelport.schemas.datasets import DatasetVersion, Facts, Params
from modelport.schemas.models import ModelVersion

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)
#: Arrow and Daft, with a thread for each core of the machine, MB: measured 300 on two cores. With less they crash.
LEAST_MEMORY_MB = 400 + 16 * machine_cores()


def room(name: str) -> Any:
    """A module of the room ``data``; raises MissingExtra."""
    try:
        import_module("modelport.data.engine")
        return import_module(f"modelport.data.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("modelport"):
            raise
        raise MissingExtra("data", "working with datasets") from None


def check_installed() -> None:
    """Raise MissingExtra, without loading what is heavy."""
    if find_spec("daft") is None or find_spec("pyarrow") is None:
        raise MissingExtra("data", "working with datasets")


def begin(run: JobRun) -> tuple[Path, Path]:
    """Folders for the parts and for what helps to make them; Daft is told where to work."""
    room("engine").use_runner(run.services.settings.data.engine)
    scratch = run.folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    return run.folder / "parts", scratch


def already(run: JobRun) -> dict[str, Any] | None:
    """The result, when an earlier attempt ended just after it registered what it had made."""
    made = run.services.datasets.made_by(run.actor, run.id)
    return None if made is None else result(made)


def parts_of(services: Services, actor: Actor, ref: str) -> tuple[DatasetVersion, list[Path]]:
    """The version that a reference means, and its Parquet files here, those of its part only when it names one."""
    version, part = services.datasets.resolve(actor, ref)
    folder = services.datasets.materialize(actor, version)
    parts = room("writing").parts_in(folder / part if part else folder)
    if not parts:
        raise NotFound(f"dataset {ref!r} has no rows there")
    return version, parts


def model_of(services: Services, actor: Actor, ref: str) -> ModelVersion:
    """The version of a model that ``NAME[:NUMBER|@ALIAS]`` means; raises NotFound."""
    name, at, alias = ref.partition("@")
    name, _, number = name.partition(":")
    if number and not (number.isdecimal() and 0 < int(number[:12]) < 2**31):
        raise InvalidInput(f"model: {number[:40]!r} is no version; say NAME, NAME:NUMBER or NAME@ALIAS")
    if at and (alias.isdecimal() or alias == "latest"):
        raise NotFound(f"model {name!r} has no alias {alias[:100]!r}; `modelport models list` shows what there is")
    return services.registry.version(actor, name, alias if at else int(number) if number else None)


def write_whole(file: Path, content: Any) -> None:
    """All of it or nothing."""
    beside = file.with_suffix(".unfinished")
    beside.write_text(json.dumps(content))
    beside.replace(file)


def settled(run: JobRun, settle: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the first attempt settled, such as the versions that ``latest`` and aliases meant: the same at every one."""
    note = run.folder / "pinned.json"
    if not note.exists():
        write_whole(note, settle())
    found: dict[str, Any] = json.loads(note.read_text())
    return found


def rows_meant(run: JobRun, ref: str) -> str:
    """``NAME:3`` or ``NAME:3/part``: the rows that a reference means now."""
    return reference(*run.services.datasets.resolve(run.actor, ref))


def model_meant(run: JobRun, ref: str) -> str:
    """``NAME:3``: the version of a model that a reference means now."""
    version = model_of(run.services, run.actor, ref)
    return f"{version.model}:{version.version}"


def check_column(version: DatasetVersion, name: str | None, what: str) -> None:
    """Raise NotFound unless the version has the column; None is fine."""
    names = [column.name for column in version.manifest.columns]
    if name is not None and name not in names:
        raise NotFound(
            f"{what}: dataset {version.dataset}:{version.version} has no column {name[:100]!r}; "
            f"it has {', '.join(names)[:500]}"
        )


def digests(services: Services, actor: Actor, refs: Sequence[str]) -> list[str] | None:
    """Digests of versions, for who wants to know whether the same was done before."""
    found = []
    for ref in refs:
        version, part = services.datasets.resolve(actor, ref)
        found.append(f"{version.digest} {part or ''}")
    return found


def still_there(services: Services, actor: Actor, made: dict[str, Any]) -> bool:
    """Whether the version that an earlier run made exists still."""
    try:
        services.datasets.resolve(actor, str(made.get("dataset")))
    except NotFound:
        return False
    return True


def version_told(version: ModelVersion) -> dict[str, Any]:
    """What a job that made a model's version says of it."""
    return {
        "model": f"{version.model}:{version.version}", "version": version.version, "digest": version.digest,
        "format": version.format, "bytes": version.size,
    }  # fmt: skip


def versions_there(services: Services, actor: Actor, refs: Sequence[str]) -> bool:
    """Whether versions of models that an earlier run made exist still."""
    try:
        for ref in refs:
            model_of(services, actor, ref)
    except NotFound:
        return False
    return True


def register(run: JobRun, params: Params, folder: Path, *, parents: Sequence[str] = (), **about: Any) -> dict[str, Any]:
    """Describe the parts below ``folder`` and make them a version; the job's result."""
    writing = room("writing")
    parts = writing.parts_in(folder)
    rows = sum(writing.rows_in(part) for part in parts)
    run.progress(rows, rows, "describing the columns", "rows")
    label = params.label if params.label is not None else about.pop("inherited_label", None)
    about.pop("inherited_label", None)
    facts: Facts = room("statistics").describe(parts, label)
    given = params.model_dump(mode="json", exclude_defaults=True, exclude={"files"})
    facts = facts.model_copy(update={"recipe": given, "code_version": metadata.version("modelport"), **about})
    made = run.services.datasets.register(
        run.actor, params.name, folder, facts, parents=parents, job_id=run.id, description=params.description
    )
    _log.info("made %s:%d of %d rows", made.dataset, made.version, made.rows)
    return result(made)


def result(made: DatasetVersion) -> dict[str, Any]:
    """What a job that made a version gives back; a pipeline's gates and stages read it."""
    report = {name: value for name, value in made.manifest.report.items() if isinstance(value, int | float | str)}
    return {
        "dataset": f"{made.dataset}:{made.version}",
        "version": made.version,
        "digest": made.digest,
        "rows": made.rows,
        "bytes": made.size,
        "parts": made.manifest.parts,
        "report": report,
    }
