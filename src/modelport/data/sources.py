"""Where rows come from, as files that can be opened: uploaded contents, the server's own folders, stores, the web.

A listing is made once, in one order, with what tells whether a file has changed. Nothing is copied that can be read
where it lies. Knows no format and no registry.
"""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from modelport.errors import InvalidInput, NotFound
from modelport.storage.archives import SUFFIXES, unpack
from modelport.storage.artifacts import EXTRAS
from modelport.storage.disk import check_room
from modelport.storage.public_web import check_url, file_name, opened
from modelport.storage.sources import Limits, local_path, open_store, scheme_of, told

_MOST_FILES = 1_000_000
_WILD = "*?["
_BLOCK = 8 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source."""

    name: str
    """Relative to the source, with forward slashes."""
    size: int
    mark: str
    """Differs when the content does: a hash, an ETag, or size and time."""
    open: Callable[[], BinaryIO]

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The content; what its store raises names the file."""
        with told(self.name), self.open() as stream:
            yield stream


def local_files(root: Path, pattern: str | None = None) -> list[SourceFile]:
    """A file, or the files below a folder without hidden ones and links, in the order of their names."""
    if root.is_file():
        return [_local(root, root.name)]
    if not root.is_dir():
        raise NotFound(f"source {root.name[:100]!r}: there is nothing; check the path")
    found = []
    for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).as_posix()):
        inside = path.relative_to(root).as_posix()
        if _hidden(inside) or path.is_symlink() or not path.is_file():
            continue
        if pattern is None or fnmatch.fnmatch(inside, pattern):
            found.append(_local(path, inside))
    return found


def url_files(source: str, scratch: Path, limits: Limits) -> list[SourceFile]:
    """The files behind a URL: of a store (read where they lie), or one file of the web (brought into ``scratch``).

    An archive is unpacked. Raises what ``storage.sources`` raises.
    """
    scheme = scheme_of(source, plain=True)
    if scheme in EXTRAS:
        return _bounded(_store_files(source, EXTRAS[scheme or ""]))
    if scheme == "file":
        root, pattern = _split(str(local_path(source)))
        return _bounded(local_files(Path(root), pattern))
    if scheme in ("https", "http"):
        return _bounded(_web_files(source, scratch, limits))
    raise InvalidInput(
        f"source {source[:100]!r}: give https://, http://, file://, sql://, spark: or one of {', '.join(EXTRAS)}"
    )


def unpacked(files: list[SourceFile], scratch: Path, limits: Limits) -> list[SourceFile]:
    """The files, or what the only one holds when it is an archive."""
    if len(files) != 1 or not files[0].name.lower().endswith(SUFFIXES):
        return files
    folder, archive = scratch / "unpacked", scratch / "archive" / Path(files[0].name).name
    if not folder.is_dir():
        check_room(scratch, 2 * files[0].size, "source: the archive, unpacked,")
        archive.parent.mkdir(parents=True, exist_ok=True)
        with files[0].opened() as source, archive.open("wb") as target:
            while chunk := source.read(_BLOCK):
                target.write(chunk)
        part = scratch / "unpacking"
        _remove(part)
        unpack(archive, part, max_bytes=limits.max_bytes, max_files=limits.max_files)
        archive.unlink()
        part.rename(folder)
    return _bounded([replace(file, mark=_hash(folder / file.name)) for file in local_files(folder)])


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bounded(files: list[SourceFile]) -> list[SourceFile]:
    if len(files) > _MOST_FILES:
        raise InvalidInput(f"source: {len(files)} files are more than {_MOST_FILES}; collect folder by folder")
    return files


def _local(path: Path, inside: str) -> SourceFile:
    about = path.stat()
    return SourceFile(inside, about.st_size, f"{about.st_size} {about.st_mtime_ns}", opener(path))


def opener(path: Path) -> Callable[[], BinaryIO]:
    """What opens a file of this machine."""
    return lambda: path.open("rb")


def _hidden(inside: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in inside.split("/"))


def _split(path: str) -> tuple[str, str | None]:
    """A path as the folder before its first wildcard, and the pattern below it."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if any(sign in part for sign in _WILD):
            return "/".join(parts[:index]) or "/", "/".join(parts[index:])
    return path, None


def _store_files(source: str, extra: str) -> list[SourceFile]:
    root, pattern = _split(source)
    with told(source):
        filesystem, place = open_store(root, extra)
        listed: Any = filesystem.find(place, detail=True)
        if isinstance(listed, list):  # as adlfs answers for a single file
            listed = {remote: filesystem.info(remote) for remote in listed}
    found = []
    for remote, info in sorted(listed.items()):
        inside = remote.removeprefix(place).lstrip("/") or remote.rpartition("/")[2]
        if remote.endswith("/") or _hidden(inside) or not (pattern is None or fnmatch.fnmatch(inside, pattern)):
            continue
        size = int(info.get("size") or 0)
        mark = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or info.get("LastModified") or size)
        found.append(SourceFile(inside, size, mark, _opener(filesystem, remote)))
    return found


def _opener(filesystem: Any, remote: str) -> Callable[[], BinaryIO]:
    def open_remote() -> BinaryIO:
        return cast(BinaryIO, filesystem.open(remote, "rb", block_size=_BLOCK, cache_type="readahead"))

    return open_remote


def _web_files(source: str, scratch: Path, limits: Limits) -> list[SourceFile]:
    check_url(source, plain=True)
    folder = scratch / "web"
    whole = folder / file_name(source)
    if not whole.is_file():
        _remove(folder)
        folder.mkdir(parents=True)
        part = folder / ".part"
        reading = opened(
            source, max_bytes=limits.max_bytes, timeout_s=limits.timeout_s, allow_private=limits.allow_private,
            plain=True, settings="MODELPORT_DATA",
        )  # fmt: skip
        with reading as chunks, part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        part.rename(whole)
    return [_local(whole, whole.name)]


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
