"""Registers a model from a source that the server reads itself.

The operator says which sources: each is a URL's beginning. What comes lies in a folder of its own until it is
registered, and goes through the same push as everything else. Knows no HTTP and no format.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from modelport.control.actors import Actor
from modelport.control.registry import Registry
from modelport.engine.imports.layout import Part, parts_of
from modelport.errors import InvalidInput, NotAllowed
from modelport.schemas.imports import ImportRequest
from modelport.schemas.models import FileEntry, ModelVersion, VersionPush
from modelport.settings import ImportSettings
from modelport.storage.sources import CHUNK, Limits, fetch, is_within, scheme_of


class Imports:
    """The service of ``/models/{name}/imports``. Synchronous; safe for many threads."""

    def __init__(self, registry: Registry, settings: ImportSettings, folder: Path) -> None:
        self._registry, self._settings, self._folder = registry, settings, folder
        self._limits = Limits(
            max_bytes=int(settings.max_gb * 1e9), timeout_s=settings.timeout_s, allow_private=settings.allow_private
        )
        shutil.rmtree(folder, ignore_errors=True)  # what a crash left behind

    def run(self, actor: Actor, name: str, wanted: ImportRequest) -> list[ModelVersion]:
        """Fetch a source and register what it holds as versions of ``name``, oldest first.

        Raises NotAllowed for a source that the operator has not allowed, InvalidInput for one that holds several
        models, what ``storage.sources.fetch`` raises, and what a push raises.
        """
        self._check(wanted.source)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as own:
            parts = parts_of(fetch(wanted.source, Path(own), self._limits))
            if len(names := sorted({part.name for part in parts})) > 1:
                raise InvalidInput(f"the source holds {len(names)} models: add one of {', '.join(names)[:500]} to it")
            return [
                self._push(actor, name, part, wanted, wanted.alias if part is parts[-1] else None) for part in parts
            ]

    def _check(self, source: str) -> None:
        scheme = scheme_of(source)
        if scheme is None or scheme == "file":
            raise NotAllowed("the server reads no files of its own machine; `modelport push PATH` sends yours")
        if not is_within(source, self._settings.allow):
            raise NotAllowed(
                f"source {source[:200]!r}: the operator allows {', '.join(self._settings.allow) or 'none'} "
                "(MODELPORT_IMPORTS_ALLOW); `modelport push` reads it with your own credentials"
            )

    def _push(self, actor: Actor, name: str, part: Part, wanted: ImportRequest, alias: str | None) -> ModelVersion:
        files = [self._registry.add_file(actor, inside, _chunks(path)) for inside, path in _files(part)]
        return self._registry.push(actor, name, _version_push(files, part, wanted, alias))


def _version_push(files: list[FileEntry], part: Part, wanted: ImportRequest, alias: str | None) -> VersionPush:
    return VersionPush(
        files=files,
        labels={**part.labels, **wanted.labels},
        alias=alias,
        parents=[wanted.source.partition("?")[0][:300]],  # a query may hold a signature
        description=wanted.description,
        licence=wanted.licence,
    )


def _files(part: Part) -> list[tuple[str, Path]]:
    if not part.folder.is_dir():
        return [(part.folder.name, part.folder)]
    if part.files is not None:
        return [(name, part.folder / name) for name in part.files]
    paths = sorted(path for path in part.folder.rglob("*") if path.is_file())
    return [(path.relative_to(part.folder).as_posix(), path) for path in paths]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
