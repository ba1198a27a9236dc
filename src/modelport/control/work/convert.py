"""Job ``convert``: a version, or files that no runtime serves, as a version of another format, proven to answer alike.

Converters run shut in; what they write is inspected like any push. Nothing is registered before the answers of both
have been compared, and never twice.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport import plugins
from modelport.control.actors import Actor
from modelport.control.assembly import trust_of
from modelport.control.work import made, training
from modelport.conversion import arrays, parity
from modelport.conversion.chain import Converted, Settings, Source, Workshop
from modelport.conversion.routes import PACKED, Converter, check_installed, route
from modelport.conversion.sources import NAMES, check_task, check_whole, recognise, served_format
from modelport.engine.formats.refused import advice
from modelport.engine.inspect import artifact_files
from modelport.engine.proof import sample_inputs
from modelport.engine.routing import features_of
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.schemas.conversion import ConvertParams
from modelport.schemas.models import FileEntry, Manifest, ModelVersion, VersionPush
from modelport.storage.disk import told_of_disk
from modelport.storage.paths import check_paths
from modelport.tensors import Signature, TensorSpec

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun

_log = logging.getLogger(__name__)
REPORT = "conversion/conversion.json"
_ROWS_OFF = 0.002
_TEXTS = Signature((TensorSpec("text", "BYTES", (-1,)),), ())
"""What a model that writes is asked about, which says of itself that it takes nothing."""


class Convert:
    """The work of the kind."""

    Params = ConvertParams

    def check(self, services: Services, actor: Actor, params: ConvertParams) -> None:
        if params.data is not None:
            made.check_installed()
            services.datasets.resolve(actor, params.data)
        if params.files:
            check_paths(entry.path for entry in params.files)
            services.datasets.check_uploaded(actor, params.files)
        source = _source(services, actor, params, look=False)
        steps = route(source.kind, params.to)
        check_whole(source.kind, source.files)
        check_installed(steps, params.to)
        if params.precision and not steps[-1].weights:
            raise InvalidInput("precision: only of a language model's weights for OpenVINO; leave it out")
        fixed = steps[-1].static or params.to == "litert"
        if params.batch and not fixed:
            raise InvalidInput(f"batch: {params.to} takes any number of rows; leave it out")
        if len(set(params.batch)) < len(params.batch):
            raise InvalidInput("batch: a number is there twice; say each once")

    def inputs(self, services: Services, actor: Actor, params: ConvertParams) -> list[str] | None:
        found = made.digests(services, actor, [params.data] if params.data else [])
        if found is None:
            return None
        source = made.model_of(services, actor, params.model).digest if params.model else ""
        return [*found, source, *(f"{entry.path} {entry.sha256}" for entry in params.files)]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.versions_there(services, actor, [str(ref) for ref in result.get("models", [])])

    def run(self, run: JobRun, params: ConvertParams) -> dict[str, Any]:
        params = _pinned(run, params)
        source = _source(run.services, run.actor, params)
        if source.kind not in NAMES and source.manifest is None:  # files of a served format: what a push would find
            push = VersionPush(files=params.files, sample=params.sample)
            source.manifest = run.services.registry.draft(run.actor, str(params.name), push).manifest
        steps = route(source.kind, params.to)
        versions = []
        batches: list[int | None] = [*params.batch]
        for batch in batches or [None]:
            note = run.folder / f"version-{batch or 'any'}.json"
            if not note.exists():
                made.write_whole(note, Conversion(run, params, source, steps, batch).version())
            versions.append(json.loads(note.read_text()))
        return {**versions[0], "models": [one["model"] for one in versions], "versions": versions}


def _pinned(run: JobRun, params: ConvertParams) -> ConvertParams:
    """The same versions at every attempt, whatever ``latest`` and an alias mean by then."""

    def settle() -> dict[str, Any]:
        found = {"model": made.model_meant(run, params.model)} if params.model else {}
        return found | ({"data": made.rows_meant(run, params.data)} if params.data else {})

    return params.model_copy(update=made.settled(run, settle))


def _source(services: Services, actor: Actor, params: ConvertParams, look: bool = True) -> Source:
    """What is to be converted; raises ArtifactRefused for files that are no model that is known.

    Without ``look`` the files of what is served are not brought here.
    """
    if params.model is not None:
        manifest = made.model_of(services, actor, params.model).manifest
        files = tuple(entry.path for entry in manifest.files)
        writes = manifest.format == "huggingface" and manifest.details.get("task") == "generate"
        kind = "language" if writes else manifest.format
        if (manifest.runtime or writes) and not look:
            return Source(kind, Path(), files, "", manifest)
        folder = services.artifacts.materialize(actor.project_id, manifest.digest, manifest.files)
        if manifest.runtime or writes:
            return Source(kind, folder, files, "", manifest)
        found = recognise(folder, files)
        if found is None:
            why = manifest.details.get("not_served", "no runtime here serves it")
            raise InvalidInput(f"model {params.model!r} cannot be converted: {why}")
        return Source(found[0], folder, files, found[1])
    folder = services.datasets.uploaded(actor, params.files)
    files = tuple(entry.path for entry in params.files)
    found = recognise(folder, files)
    if found is not None:
        return Source(found[0], folder, files, found[1])
    served = served_format(folder, files)
    if served is None:
        raise ArtifactRefused(advice(folder, files))
    if served == "huggingface":
        check_task(folder, files)
    return Source(served, folder, files)


@dataclass
class Conversion:
    """One version to be."""

    run: JobRun
    params: ConvertParams
    source: Source
    steps: list[Converter]
    batch: int | None

    def version(self) -> dict[str, Any]:
        """Convert, compare, register; what the job says of it."""
        run, params = self.run, self.params
        place = run.folder / f"batch-{self.batch or 'any'}"
        before = self._registered()
        settings = Settings(
            params.opset, self.batch, params.precision, tuple(trust_of(run.services.settings).sklearn_types),
            run.threads, params.rows,
        )  # fmt: skip
        workshop = Workshop(place, settings, partial(training.environment, run), self._told)
        if before is None:
            shutil.rmtree(place, ignore_errors=True)
            with told_of_disk():
                converted = workshop.convert(self.source, self.steps)
                return self._proven(workshop, converted, place)
        return _told_version(before, json.loads((place / "result.json").read_text()))

    def _proven(self, workshop: Workshop, converted: Converted, place: Path) -> dict[str, Any]:
        params = self.params
        push, draft = self._offer(converted)
        tolerance, most_off = self._limits()
        expected, found, compared_on = self._answers(workshop, converted.folder, draft.manifest, place)
        same = parity.compare(arrays.load(expected), arrays.load(found), tolerance)
        parity.check(same, tolerance, most_off)
        figures = parity.as_report(same)
        notes = list(dict.fromkeys(converted.notes))
        if compared_on == "made-up inputs":
            notes.append("compared on made-up inputs: give rows with --data, which tell more")
        if same.left_out:
            notes.append(f"outputs that {params.to} has not: {', '.join(same.left_out)}")
        report = {
            "from": self.source.kind, "to": params.to, "steps": converted.steps, "batch": self.batch,
            "compared_on": compared_on, "tolerance": tolerance, "max_rows_off": most_off, "parity": figures,
            "notes": notes,
        }  # fmt: skip
        result = {"parity": figures, "compared_on": compared_on, "tolerance": tolerance, "warnings": notes,
                  "steps": converted.steps, "batch": self.batch}  # fmt: skip
        made.write_whole(place / "result.json", result)
        return _told_version(self._register(converted.folder, push, report, same), result)

    def _limits(self) -> tuple[float, float]:
        """How far off values may be, and the share of the rows that may be off further."""
        params = self.params
        usual = (max(step.tolerance for step in self.steps), _ROWS_OFF)
        tolerance, rows = PACKED.get(params.precision or "", usual)
        return params.tolerance or tolerance, rows if params.max_rows_off is None else params.max_rows_off

    def _offer(self, converted: Converted) -> tuple[VersionPush, ModelVersion]:
        """The files as a push of them, inspected."""
        run, params, source = self.run, self.params, self.source.manifest
        wish: dict[str, Any] = {
            "files": self._adopted(converted.folder), "labels": params.labels, "alias": params.alias,
            "parents": self._parents(), "preprocessing": converted.preprocessing, "description": params.description,
            "task": source.task if source else "", "licence": source.licence if source else "",
        }  # fmt: skip
        push = VersionPush.model_validate(wish)
        draft = run.services.registry.draft(run.actor, self._name(), push)
        known = params.class_labels or converted.class_labels or _labels_of(source)
        if known and (params.class_labels or not draft.manifest.labels):
            push = push.model_copy(update={"class_labels": known})
        names = {spec.name for spec in draft.manifest.signature.inputs}
        sample = params.sample or (source.sample if source else None)
        fits = sample is not None and {one["name"] for one in sample["inputs"]} == names
        columns = {name: of for name, of in (source.columns if source else {}).items() if name in names}
        push = push.model_copy(update={"columns": columns})
        same = source is None or draft.manifest.signature.inputs == source.signature.inputs
        if fits and same and self.batch is None:
            push = push.model_copy(update={"sample": sample})
        again = push.class_labels is not None or push.sample is not None
        return push, run.services.registry.draft(run.actor, self._name(), push) if again else draft

    def _adopted(self, folder: Path) -> list[FileEntry]:
        registry = self.run.services.registry
        return [registry.adopt(self.run.actor, name, folder / name) for name in artifact_files(folder)]

    def _answers(self, workshop: Workshop, folder: Path, draft: Manifest, place: Path) -> tuple[Path, Path, str]:
        """Files with what was expected and what was found; and what was asked about."""
        source = self.source.manifest
        if self.steps[-1].asks_both:
            asked, compared_on = self._asked(draft.model_copy(update={"signature": _TEXTS}), place)
            return *workshop.both_answers(self.source, self.steps[-1], folder, asked), compared_on
        asked, compared_on = self._asked(source or draft, place)
        runtime = plugins.reference("runtimes", draft.runtime)
        if source is not None:
            own = plugins.reference("runtimes", source.runtime)
            expected, asked = workshop.served_answers("source", self.source.folder, source, own, asked)
            found, _ = workshop.served_answers("converted", folder, draft, runtime, asked)
            return expected, found, compared_on
        found, inner = workshop.served_answers("converted", folder, draft, runtime, asked, own=True)
        assert inner is not None
        signature = (draft.model_signature or draft.signature).to_json()
        return workshop.library_answers(self.source, self.steps[0], inner, signature), found, compared_on

    def _asked(self, manifest: Manifest, place: Path) -> tuple[Path | None, str]:
        file = place / "asked.npz"
        if self.params.data is not None:
            rows = _rows(self.run, self.params, _any_rows(manifest))
            arrays.save(rows, file)
            return file, f"{len(next(iter(rows.values())))} rows of {self.params.data}"
        sample = self.params.sample or manifest.sample
        if sample is not None:
            arrays.save(sample_inputs(manifest.signature, sample), file)
            return file, "the version's sample"
        return None, "made-up inputs"

    def _register(
        self, folder: Path, push: VersionPush, report: Mapping[str, Any], same: parity.Parity
    ) -> ModelVersion:
        run = self.run
        file = folder / REPORT
        file.parent.mkdir(exist_ok=True)
        made.write_whole(file, report)
        numbers = {"parity_max_absolute": same.max_absolute, "parity_max_relative": same.max_relative}
        if same.label_agreement is not None:
            numbers["parity_label_agreement"] = same.label_agreement
        told = {"files": self._adopted(folder), "metrics": numbers}
        version = run.services.registry.push(run.actor, self._name(), push.model_copy(update=told))
        _log.info("converted to %s:%d", version.model, version.version)
        return version

    def _registered(self) -> ModelVersion | None:
        """What an earlier attempt has registered just before it ended."""
        found = self.run.services.registry.made_from(self.run.actor, self._job())
        return found[0] if found else None

    def _job(self) -> str:
        return training.job_parent(self.run.id) + (f"/{self.batch}" if self.batch else "")

    def _parents(self) -> list[str]:
        params = self.params
        rows = [f"dataset:{params.data.partition('/')[0]}"] if params.data else []
        files = [f"file:{entry.path}@sha256:{entry.sha256}"[:300] for entry in params.files[:8]]
        return list(dict.fromkeys([*([params.model] if params.model else files), self._job(), *rows]))

    def _name(self) -> str:
        return self.params.name or str(self.params.model).partition(":")[0]

    def _told(self, message: str) -> None:
        self.run.progress(0, None, message[:200], "steps")


def _labels_of(source: Manifest | None) -> list[str] | None:
    """The classes of the source, when all its scores have the same."""
    known = [list(names) for names in source.labels.values()] if source else []
    return known[0] if known and all(one == known[0] for one in known) else None


def _told_version(version: ModelVersion, result: Mapping[str, Any]) -> dict[str, Any]:
    return {**made.version_told(version), **result}


def _any_rows(manifest: Manifest) -> Manifest:
    """As if the first dimension of its inputs were free where each has the same fixed one: runs are filled up."""
    fixed = {spec.shape[:1] for spec in manifest.signature.inputs}
    if len(fixed) != 1 or fixed == {()} or min(fixed)[0] < 1:
        return manifest
    inputs = tuple(replace(spec, shape=(-1, *spec.shape[1:])) for spec in manifest.signature.inputs)
    return manifest.model_copy(update={"signature": replace(manifest.signature, inputs=inputs)})


def _rows(run: JobRun, params: ConvertParams, manifest: Manifest) -> dict[str, Any]:
    """Rows of the data as the model takes them, spread over all of it."""
    _, parts = made.parts_of(run.services, run.actor, str(params.data))
    features = features_of(manifest.details)
    return dict(made.room("drawn").drawn(parts, manifest, features, params.inputs, params.rows))
