"""Contents by their SHA-256, in a folder or behind any fsspec URL; and folders of a version's files, made from them.

A content lies at ``<project>/<first two digits>/<hash>``, so that equal files of a project are kept once. Writing is
staged: a crash leaves at most a file in ``tmp``. This is the one place that hands out local paths, and the one place
where plain bytes become stored bytes and back. Knows no model and no database.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from modelport.errors import InvalidInput, MissingExtra, ModelportError, TooLarge, Unavailable
from modelport.schemas.models import FileEntry
from modelport.storage.disk import check_room, flush, told_of_disk
from modelport.storage.paths import check_paths

CHUNK = 1 << 20
#: Object stores by the scheme of their URLs, and the extra that brings each.
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
#: By extra: the variables in which the libraries look for credentials.
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)",
    "gcs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_CONNECTION_STRING (or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)",
    "hub": "HF_TOKEN",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Staged:
    """A whole content that lies in ``tmp``, hashed, and not yet stored."""

    path: Path
    sha256: str
    size: int


class Artifacts:
    """The store. Safe for many threads and processes.

    ``cache`` is a local folder for what is made from the store: versions' folders, staged uploads.
    """

    def __init__(self, url: str, cache: Path) -> None:
        scheme = url.partition(":")[0]
        options = {"use_listings_cache": False} if scheme in EXTRAS else {}  # other processes write there too
        try:
            filesystem, root = url_to_fs(url, **options)
        except ImportError:
            raise MissingExtra(EXTRAS.get(scheme, scheme), f"artifacts at {scheme}:") from None
        except ValueError as error:
            if scheme not in EXTRAS:
                raise InvalidInput(
                    f"setting artifacts.url: no file system is known for {scheme[:20]!r}; give file:///folder, or a "
                    f"URL that begins with {', '.join(EXTRAS)}"
                ) from None
            _log.warning("no connection to the artifact store", exc_info=error)
            raise InvalidInput(
                f"setting artifacts.url: nothing says how to reach {scheme}:; set {CREDENTIALS[EXTRAS[scheme]]}"
            ) from None
        self._fs: Any = filesystem
        self._root: str = root.rstrip("/")
        self._local: Path | None = Path(root) if isinstance(filesystem, LocalFileSystem) else None
        self._cache = cache
        # Staging must share a file system with the place of arrival, so that arriving is a rename.
        self._staging = (self._local or cache) / "tmp"
        self._staging.mkdir(parents=True, exist_ok=True)
        self._folders = cache / "versions"
        self._folders.mkdir(parents=True, exist_ok=True)

    # Contents

    @contextmanager
    def staged(self, chunks: Iterable[bytes], limit: int | None = None) -> Iterator[Staged]:
        """Receive a content in constant memory and hash it; it is gone after the block unless it was stored.

        Raises TooLarge beyond ``limit`` bytes.
        """
        digest, size = hashlib.sha256(), 0
        with told_of_disk(), self._temporary() as (path, file):
            for chunk in chunks:
                size += len(chunk)
                if limit is not None and size > limit:
                    raise TooLarge(f"the file is over the limit of {limit} bytes (MODELPORT_ARTIFACTS_MAX_FILE_GB)")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            yield Staged(path, digest.hexdigest(), size)

    @contextmanager
    def linked(self, file: Path) -> Iterator[Staged]:
        """Hash a file of this machine, to be stored without being copied where the store is on the same disk.

        The file becomes read-only: it may be the stored content itself.
        """
        with told_of_disk(), self._temporary() as (path, _):
            twin = path.with_name(f"{path.name}-link")
            try:
                _link(file, twin)
                with twin.open("rb") as source:
                    _locked(source)  # as the file that it takes the place of was
                    digest = hashlib.file_digest(source, "sha256")
                    os.fsync(source.fileno())
                    twin.replace(path)
                    yield Staged(path, digest.hexdigest(), os.fstat(source.fileno()).st_size)
            finally:
                twin.unlink(missing_ok=True)

    def store(self, project_id: int, staged: Staged) -> None:
        """Move a staged content to its address: whole or not at all. Storing it twice is harmless."""
        if self._local is None:
            with self._reached():
                try:
                    self._fs.put_file(str(staged.path), self._address(project_id, staged.sha256))
                except FileNotFoundError:
                    raise Unavailable("the artifact store's bucket does not exist; the operator makes it") from None
            return
        target = Path(self._address(project_id, staged.sha256))
        _make_folder(target.parent)
        staged.path.chmod(0o444)  # versions' folders are hard links to this very file
        staged.path.replace(target)
        flush(target.parent)

    def write(
        self, project_id: int, sha256: str, chunks: Iterable[bytes], size: int | None = None, limit: int | None = None
    ) -> int:
        """Receive, check and store a content; returns its size in bytes.

        Raises InvalidInput when the hash or the size is another, TooLarge beyond ``limit`` bytes.
        """
        with self.staged(chunks, limit) as staged:
            check_staged(staged, sha256, size)
            self.store(project_id, staged)
            return staged.size

    def exists(self, project_id: int, sha256: str) -> bool:
        """Whether the content is here."""
        with self._reached():
            return bool(self._fs.exists(self._address(project_id, sha256)))

    def iterate(self, project_id: int, sha256: str, start: int = 0) -> Iterator[bytes]:
        """The content in chunks, verified: the last one is held back until the hash is right.

        From ``start`` on it is a rest that only who has the beginning can verify. Raises Unavailable when the content
        is lost or damaged.
        """
        digest, held = hashlib.sha256(), b""
        try:
            with self._reached(), self._fs.open(self._address(project_id, sha256), "rb") as file:
                file.seek(start)
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    if held:
                        yield held
                    held = chunk
        except FileNotFoundError:
            raise Unavailable(f"the file with SHA-256 {sha256} is lost from the store; push it again") from None
        if not start and digest.hexdigest() != sha256:
            raise Unavailable(
                f"the file with SHA-256 {sha256} is damaged in the store; delete the version and push again"
            )
        yield held

    def delete(self, project_id: int, sha256: str) -> None:
        """Remove a content; nothing happens when it is not here."""
        with suppress(FileNotFoundError), self._reached():
            self._fs.rm_file(self._address(project_id, sha256))

    # Folders of versions

    def materialize(self, project_id: int, digest: str, files: Sequence[FileEntry]) -> Path:
        """A local read-only folder with these files; made once per ``digest`` and kept until it is evicted.

        Hard links to the store where it is local, else verified downloads. Raises Unavailable when a content is lost
        or damaged.
        """
        target = self._folders / str(project_id) / digest
        if self._touched(target):
            return target
        check_paths(entry.path for entry in files)
        if self._local is None:
            check_room(self._folders, sum(entry.size for entry in files), "the version")
        made = self._folders / str(project_id) / f"tmp-{uuid.uuid4().hex}"
        made.mkdir(parents=True)
        try:
            with told_of_disk(), _alone(made):  # however long it takes, nobody evicts it
                for entry in files:
                    path = made / entry.path
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._bring(project_id, entry.sha256, path)
                with suppress(OSError):  # somebody else was faster: theirs is the same
                    made.rename(target)
        finally:
            _remove_folder(made)
        if not self._touched(target):
            raise Unavailable("the version's folder could not be made; is the disk of the server full?")
        _make_read_only(target)
        return target

    def evict(self, project_id: int, keep: Collection[str], older_than_s: float) -> None:
        """Remove the folders of digests that are not to be kept and were not asked for lately."""
        for folder in _old(self._folders / str(project_id), older_than_s):
            if folder.name in keep:
                continue
            with suppress(BlockingIOError, FileNotFoundError), _alone(folder):
                hidden = folder.with_name(f"tmp-{uuid.uuid4().hex}")  # first out of sight, so that none gets half of it
                _remove_folder(folder.rename(hidden))

    def sweep(self, older_than_s: float, dry_run: bool = False) -> tuple[int, int]:
        """Remove what crashed uploads left behind; returns how many files and bytes."""
        files = size = 0
        for path in _old(self._staging, older_than_s):
            with suppress(FileNotFoundError), path.open("rb") as file:
                if not _locked(file):
                    continue  # its upload is still alive
                files, size = files + 1, size + path.stat().st_size
                if not dry_run:
                    path.unlink()
        return files, size

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file in ``tmp``. Its lock says that it is in use, and dies with this process."""
        while True:
            path = self._staging / uuid.uuid4().hex
            try:
                with path.open("xb") as file:
                    if _locked(file) and os.fstat(file.fileno()).st_nlink:  # else swept before it was locked
                        yield path, file
                        return
            finally:
                path.unlink(missing_ok=True)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What a remote store's library raises becomes Unavailable; a missing content stays what it is."""
        try:
            yield
        except (ModelportError, FileNotFoundError, GeneratorExit):
            raise
        except Exception as error:
            if self._local is not None:
                raise
            _log.warning("the artifact store failed", exc_info=error)
            raise Unavailable(
                f"the artifact store does not do what it is asked ({type(error).__name__}); try again, and look "
                "into the server's log: address and credentials are the operator's"
            ) from None

    def _address(self, project_id: int, sha256: str) -> str:
        return f"{self._root}/{project_id}/{sha256[:2]}/{sha256}"

    def _bring(self, project_id: int, sha256: str, path: Path) -> None:
        if self._local is not None:
            try:
                os.link(self._address(project_id, sha256), path)
                return
            except FileNotFoundError:
                raise Unavailable(f"the file with SHA-256 {sha256} is lost from the store; push it again") from None
            except OSError:  # another disk, or no hard links there: copy
                pass
        with path.open("xb") as file:
            for chunk in self.iterate(project_id, sha256):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o444)

    @staticmethod
    def _touched(folder: Path) -> bool:
        try:
            os.utime(folder)
        except FileNotFoundError:
            return False
        return True


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another disk, or no hard links there
        shutil.copyfile(file, target)


def check_staged(staged: Staged, sha256: str, size: int | None) -> None:
    """Raise InvalidInput unless the content is the one that was announced."""
    if size is not None and staged.size != size:
        raise InvalidInput(f"the body has {staged.size} bytes, {size} were announced; send it again")
    if staged.sha256 != sha256:
        raise InvalidInput(f"the body's SHA-256 is {staged.sha256}, not {sha256}; was it cut or changed on the way?")


def _locked(file: BinaryIO) -> bool:
    """Take the file's lock, unless somebody has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which dies with this process; raises BlockingIOError when somebody has it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _old(folder: Path, older_than_s: float) -> Iterator[Path]:
    limit = time.time() - older_than_s
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime <= limit:
                yield path


def _make_folder(folder: Path) -> None:
    """Make a folder so that it survives a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        flush(folder.parent)


def _make_read_only(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o555)


def _remove_folder(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
