"""Job ``collect``: rows from uploaded files, a URL, a database or Spark become a version of a dataset.

Who may read what: uploaded files are the caller's own; everything else begins as one of the operator's settings says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.control.actors import Actor
from modelport.control.work import made
from modelport.data.addresses import check_query, check_source, database_url
from modelport.errors import InvalidInput, NotFound
from modelport.schemas.datasets import CollectParams, DatasetVersion
from modelport.storage.disk import told_of_disk
from modelport.storage.paths import check_paths
from modelport.storage.sources import Limits

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.jobs.run import JobRun


class Collect:
    """The work of the kind."""

    Params = CollectParams
    least_memory_mb = made.LEAST_MEMORY_MB

    def check(self, services: Services, actor: Actor, params: CollectParams) -> None:
        made.check_installed()
        settings = services.settings.data
        if params.files is not None:
            check_paths(entry.path for entry in params.files)
            services.datasets.check_uploaded(actor, params.files)
        source = params.source or ""
        if source.startswith("sql:"):
            database_url(source, settings.databases)
            check_query(params.query)
            if params.incremental == "files":
                raise InvalidInput("incremental: a query has no files; name a column that only grows")
        elif params.query is not None:
            raise InvalidInput("query: only a sql:// source takes one")
        elif source:
            check_source(source, settings.allow)

    def inputs(self, services: Services, actor: Actor, params: CollectParams) -> list[str] | None:
        """Uploaded contents are known; what lies elsewhere may have changed."""
        if params.files is None or params.incremental is not None:
            return None
        return [f"{entry.sha256} {entry.path}" for entry in params.files]

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        return made.still_there(services, actor, result)

    def run(self, run: JobRun, params: CollectParams) -> dict[str, Any]:
        if (done := made.already(run)) is not None:
            return done
        self.check(run.services, run.actor, params)
        folder, scratch = made.begin(run)
        before = _newest(run, params)
        if before is not None:
            _, parts = made.parts_of(run.services, run.actor, f"{params.name}:{before.version}")
            made.room("collect").begin_with(folder, parts)
        with told_of_disk():
            if (params.source or "").startswith("sql:"):
                found, watermark = _from_database(run, params, folder, before)
            else:
                found, watermark = _from_files(run, params, folder, scratch, before)
        if before is not None and not found.new_rows:
            return {**made.result(before), "new_rows": 0}
        source = params.source.partition("?")[0] if params.source else _uploaded_text(params)
        parents = [f"{before.dataset}:{before.version}"] if before is not None else []
        about = {"source": source, "report": found.report, "watermark": watermark}
        return {**made.register(run, params, folder, parents=parents, **about), "new_rows": found.new_rows}


def _uploaded_text(params: CollectParams) -> str:
    names = [entry.path for entry in params.files or ()]
    return f"uploaded: {names[0][:200]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _newest(run: JobRun, params: CollectParams) -> DatasetVersion | None:
    """The version that an incremental collection goes on from; the same one at every attempt."""
    if params.incremental is None:
        return None
    note = run.folder / "goes-on-from"
    if not note.exists():
        try:
            newest = run.services.datasets.version(run.actor, params.name).version
        except NotFound:
            newest = 0
        note.write_text(str(newest))
    number = int(note.read_text() or 0)
    return run.services.datasets.version(run.actor, params.name, number) if number else None


def _from_files(
    run: JobRun, params: CollectParams, folder: Path, scratch: Path, before: DatasetVersion | None
) -> tuple[Any, dict[str, Any]]:
    collect, files = made.room("collect"), _files(run, params, scratch)
    known: dict[str, str] = before.manifest.watermark.get("files", {}) if before is not None else {}
    watermark: dict[str, Any] = {}
    if params.incremental == "files":
        changed = [file.name for file in files if file.name in known and known[file.name] != file.mark]
        if changed:
            raise InvalidInput(
                f"{changed[0][:200]!r} and {len(changed) - 1} more have changed since they were collected; collect "
                "without --incremental"
            )
        watermark = {"files": {**known, **{file.name: file.mark for file in files}}}
        files = [file for file in files if file.name not in known]
        if before is not None and not files:
            return collect.Collected([], 0), watermark
    wanted = collect.Wanted(_reading(params, files), params.on_error == "skip", params.on_schema == "union")
    if params.incremental not in (None, "files"):
        wanted.after = collect.Mark(params.incremental, _value(before, params.incremental))
    found = collect.collect_files(files, wanted, folder, scratch, _telling(run, "bytes"))
    return found, watermark


def _from_database(
    run: JobRun, params: CollectParams, folder: Path, before: DatasetVersion | None
) -> tuple[Any, dict[str, Any]]:
    databases, collect, writing = made.room("databases"), made.room("collect"), made.room("writing")
    parts = writing.parts_in(folder)
    kept = len(before.manifest.files) if before is not None else 0
    for part in parts[kept:]:  # a query has no order of its own: what an earlier attempt wrote is of no use
        part.unlink()
    url = database_url(params.source or "", run.services.settings.data.databases)
    after, known = None, writing.schema_of(parts[:kept]) if kept else None
    if params.incremental is not None:
        value = _value(before, params.incremental)
        kind = known.field(params.incremental).type if known is not None and value is not None else None
        after = (params.incremental, collect.Mark(params.incremental, value).typed(kind))
    rows = databases.query_rows(url, check_query(params.query), after, known)
    if before is not None and (rows := collect.unless_empty(rows)) is None:
        return collect.Collected([], 0), {}
    return collect.collect_batches(rows, folder, _telling(run, "rows")), {}


def _value(before: DatasetVersion | None, column: str) -> str | None:
    """The largest value that was collected, as text."""
    if before is None:
        return None
    for found in before.manifest.columns:
        if found.name == column:
            return None if found.max is None else str(found.max)
    raise NotFound(f"incremental: dataset {before.dataset}:{before.version} has no column {column[:100]!r}")


def _files(run: JobRun, params: CollectParams, scratch: Path) -> list[Any]:
    sources, settings = made.room("sources"), run.services.settings.data
    limits = Limits(int(settings.max_gb * 1e9), 1_000_000, settings.timeout_s, settings.allow_private)
    if params.files is not None:
        folder = run.services.datasets.uploaded(run.actor, params.files)
        found = [
            sources.SourceFile(entry.path, entry.size, entry.sha256, sources.opener(folder / entry.path))
            for entry in sorted(params.files, key=lambda entry: entry.path)
        ]
        return list(sources.unpacked(found, scratch, limits))
    source = params.source or ""
    if source.startswith("spark:"):
        return list(made.room("spark").spark_files(source, scratch))
    return list(sources.unpacked(sources.url_files(source, scratch, limits), scratch, limits))


def _reading(params: CollectParams, files: list[Any]) -> Any:
    reading = made.room("reading")
    if (params.source or "").startswith("spark:"):
        return reading.Reading("parquet")
    if not files:
        raise InvalidInput("the source holds no file; hidden files do not count")
    kind = params.format or reading.format_of(files)
    return reading.Reading(kind, dict(params.types), params.delimiter, params.encoding)


def _telling(run: JobRun, unit: str) -> Any:
    return lambda done, total, message: run.progress(done, total, message, unit)
