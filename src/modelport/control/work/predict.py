"""Job ``predict``: every row of a dataset through one version of a model, on replicas of the job's own.

The rows are cut into shards; a shard's results are one file, whole before it is put where it is wanted, and never made
again. Which versions, columns and shards there are is settled by the first attempt, and noted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.assembly import trust_of
from modelport.control.runnable import check_runnable
from modelport.control.work import made
from modelport.control.work.predict_run import Predictor
from modelport.data.binding import Binding, bind
from modelport.data.outputs import Wanted, wanted
from modelport.data.results import Results, results_of
from modelport.engine.routing import features_of
from modelport.errors import InvalidInput
from modelport.schemas.datasets import DatasetVersion, Params
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import ModelVersion
from modelport.schemas.names import NAME_PATTERN
from modelport.schemas.predictions import PredictManifest, PredictParams, Shard

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_DATASET = "dataset:"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pinned:
    """What the first attempt settled."""

    model: int
    data: str
    ranks: dict[str, int]


class Predict:
    """The work of the kind."""

    Params = PredictParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: PredictParams) -> None:
        made.check_installed()
        version = made.model_of(services, actor, params.model)
        check_runnable(trust_of(services.settings), version.manifest, DeploymentSpec())
        data, part = services.datasets.resolve(actor, params.data)
        if not (data.manifest.parts[part] if part else data.rows):
            raise InvalidInput(f"data: dataset {params.data} has no rows; there is nothing to predict")
        for column in (*params.id, *params.keep):
            made.check_column(data, column, "id and keep")
        _binding(version, data, params)
        columns = _wanted(version, data, params)
        if _into(params).startswith("sql:") and (vague := columns.vague):
            raise InvalidInput(f"to: output {vague[0]!r} may be a value or a list, which no table has; give a folder")
        _results(services, params, probe=True)

    def inputs(self, services: Services, actor: Actor, params: PredictParams) -> list[str] | None:
        """What is written elsewhere may have been changed there since."""
        if not _into(params).startswith(_DATASET):
            return None
        version = made.model_of(services, actor, params.model)
        found = made.digests(services, actor, [params.data])
        return None if found is None else [*found, f"{version.model}:{version.version} {version.digest}"]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: PredictParams) -> dict[str, Any]:
        pinned = _pin(run, params)
        version = run.services.registry.version(run.actor, _name(params.model), pinned.model)
        data, parts = made.parts_of(run.services, run.actor, pinned.data)
        if (before := made.already(run)) is not None:
            return _result(version, pinned.data, _shards(run.folder), before)
        columns, binding = _wanted(version, data, params), _binding(version, data, params)
        columns.ranks.update(pinned.ranks)
        results = _results(run.services, params)
        if results is not None:
            results.claim(run.id, params.overwrite, _schema(columns, parts))
        predictor = Predictor(run, params, version.manifest, binding, columns)

        def done(number: int, file: Path) -> None:
            if results is not None:
                results.put(number, file)

        def learnt() -> None:
            made.write_whole(run.folder / "pinned.json", asdict(pinned) | {"ranks": columns.ranks})

        asyncio.run(predictor.run(parts, done, learnt))
        os.chdir(run.folder)
        shards = _shards(run.folder)
        if results is None:
            facts = _registered(run, params, version, pinned.data)
            return _result(version, pinned.data, shards, facts)
        manifest = _manifest(run, params, version, data, pinned.data, shards, _schema(columns, parts))
        results.finish(manifest.model_dump(mode="json"))
        return _result(version, pinned.data, shards, {"to": _into(params).partition("?")[0]})


def _name(model: str) -> str:
    return model.partition("@")[0].partition(":")[0]


def _into(params: PredictParams) -> str:
    return params.to or f"{_DATASET}{_default_name(params.data)}"


def _default_name(data: str) -> str:
    """The dataset that predictions for this one go to when nothing else is said."""
    return f"{data.partition('/')[0].partition(':')[0][:87]}-predictions"


def _binding(version: ModelVersion, data: DatasetVersion, params: PredictParams) -> Binding:
    columns = {column.name: column.type for column in data.manifest.columns}
    manifest = version.manifest
    return bind(manifest.signature, features_of(manifest.details), columns, {**manifest.columns, **params.inputs})


def _wanted(version: ModelVersion, data: DatasetVersion, params: PredictParams) -> Wanted:
    manifest = version.manifest
    beside = list(dict.fromkeys((*params.id, *params.keep)))
    return wanted(
        manifest.signature, manifest.labels, beside, number=not params.id, probabilities=params.probabilities,
        record=params.on_error == "record", has_rows=_binding(version, data, params).has_rows,
    )  # fmt: skip


def _results(services: Services, params: PredictParams, probe: bool = False) -> Results | None:
    """Where results go beside the registry; None for a dataset."""
    to, settings = _into(params), services.settings.data
    if to.startswith(_DATASET):
        _checked_name(to.removeprefix(_DATASET))
        return None
    found = results_of(to, settings.results, settings.databases)
    if probe:
        found.probe(params.overwrite)
    return found


def _checked_name(name: str) -> str:
    if re.fullmatch(NAME_PATTERN.strip("^$"), name) is None:
        raise InvalidInput(f"to: {name[:100]!r} is no name of a dataset: letters, digits, '.', '_', '-', at most 100")
    return name


def _pin(run: JobRun, params: PredictParams) -> _Pinned:
    """The same versions at every attempt, whatever ``latest`` and an alias mean by then."""

    def settle() -> dict[str, Any]:
        version = made.model_of(run.services, run.actor, params.model)
        return {"model": version.version, "data": made.rows_meant(run, params.data), "ranks": {}}

    return _Pinned(**made.settled(run, settle))


def _shards(folder: Path) -> list[Shard]:
    """Those that are done, in order."""
    return [Shard.model_validate_json(note.read_bytes()) for note in sorted((folder / "shards").glob("*.json"))]


def _schema(columns: Wanted, parts: list[Path]) -> Any:
    return made.room("predictions").schema_of(columns, made.room("writing").schema_of(parts))


def _result(version: ModelVersion, data: str, shards: list[Shard], more: dict[str, Any]) -> dict[str, Any]:
    rows, failed = sum(shard.rows for shard in shards), sum(shard.failed_rows for shard in shards)
    _log.info("%d rows, %d of them refused", rows, failed)
    model = f"{version.model}:{version.version}"
    return {**more, "rows": rows, "failed_rows": failed, "model": model, "data": data, "shards": len(shards)}


def _registered(run: JobRun, params: PredictParams, version: ModelVersion, data: str) -> dict[str, Any]:
    """The dataset version that the shards become."""
    made.room("engine").use_runner(run.services.settings.data.engine)
    shutil.rmtree(run.folder / "replicas", ignore_errors=True)
    model = f"{version.model}:{version.version}"
    shards = _shards(run.folder)
    about = Params(name=_into(params).removeprefix(_DATASET))
    report = {"model": model, "failed_rows": sum(shard.failed_rows for shard in shards)}
    parents = [data.partition("/")[0], f"model:{model}"]
    return made.register(run, about, run.folder / "parts", parents=parents, source=f"{model} on {data}", report=report)


def _manifest(
    run: JobRun,
    params: PredictParams,
    version: ModelVersion,
    data: DatasetVersion,
    ref: str,
    shards: list[Shard],
    schema: Any,
) -> PredictManifest:
    return PredictManifest(
        job=run.id,
        model=f"{version.model}:{version.version}",
        model_digest=version.digest,
        data=ref,
        data_digest=data.digest,
        rows=sum(shard.rows for shard in shards),
        failed_rows=sum(shard.failed_rows for shard in shards),
        columns={field.name: str(field.type) for field in schema},
        shards=shards,
        code_version=metadata.version("modelport"),
        params=params.model_dump(mode="json", exclude_defaults=True),
    )
