"""Where ``push`` takes a model from: a path, or a URL that is read here with the credentials of whoever pushes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.cli import render
from modelport.engine.imports.layout import Part, parts_of
from modelport.errors import InvalidInput
from modelport.storage.sources import Limits, fetch, local_path, scheme_of

if TYPE_CHECKING:
    from modelport.schemas.models import ModelVersion
    from modelport.sdk.client import Client


def push_parts(client: Client, source: str, name: str | None, arguments: dict[str, Any]) -> list[ModelVersion]:
    """Push each version that a source holds, oldest first; an alias goes to the newest of each model."""
    made: list[ModelVersion] = []
    with _parts(source) as parts:
        names = sorted({part.name for part in parts})
        if name is not None and len(names) > 1:
            raise InvalidInput(
                f"--name names one model, the source holds {len(names)}: {', '.join(names)[:300]}; "
                "leave it out, or push the folder of one"
            )
        newest = {part.name: part for part in parts}
        for part in parts:
            given = {**arguments, "labels": {**part.labels, **arguments["labels"]}}
            if part is not newest[part.name]:
                given["alias"] = None
            with render.transfer_bar() as progress:
                made.append(
                    client.models.push(part.folder, name or part.name, only=part.files, progress=progress, **given)
                )
    return made


def import_on_server(client: Client, source: str, name: str | None, arguments: dict[str, Any]) -> list[ModelVersion]:
    """Have the server read the source; raises InvalidInput for what only a push from here can bring along."""
    if name is None:
        raise InvalidInput("--on-server needs --name NAME: the source is not read here")
    about = {key: arguments.pop(key) for key in ("labels", "alias", "description", "licence")}
    if any(arguments.values()):
        raise InvalidInput(
            "--on-server takes only --name, --label, --alias, --description and --licence; "
            "leave the others out, or push without --on-server"
        )
    with render.working(f"the server reads {source}"):
        return client.models.import_from(source, name, **about)


@contextmanager
def _parts(source: str) -> Iterator[list[Part]]:
    """What the source holds, on this machine while the block lasts."""
    if scheme_of(source) in (None, "file"):
        yield parts_of(local_path(source))
        return
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        into = Path(folder) / (source.partition("?")[0].rstrip("/").rpartition("/")[2] or "model")
        into.mkdir()
        with render.working(f"fetching {source.partition('?')[0]}"):
            fetched = fetch(source, into, Limits(allow_private=True))
        yield parts_of(fetched)
