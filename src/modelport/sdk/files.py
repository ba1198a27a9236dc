"""Files on their way to and from the registry: what a push brings, and where a pull puts it.

Knows paths, hashes and bytes; knows no model and no HTTP.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Self

from modelport.errors import Conflict, DeadlineExceeded, InvalidInput, NotFound, Unavailable
from modelport.schemas.models import FileEntry

if sys.platform != "win32":
    import fcntl

CHUNK = 1 << 20
#: The status of an answer that goes on where an earlier one ended.
_REST = 206
#: Called with the stage (``hash``, ``upload``, ``download``), the bytes done and the bytes in all; by an asynchronous
#: client also from another thread.
Progress = Callable[[str, int, int], object]


def ignore_progress(stage: str, done: int, total: int) -> None:
    """For callers who do not watch."""


class Meter:
    """Adds up the bytes of one stage and tells ``progress``."""

    def __init__(self, stage: str, total: int, progress: Progress) -> None:
        self.stage, self.total, self.done, self._progress = stage, total, 0, progress
        progress(stage, 0, total)

    def add(self, count: int) -> None:
        self.done += count
        self._progress(self.stage, self.done, self.total)


def scan(path: Path) -> list[tuple[str, Path]]:
    """The files of an artifact as (path inside, path here): the file itself, or a folder's files without hidden ones.

    Raises NotFound when nothing is there, InvalidInput for an empty folder, a link or what is no plain file.
    """
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise NotFound(f"{str(path)!r} is neither a file nor a folder; check the path")
    found: list[tuple[str, Path]] = []
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted([*files, *(name for name in folders if (Path(folder) / name).is_symlink())]):
            file = Path(folder) / name
            inside = file.relative_to(path).as_posix()
            if name.startswith("."):
                continue
            if file.is_symlink() or not file.is_file():
                raise InvalidInput(f"{inside!r} is a link or no plain file; `cp -rL` makes a folder of plain files")
            found.append((inside, file))
    if not found:
        raise InvalidInput(f"folder {str(path)!r} holds no file to push; hidden ones do not count")
    return found


def hash_files(files: list[tuple[str, Path]], progress: Progress) -> list[FileEntry]:
    """Size and SHA-256 of every file, read once in pieces."""
    meter = Meter("hash", sum(file.stat().st_size for _, file in files), progress)
    entries = []
    for inside, file in files:
        digest, size = hashlib.sha256(), 0
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                meter.add(len(chunk))
        entries.append(FileEntry(path=inside, size=size, sha256=digest.hexdigest()))
    return entries


class FileSource:
    """A file as a request's body; every attempt reads it from the beginning."""

    def __init__(self, path: Path, size: int, meter: Meter) -> None:
        self.size = size
        self._path, self._meter, self._start = path, meter, meter.done

    def chunks(self) -> Iterator[bytes]:
        self._meter.done = self._start
        left = self.size
        with self._path.open("rb") as stream:
            while left and (chunk := stream.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
                self._meter.add(len(chunk))
        if left:
            raise InvalidInput(f"{self._path.name!r} became shorter while it was pushed; push again")


class FileSink:
    """An answer's body as a file, counted and hashed on the way; goes on where the file ended. Use it in a ``with``."""

    def __init__(self, path: Path, entry: FileEntry, meter: Meter) -> None:
        self._entry, self._meter, self._start = entry, meter, meter.done
        self._written, self._digest = 0, hashlib.sha256()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a+b")

    def recall(self) -> None:
        """Count what an earlier pull left in the file, and forget what cannot be its beginning."""
        self._stream.seek(0)
        while chunk := self._stream.read(CHUNK):
            self._count(chunk)
        if self._written > self._entry.size or (self._written == self._entry.size and not self.complete):
            self._restart()

    @property
    def complete(self) -> bool:
        """Whether all is here, as the manifest says."""
        return self._written == self._entry.size and self._digest.hexdigest() == self._entry.sha256

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def headers(self) -> dict[str, str]:
        if not self._written:
            return {}
        return {"range": f"bytes={self._written}-", "if-range": f'"{self._entry.sha256}"'}

    def start(self, status: int) -> None:
        if status != _REST:
            self._restart()

    def _restart(self) -> None:
        self._written, self._digest = 0, hashlib.sha256()
        self._meter.done = self._start
        self._stream.seek(0)
        self._stream.truncate()

    def _count(self, chunk: bytes) -> None:
        self._written += len(chunk)
        self._digest.update(chunk)
        self._meter.add(len(chunk))

    def write(self, chunk: bytes) -> None:
        if self._written + len(chunk) > self._entry.size:
            raise InvalidInput(
                f"{self._entry.path!r}: more than the manifest's {self._entry.size} bytes arrived; pull again"
            )
        self._stream.write(chunk)
        self._count(chunk)

    def verify(self) -> None:
        """Raise InvalidInput unless what came is what the manifest says."""
        if not self.complete:
            raise InvalidInput(
                f"{self._entry.path!r}: what arrived has not the manifest's size and SHA-256; pull again"
            )


@contextmanager
def resumed(target: Path, content: str) -> Iterator[Path]:
    """Like ``staged``, but what a break or the user's Ctrl-C left behind of the same content is there again.

    Raises Conflict while another process brings it, or when the left-over is not this user's.
    """
    target = target.absolute()
    check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.{content[:16]}.part"
    folder.mkdir(mode=0o700, exist_ok=True)
    with _alone(folder):
        try:
            yield folder
            folder.chmod(0o755)
            folder.replace(target)
        except (Unavailable, DeadlineExceeded):
            raise
        except Exception:  # what came is wrong, or cannot be kept: the next one begins anew
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps others from the folder as long as this process lives."""
    if sys.platform == "win32":
        yield
        return
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise Conflict(f"{str(folder)!r} belongs to somebody else; pull into another folder")
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"another process pulls into {folder.name!r}; wait for it, or pull elsewhere") from None
        yield
    finally:
        os.close(handle)


def check_paths(paths: list[str]) -> None:
    """Raise InvalidInput for a path that could write outside its folder, or two that could be one file."""
    seen: set[str] = set()
    for path in paths:
        parts = path.split("/")
        bad_part = any(part in {"", ".", ".."} for part in parts) or PureWindowsPath(path).drive
        bad_character = any(c == "\\" or ord(c) < 32 or ord(c) == 127 for c in path)
        if bad_part or bad_character:
            raise InvalidInput(
                f"the manifest names the file {path[:100]!r}, which is no plain relative path; ask who pushed it"
            )
        twin = unicodedata.normalize("NFC", path).casefold()
        if twin in seen:
            raise InvalidInput(f"the manifest names the file {path[:100]!r} twice; ask who pushed it")
        seen.add(twin)


def check_free(target: Path) -> None:
    """Raise Conflict unless the folder is new or empty."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Conflict(f"{str(target)!r} exists and is not an empty folder; pull into a new one")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its name when the block ends well and is removed when it does not."""
    target = target.absolute()
    check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.replace(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
