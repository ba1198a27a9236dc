"""Datasets: collect from here or from where the server reads, clean, join, split; list, look, pull, delete.

What makes or archives a version is a job: those methods come back with it, ended unless ``wait=False``; its ``result``
names the version. Files of this machine are uploaded as a push uploads them.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelport.errors import InvalidInput, NotFound
from modelport.schemas.datasets import Dataset, DatasetLineage, DatasetVersion, Head
from modelport.schemas.jobs import Job
from modelport.sdk.files import FileSink, Meter, Progress, check_paths, hash_files, ignore_progress, resumed, scan
from modelport.sdk.flows import D_co, Flow, Operations, Request, Work, operation, path_of, send, send_json, send_list
from modelport.sdk.jobs import JobWatch, ignore_job, wait_for, wish_of
from modelport.sdk.models import API, Ref, upload

DatasetList = list[Dataset]
VersionList = list[DatasetVersion]
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|spark:")
_WILD = re.compile(r"[*?\[]")
#: Files that are sent one by one; more are packed first.
_AT_ONCE = 32


def _dataset(name: str, *rest: Ref) -> str:
    return API + path_of("datasets", name, *rest)


class Datasets(Operations[D_co]):
    """``client.datasets``."""

    @operation
    def collect(
        self,
        /,
        source: Any,
        name: str,
        *,
        wait: bool = True,
        upload_progress: Progress = ignore_progress,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Make a version of ``name`` from a source: the job that did it.

        ``source`` is a file, folder or pattern of this machine (uploaded), a URL that the server reads
        (``https://``, ``s3://``, ``file://`` for its own disk, ``sql://NAME`` with ``query=``,
        ``spark:FORMAT:URL``), or a table in memory (pandas, Polars, Arrow, Daft, Spark). ``params`` are further fields
        of ``CollectParams``. Raises NotFound, InvalidInput, and JobFailed with the job's own cause.
        """
        if isinstance(source, str) and _URL.match(source):
            asked = {"name": name, "source": source, **params}
            return (yield from submitted("collect", asked, wait, watch))
        with _files_of(source) as files:
            entries: list[Any] = []
            yield Work(lambda: entries.extend(hash_files(files, upload_progress)))
            yield from upload(
                {entry.sha256: (file, entry.size) for entry, (_, file) in zip(entries, files, strict=True)},
                upload_progress,
            )
        asked = {"name": name, "files": [entry.model_dump() for entry in entries], **params}
        return (yield from submitted("collect", asked, wait, watch))

    @operation
    def clean(
        self,
        /,
        dataset: str,
        recipe: Mapping[str, Any],
        name: str | None = None,
        *,
        wait: bool = True,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Apply a recipe's rules to a version; the result is the next version of ``name`` (or of the same dataset)."""
        asked = {"dataset": dataset, "recipe": dict(recipe), "name": name or name_in(dataset), **params}
        return (yield from submitted("clean", asked, wait, watch))

    @operation
    def join(
        self,
        /,
        left: str,
        right: str,
        on: Sequence[str],
        name: str,
        *,
        wait: bool = True,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Columns of ``right`` beside the rows of ``left``; refused when rows multiply, unless ``expect="many"``."""
        asked = {"left": left, "right": right, "on": list(on), "name": name, **params}
        return (yield from submitted("join", asked, wait, watch))

    @operation
    def concat(
        self, /, datasets: Sequence[str], name: str, *, wait: bool = True, watch: JobWatch = ignore_job, **params: Any
    ) -> Flow[Job]:
        """The rows of several versions, one after another."""
        asked = {"datasets": list(datasets), "name": name, **params}
        return (yield from submitted("concat", asked, wait, watch))

    @operation
    def split(
        self,
        /,
        dataset: str,
        name: str | None = None,
        *,
        wait: bool = True,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Split a version into ``train``, ``validation`` and ``test`` (``ratios``), each row into exactly one."""
        asked = {"dataset": dataset, "name": name or f"{name_in(dataset)}-split", **params}
        return (yield from submitted("split", asked, wait, watch))

    @operation
    def features(
        self,
        /,
        dataset: str,
        recipe: Mapping[str, Any],
        name: str | None = None,
        *,
        wait: bool = True,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Make columns from columns by a recipe."""
        asked = {"dataset": dataset, "recipe": dict(recipe), "name": name or name_in(dataset), **params}
        return (yield from submitted("features", asked, wait, watch))

    @operation
    def predict(
        self,
        /,
        model: str,
        data: str,
        to: str | None = None,
        *,
        wait: bool = True,
        watch: JobWatch = ignore_job,
        **params: Any,
    ) -> Flow[Job]:
        """Every row of ``data`` through ``NAME[:VERSION|@ALIAS]``; the result says where the predictions are.

        ``to`` is ``dataset:NAME`` (by default one named after the data), or a URL that the operator allows. ``params``
        are further fields of ``PredictParams``; ``workers`` copies of the model hold as many cores.
        """
        asked = {"model": model, "data": data, "to": to, **params}
        if params.get("workers", 1) > 1:
            asked.setdefault("cores", params["workers"])
        return (yield from submitted("predict", asked, wait, watch))

    @operation
    def list(self) -> Flow[DatasetList]:
        """All datasets of the project."""
        return [Dataset.model_validate(item) for item in (yield from send_list(f"{API}/datasets", "name"))]

    @operation
    def get(self, name: str) -> Flow[Dataset]:
        """One dataset."""
        return Dataset.model_validate((yield from send_json("GET", _dataset(name))))

    @operation
    def versions(self, name: str) -> Flow[VersionList]:
        """All versions of a dataset, newest first."""
        found = yield from send_list(_dataset(name, "versions"), "version")
        return [DatasetVersion.model_validate(item) for item in found]

    @operation
    def version(self, name: str, ref: Ref = "latest") -> Flow[DatasetVersion]:
        """One version: schema, statistics, class balance, files."""
        return (yield from _version(name, ref))

    @operation
    def head(self, name: str, ref: Ref = "latest", rows: int = 10, part: str = "") -> Flow[Head]:
        """The first rows."""
        params = {"rows": rows, "part": part}
        return Head.model_validate(
            (yield from send_json("GET", _dataset(name, "versions", ref, "head"), params=params))
        )

    @operation
    def lineage(self, name: str, ref: Ref = "latest") -> Flow[DatasetLineage]:
        """What a version was made from, and what was made from it."""
        return DatasetLineage.model_validate((yield from send_json("GET", _dataset(name, "versions", ref, "lineage"))))

    @operation
    def archive(
        self, /, dataset: str, to: str, *, wait: bool = True, watch: JobWatch = ignore_job, **params: Any
    ) -> Flow[Job]:
        """Move a version's files to a place that the operator allows; they come back when they are needed."""
        return (yield from submitted("archive", {"dataset": dataset, "to": to, **params}, wait, watch))

    @operation
    def delete(self, name: str, version: int | None = None) -> Flow[None]:
        """Delete one version, or the dataset with all of them; what was made from it stays."""
        rest: tuple[Ref, ...] = () if version is None else ("versions", version)
        yield from send(Request("DELETE", _dataset(name, *rest)))

    @operation
    def pull(
        self, name: str, ref: Ref, folder: str | Path, *, part: str = "", progress: Progress = ignore_progress
    ) -> Flow[DatasetVersion]:
        """Bring a version's Parquet files (of one ``part`` only, if told) into a new folder, verified."""
        version = yield from _version(name, ref)
        entries = [e for e in version.manifest.files if not part or e.path.startswith(f"{part}/")]
        if not entries:
            raise NotFound(f"dataset {name}:{version.version} has no part {part[:50]!r}")
        check_paths([entry.path for entry in entries])
        meter = Meter("download", sum(entry.size for entry in entries), progress)
        with resumed(Path(folder), version.digest) as staging:
            for entry in entries:
                where = _dataset(name, "versions", version.version, "files") + path_of(*entry.path.split("/"))
                with FileSink(staging / entry.path, entry, meter) as sink:
                    yield Work(sink.recall)
                    if not sink.complete:
                        yield from send(Request("GET", where, sink=sink))
                    sink.verify()
        return version


def _version(name: str, ref: Ref) -> Flow[DatasetVersion]:
    return DatasetVersion.model_validate((yield from send_json("GET", _dataset(name, "versions", ref))))


def submitted(kind: str, params: dict[str, Any], wait: bool, watch: JobWatch) -> Flow[Job]:
    """A job of the kind, which ended if it was to be waited for; ``params`` may hold what the job itself takes."""
    asked = ("cores", "memory_mb", "gpus", "priority", "retries")
    fields: dict[str, Any] = {name: params.pop(name) for name in asked if name in params}
    given = {name: value for name, value in params.items() if value is not None}
    body = wish_of(kind, given, fields).model_dump(mode="json", exclude_unset=True)
    job = Job.model_validate((yield from send_json("POST", f"{API}/jobs", body, idempotent=False)))
    return (yield from wait_for(job.id, None, watch, True)) if wait else job


def name_in(ref: str) -> str:
    """The dataset's name in ``NAME:3/part``."""
    return re.split(r"[:/]", ref, maxsplit=1)[0]


@contextmanager
def _files_of(source: Any) -> Iterator[list[tuple[str, Path]]]:
    """What is sent for a path or pattern, or for a table in memory, which is written out while the block lasts."""
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        if isinstance(source, str | Path):
            found = _found(str(source))
            yield found if len(found) <= _AT_ONCE else [_packed(found, Path(folder) / "files.tar")]
            return
        target = Path(folder) / "table"
        _write_frame(source, target)
        yield [found for found in scan(target) if found[0].endswith(".parquet")]


def _found(source: str) -> list[tuple[str, Path]]:
    path = Path(source).expanduser()
    if path.exists() or not _WILD.search(source):
        return scan(path)
    fixed = next(index for index, part in enumerate(path.parts) if _WILD.search(part))
    root, pattern = Path(*path.parts[:fixed]), "/".join(path.parts[fixed:])
    found = sorted((one.relative_to(root).as_posix(), one) for one in root.glob(pattern) if one.is_file())
    if not found:
        raise NotFound(f"no file is like {source[:200]!r}; check the pattern")
    return found


def _packed(files: Sequence[tuple[str, Path]], target: Path) -> tuple[str, Path]:
    """Many files as one archive, the same for the same files: a request for each would take long."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for inside, file in sorted(files):
            about = tarfile.TarInfo(inside)
            about.size = file.stat().st_size
            with file.open("rb") as stream:
                archive.addfile(about, stream)
    return target.name, target


def _write_frame(frame: Any, target: Path) -> None:
    """Write a data frame by its own means, as one or several Parquet files."""
    file = target / "part-00000.parquet"
    if hasattr(frame, "write") and hasattr(frame.write, "parquet"):  # Spark
        frame.write.parquet(target.absolute().as_uri())
        return
    target.mkdir()
    if hasattr(frame, "to_parquet"):  # pandas, Dask
        frame.to_parquet(file, index=False)
    elif hasattr(frame, "write_parquet"):  # Polars, Daft
        kind = type(frame).__module__.partition(".")[0]
        frame.write_parquet(str(target if kind == "daft" else file))
    elif hasattr(frame, "schema") and hasattr(frame, "to_batches"):  # Arrow
        from importlib import import_module  # noqa: PLC0415  (whoever has an Arrow table has its library)

        import_module("pyarrow.parquet").write_table(frame, file)
    else:
        raise InvalidInput(
            f"source: a {type(frame).__name__} is not collected; give a path, a URL, or a pandas, Polars, Arrow, Daft "
            "or Spark table"
        )
