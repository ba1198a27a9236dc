"""The zip archive that torch.export and AOTInductor write, told from other files by its bytes, read by member.

Needs only the standard library: inspection and replicas both read with it. Members that are pickles (sample inputs,
custom objects) are never opened. Knows nothing of graphs and tensors.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from modelport.errors import ArtifactRefused

_MARK, _MODELS, _COMPILED = "archive_format", "models/", "data/aotinductor/"
_MOST_MEMBERS = 200_000
_LARGEST_JSON = 512 << 20


class TorchArchive:
    """An open ``.pt2`` file; its members lie in one folder whose name is the writer's choice."""

    def __init__(self, path: Path) -> None:
        """Raises ArtifactRefused for a damaged archive, or one that torch did not write."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            raise ArtifactRefused("the .pt2 archive is damaged: save the model again") from None
        members = self._zip.infolist()
        self._root = next(m.filename for m in members if m.filename.endswith(f"/{_MARK}")).removesuffix(_MARK)
        self._members = {m.filename.removeprefix(self._root): m for m in members}
        if len(members) > _MOST_MEMBERS or len(self._members) != len(members):
            raise ArtifactRefused("the .pt2 archive has too many members, or two of the same name")
        if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members):
            raise ArtifactRefused("the .pt2 archive has compressed or encrypted members, as torch never writes them")

    def __enter__(self) -> TorchArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    @property
    def programs(self) -> list[str]:
        """The names of the exported programs."""
        return [n[len(_MODELS) : -len(".json")] for n in self._members if n.startswith(_MODELS) and n.endswith(".json")]

    @property
    def compiled(self) -> list[str]:
        """The names of the models that AOTInductor compiled to native code."""
        return sorted({n[len(_COMPILED) :].partition("/")[0] for n in self._members if n.startswith(_COMPILED)})

    def size(self, name: str) -> int | None:
        """Bytes of a member; None when there is none of this name."""
        member = self._members.get(name)
        return None if member is None else member.file_size

    def read(self, name: str) -> bytes:
        """A member's bytes, its checksum compared; raises ArtifactRefused when they are not there."""
        try:
            return self._zip.read(self._members[name])
        except (KeyError, zipfile.BadZipFile, EOFError, ValueError):
            raise ArtifactRefused(f"the .pt2 archive lacks {name[:120]!r}, or it is damaged: save it again") from None

    def json(self, name: str) -> dict[str, Any]:
        """A member that holds one JSON object."""
        if (self.size(name) or 0) > _LARGEST_JSON:
            raise ArtifactRefused(f"{name[:120]!r} in the .pt2 archive is larger than any program")
        try:
            found = json.loads(self.read(name))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ArtifactRefused(f"{name[:120]!r} in the .pt2 archive is not the JSON that torch writes")
        return found


def is_pt2(path: Path) -> bool:
    """Whether the file is a zip archive with torch's ``archive_format`` saying ``pt2``."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            mark = next((n for n in archive.namelist() if n.count("/") == 1 and n.endswith(f"/{_MARK}")), None)
            if mark is None:
                return False
            with archive.open(mark) as content:
                return content.read(8).strip() == b"pt2"
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError):
        return False


def find_archives(folder: Path, files: Iterable[str]) -> tuple[str, ...]:
    """Those of ``files`` that are ``.pt2`` archives."""
    return tuple(name for name in files if is_pt2(folder / name))
