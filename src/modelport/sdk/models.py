"""The registry's operations: push, list, move aliases, tag, pull, delete.

A push hashes the files here, asks which of them the server lacks, sends only those, and then names them as a version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ValidationError

from modelport.errors import InvalidInput
from modelport.schemas.models import FileEntry, LineageNode, Model, ModelVersion, VersionPush
from modelport.schemas.names import ALIAS_PATTERN, NAME_PATTERN
from modelport.schemas.problems import told
from modelport.sdk.files import (
    FileSink,
    FileSource,
    Meter,
    Progress,
    check_paths,
    hash_files,
    ignore_progress,
    resumed,
    scan,
)
from modelport.sdk.flows import D_co, Flow, Operations, Request, Work, operation, path_of, send, send_json, send_list
from modelport.tensors import Array, datatype_of

ModelList = list[Model]
VersionList = list[ModelVersion]
Ref = str | int
API = "/api/v1"
_PATTERNS = {
    NAME_PATTERN: "it takes up to 100 letters, digits, '.', '_' and '-', of which the first is a letter or digit",
    ALIAS_PATTERN: "it takes up to 100 letters, digits, '.', '_' and '-', of which the first is a letter",
}


def _model(name: str, *rest: Ref) -> str:
    return API + path_of("models", name, *rest)


def fetch_version(name: str, ref: Ref = "latest") -> Flow[ModelVersion]:
    """One version, by number or alias."""
    return ModelVersion.model_validate((yield from send_json("GET", _model(name, "versions", ref))))


class Models(Operations[D_co]):
    """``client.models``: models, their versions, aliases and labels."""

    @operation
    def push(
        self,
        path: str | Path,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        alias: str | None = None,
        metrics: Mapping[str, float] | None = None,
        class_labels: Sequence[str] | None = None,
        sample: Mapping[str, Any] | None = None,
        preprocessing: Sequence[Mapping[str, Any]] = (),
        parents: Sequence[str] = (),
        description: str = "",
        licence: str = "",
        only: Sequence[str] | None = None,
        progress: Progress = ignore_progress,
    ) -> Flow[ModelVersion]:
        """Register a file, or a folder's files without hidden ones, as the next version of ``name``.

        ``class_labels`` names a classifier's classes when the artifact does not; ``sample`` gives example inputs:
        arrays by input name, or ``{"inputs": [V2 tensors]}``. ``preprocessing`` declares steps that make the model's
        tensors of image files or texts. ``only`` picks some of a folder's files. Raises ArtifactRefused for what
        the server cannot serve.
        """
        where = _model(name, "versions")
        files = [found for found in scan(Path(path)) if only is None or found[0] in only]
        entries: list[FileEntry] = []
        yield Work(lambda: entries.extend(hash_files(files, progress)))
        try:
            body = VersionPush(
                files=entries,
                labels=dict(labels or {}),
                alias=alias,
                metrics=dict(metrics or {}),
                class_labels=list(class_labels) if class_labels is not None else None,
                sample=sample_tensors(sample) if sample is not None else None,
                parents=list(parents),
                preprocessing=list(preprocessing),
                description=description,
                licence=licence,
            )
        except ValidationError as error:
            raise refused(error, VersionPush) from None
        yield from upload(
            {entry.sha256: (file, entry.size) for entry, (_, file) in zip(entries, files, strict=True)}, progress
        )
        answer = yield from send_json(
            "POST", where, body.model_dump(exclude_defaults=True), idempotent=False, timeout=600
        )
        return ModelVersion.model_validate(answer)

    @operation
    def import_from(
        self,
        source: str,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        alias: str | None = None,
        description: str = "",
        licence: str = "",
    ) -> Flow[VersionList]:
        """Have the server itself read ``source`` (``https://``, ``hf://``, an allowed store) as versions of ``name``.

        Gives the new versions, oldest first. Raises NotAllowed for a source that the operator does not allow.
        """
        about = {"alias": alias, "labels": dict(labels or {}), "description": description, "licence": licence}
        body = {"source": source, **{key: value for key, value in about.items() if value}}
        answer = yield from send_json("POST", _model(name, "imports"), body, idempotent=False, timeout=3700)
        return [ModelVersion.model_validate(item) for item in answer["items"]]

    @operation
    def list(self) -> Flow[ModelList]:
        """All models of the project."""
        return [Model.model_validate(item) for item in (yield from send_list(f"{API}/models", "name"))]

    @operation
    def get(self, name: str) -> Flow[Model]:
        """One model: its newest version and its aliases."""
        return Model.model_validate((yield from send_json("GET", _model(name))))

    @operation
    def versions(self, name: str) -> Flow[VersionList]:
        """All versions of a model."""
        return [ModelVersion.model_validate(v) for v in (yield from send_list(_model(name, "versions"), "version"))]

    @operation
    def version(self, name: str, ref: Ref = "latest") -> Flow[ModelVersion]:
        """One version, by number or alias; the newest by default."""
        return (yield from fetch_version(name, ref))

    @operation
    def alias(self, name: str, alias: str, version: int) -> Flow[None]:
        """Make ``alias`` the name of ``version``, wherever it pointed before."""
        yield from send_json("PUT", _model(name, "aliases", alias), {"version": version})

    @operation
    def unalias(self, name: str, alias: str) -> Flow[None]:
        """Remove an alias; its version stays."""
        yield from send(Request("DELETE", _model(name, "aliases", alias)))

    @operation
    def tag(self, name: str, ref: Ref, key: str, value: str) -> Flow[None]:
        """Put the label ``key=value`` on a version."""
        yield from send_json("PUT", _model(name, "versions", ref, "labels", key), {"value": value})

    @operation
    def untag(self, name: str, ref: Ref, key: str) -> Flow[None]:
        """Remove a label."""
        yield from send(Request("DELETE", _model(name, "versions", ref, "labels", key)))

    @operation
    def delete(self, name: str, version: int | None = None) -> Flow[None]:
        """Delete one version, or the model with all of them. Raises Conflict while a deployment uses it."""
        rest: tuple[Ref, ...] = () if version is None else ("versions", version)
        yield from send(Request("DELETE", _model(name, *rest)))

    @operation
    def lineage(self, name: str, ref: Ref = "latest") -> Flow[LineageNode]:
        """What a version was made from, what was made from it, and who serves it."""
        return LineageNode.model_validate((yield from send_json("GET", _model(name, "versions", ref, "lineage"))))

    @operation
    def pull(
        self, name: str, ref: Ref, folder: str | Path, *, progress: Progress = ignore_progress
    ) -> Flow[ModelVersion]:
        """Bring a version's files into ``folder``, which must be new or empty, and is whole or absent afterwards.

        Every file's hash is verified. What a broken connection left behind, in a hidden folder beside, the next pull
        of the version goes on with. Raises InvalidInput when a hash differs, Conflict when the folder holds something.
        """
        version = yield from fetch_version(name, ref)
        entries = version.manifest.files
        check_paths([entry.path for entry in entries])
        meter = Meter("download", sum(entry.size for entry in entries), progress)
        with resumed(Path(folder), version.digest) as staging:
            for entry in entries:
                where = _model(name, "versions", version.version, "files") + path_of(*entry.path.split("/"))
                with FileSink(staging / entry.path, entry, meter) as sink:
                    yield Work(sink.recall)
                    if not sink.complete:
                        yield from send(Request("GET", where, sink=sink))
                    sink.verify()
        return version


def upload(blobs: dict[str, tuple[Path, int]], progress: Progress) -> Flow[None]:
    """Send those of the blobs (path and size by hash) that the server lacks."""
    answer = yield from send_json("POST", f"{API}/blobs/missing", {"sha256": list(blobs)})
    missing = [sha256 for sha256 in answer["missing"] if sha256 in blobs]
    meter = Meter("upload", sum(blobs[sha256][1] for sha256 in missing), progress)
    for sha256 in missing:
        source = FileSource(*blobs[sha256], meter)
        headers = {"content-type": "application/octet-stream"}
        yield from send(Request("PUT", f"{API}/blobs/{sha256}", headers=headers, body=source, timeout=600))


def sample_tensors(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Example inputs as the manifest keeps them, ``{"inputs": [V2 tensors]}``, from those or from arrays by name."""
    if isinstance(sample.get("inputs"), list) and len(sample) == 1:
        return dict(sample)
    return {"inputs": [_tensor_json(name, _array(value)) for name, value in sample.items()]}


def _array(value: Any) -> Array:
    """Lists of fractions are FP32, what models mostly take; arrays are what they say."""
    made = np.asarray(value)
    return made.astype(np.float32) if made.dtype == np.float64 and not hasattr(value, "dtype") else made


def _tensor_json(name: str, array: Array) -> dict[str, Any]:
    datatype = datatype_of(array.dtype)
    data = array.reshape(-1).tolist()
    if datatype == "BYTES":
        data = [element.decode() if isinstance(element, bytes) else str(element) for element in data]
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


def refused(error: ValidationError, kind: type[BaseModel]) -> InvalidInput:
    """A pydantic error as ours: the first field of that shape, its cause, and what it takes."""
    first = error.errors()[0]
    wants = _PATTERNS.get(first.get("ctx", {}).get("pattern", ""))
    if wants is None:
        return InvalidInput(told(first, kind))
    return InvalidInput(f"{'.'.join(map(str, first['loc']))}: {wants}, not {str(first['input'])[:100]!r}")
