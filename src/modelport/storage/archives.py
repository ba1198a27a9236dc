"""Unpacks a zip or tar archive into a new folder: plain files only, under checked paths, within limits.

Links, devices and paths that leave the folder are refused; sizes are counted as bytes come out, not as the archive
declares them. Knows no model format.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from modelport.errors import ArtifactRefused, InvalidInput, ModelportError, TooLarge
from modelport.storage.paths import check_paths

_CHUNK = 1 << 20
_MOST_PADDING = 64  # chunks
#: How archives are called.
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".bentomodel")


def is_archive(path: Path) -> bool:
    """Whether the file is called like an archive, and is one."""
    if not path.name.lower().endswith(SUFFIXES):
        return False
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except EOFError:  # cut short: unpacking it says so
        return True


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int) -> None:
    """Unpack into ``folder``, which is made. Raises ArtifactRefused, and TooLarge beyond the limits."""
    folder.mkdir()
    try:
        with _decoding():
            opened = zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive, "r:*")  # noqa: SIM115
        with opened:
            members = _zip_members(opened) if isinstance(opened, zipfile.ZipFile) else _tar_members(opened)
            _write(folder, members, max_bytes, max_files)
    except _Damaged as error:
        raise ArtifactRefused(f"{archive.name[:100]!r} is damaged ({error}); pack it again") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ArtifactRefused(
            f"{archive.name[:100]!r}: a path in it comes twice, or is file and folder; pack it again"
        ) from None
    except ArtifactRefused:
        raise
    except InvalidInput as error:
        raise ArtifactRefused(f"{archive.name[:100]!r}: {error.message}") from None


class _Damaged(Exception):
    """The archive cannot be read; holds the kind of the cause."""


@contextmanager
def _decoding() -> Iterator[None]:
    """Around what reads the archive alone: its decoders raise many kinds for damaged bytes, OSError among them."""
    try:
        yield
    except (ModelportError, MemoryError):
        raise
    except Exception as error:
        raise _Damaged(type(error).__name__) from None


_Member = tuple[str, "Opener"]


class Opener:
    """Opens one member when its turn comes."""

    def __init__(self, archive: zipfile.ZipFile | tarfile.TarFile, member: zipfile.ZipInfo | tarfile.TarInfo) -> None:
        self._archive, self._member = archive, member

    def chunks(self) -> Iterator[bytes]:
        """The member's content, in pieces."""
        with _decoding():
            file = self._open()
        with file:
            while True:
                with _decoding():
                    chunk = file.read(_CHUNK)
                if not chunk:
                    return
                yield chunk

    def _open(self) -> IO[bytes]:
        if isinstance(self._archive, zipfile.ZipFile):
            assert isinstance(self._member, zipfile.ZipInfo)
            if self._member.flag_bits & 1:
                raise ArtifactRefused("the archive is encrypted; pack it without a password")
            opened: IO[bytes] | None = self._archive.open(self._member)
        else:
            assert isinstance(self._member, tarfile.TarInfo)
            opened = self._archive.extractfile(self._member)
        assert opened is not None  # only plain files come here
        return opened


def _zip_members(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for member in archive.infolist():
        kind = member.external_attr >> 28
        if member.is_dir():
            continue
        if kind not in (0, 8):
            raise ArtifactRefused(f"{member.filename[:120]!r} is a link or no plain file; pack plain files")
        yield member.filename, Opener(archive, member)


def _tar_members(archive: tarfile.TarFile) -> Iterator[_Member]:
    for member in archive:
        if member.isdir():
            continue
        if not member.isreg():
            raise ArtifactRefused(f"{member.name[:120]!r} is a link or no plain file; pack plain files")
        yield member.name.removeprefix("./"), Opener(archive, member)
    rest = archive.fileobj
    for _ in range(_MOST_PADDING):  # up to the end, where a compressed archive has its check sum
        if rest is None or not rest.read(_CHUNK):
            return


def _met(members: Iterator[_Member]) -> Iterator[_Member]:
    while True:
        with _decoding():
            member = next(members, None)
        if member is None:
            return
        yield member


def _write(folder: Path, members: Iterator[_Member], max_bytes: int, max_files: int) -> None:
    """Write each member as it is met, so that nothing of the archive has to be believed."""
    names: list[str] = []
    left = max_bytes
    for name, opener in _met(members):
        names.append(name)
        if len(names) > max_files:
            raise TooLarge(f"the archive holds more than {max_files} files; pack the model alone")
        check_paths([name])
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in opener.chunks():
                left -= len(chunk)
                if left < 0:
                    raise TooLarge(
                        f"the archive unpacks to more than the limit of {max_bytes} bytes; pack the model alone"
                    )
                file.write(chunk)
    check_paths(names)
