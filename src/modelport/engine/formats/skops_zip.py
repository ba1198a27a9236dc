"""Tells a skops file from other files by its bytes, and holds its zip container to what an honest writer makes.

Needs only the standard library: inspection and replicas both find the model with it. Knows nothing of estimators.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from modelport.errors import ArtifactRefused

_SCHEMA = "schema.json"
_MOST_MEMBERS = 100_000
_LARGEST_SCHEMA = 256 << 20
#: Below this a file may unpack to any size; above it, to at most so many times its own.
_ALWAYS_FINE, _LARGEST_RATIO = 64 << 20, 100
_CHUNK = 1 << 20


def is_skops(path: Path) -> bool:
    """Whether the file is a zip archive with a schema.json at its top, as skops writes it."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _SCHEMA in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return False


def find_skops(folder: Path, files: Iterable[str]) -> tuple[str, ...]:
    """Those of ``files`` that are skops files."""
    return tuple(name for name in files if is_skops(folder / name))


def check_container(path: Path) -> None:
    """Raise ArtifactRefused unless every member has a plain name, an honest size and a right checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_directory(archive.infolist(), path.stat().st_size)
            for member in archive.infolist():
                _check_content(archive, member)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, ValueError) as error:
        if isinstance(error, ArtifactRefused):
            raise
        raise ArtifactRefused("the skops file's zip container is damaged or falsified: save the model again") from None


def _check_directory(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > _MOST_MEMBERS:
        raise ArtifactRefused(f"the skops file has {len(members)} members, more than {_MOST_MEMBERS}")
    seen: set[str] = set()
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        name = member.filename
        if (
            member.orig_filename != name
            or "/" in name
            or "\\" in name
            or name in ("", ".", "..")
            or not name.isprintable()
        ):
            raise ArtifactRefused(
                f"the skops file has a member called {member.orig_filename[:120]!r}, which is no plain name"
            )
        if name in seen:
            raise ArtifactRefused(f"the skops file has two members called {name[:120]!r}")
        seen.add(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ArtifactRefused(f"the skops file's member {name[:120]!r} is a link or a device")
        if member.flag_bits & 1:
            raise ArtifactRefused(f"the skops file's member {name[:120]!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArtifactRefused(f"the skops file's member {name[:120]!r} is compressed in an unusual way")
        if member.header_offset < end or member.header_offset + member.compress_size > size:
            raise ArtifactRefused(f"the skops file's member {name[:120]!r} overlaps another, or leaves the file")
        end = member.header_offset + member.compress_size
        if name == _SCHEMA and member.file_size > _LARGEST_SCHEMA:
            raise ArtifactRefused(f"the skops file's {_SCHEMA} is {member.file_size} bytes, too large")
    unpacked = sum(member.file_size for member in members)
    if unpacked > _ALWAYS_FINE and unpacked > size * _LARGEST_RATIO:
        raise ArtifactRefused(f"the skops file would unpack to {unpacked} bytes, over {_LARGEST_RATIO} times its size")


def _check_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Unpack to nowhere: the archive module compares the name, and at the end the checksum."""
    read = 0
    with archive.open(member) as content:
        while chunk := content.read(_CHUNK):
            read += len(chunk)
    if read != member.file_size:
        raise ArtifactRefused(
            f"the skops file's member {member.filename[:120]!r} says {member.file_size} bytes and holds {read}"
        )
