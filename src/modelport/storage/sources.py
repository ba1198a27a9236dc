"""Brings what a URL names into a local folder: a file or a folder of files, from a store, a model hub or the web.

    model.onnx  ./folder  file:///srv/models/m     this machine (where the caller allows it)
    s3://bucket/prefix  gs://…  abfs://…            an object store, through fsspec and its credentials
    hf://organisation/name[@revision][/path]        a model hub, through huggingface_hub; HF_ENDPOINT and HF_TOKEN
    https://host/path/model.onnx                    the web; see ``public_web``

Archives (.zip, .tar, .tar.gz, .bentomodel) are unpacked. Knows no model format: it counts files and bytes, and checks
paths. Nothing that a source says is trusted.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from modelport.errors import (
    DeadlineExceeded,
    InvalidInput,
    MissingExtra,
    ModelportError,
    NotAllowed,
    NotFound,
    TooLarge,
    Unavailable,
)
from modelport.storage.archives import is_archive, unpack
from modelport.storage.artifacts import CREDENTIALS, EXTRAS
from modelport.storage.disk import is_full
from modelport.storage.paths import check_paths
from modelport.storage.public_web import check_url, file_name, opened

CHUNK = 1 << 20
SCHEMES = ("https", "hf", "file", *EXTRAS)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HUB = re.compile(
    r"hf://(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(?:[@:](?P<revision>[\w.-]{1,200}))?(?:/(?P<path>[^\s]{1,500}))?/?"
)
#: A hub's folder often holds the same weights in formats that are never served.
_NOT_WANTED = ["*.bin", "*.h5", "*.msgpack", "*.ot", "*.pt", "*.pth", "*.ckpt", "*.gguf", ".*", "*/.*"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be brought."""

    max_bytes: int = 100 * 10**9
    """Of all files together."""
    max_files: int = 10_000
    timeout_s: float = 3600
    allow_private: bool = False
    """Whether an address of the web may be loopback or of a private network."""


class _Budget:
    """Counts what comes, and says when it is too much."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._bytes, self._ends = limits, 0, time.monotonic() + limits.timeout_s

    @property
    def left(self) -> int:
        return self._limits.max_bytes - self._bytes

    def check_files(self, count: int) -> None:
        if count > self._limits.max_files:
            raise TooLarge(f"source: holds {count} files, at most {self._limits.max_files} are read; name one model")

    def write(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write a new file from pieces."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in chunks:
                self._bytes += len(chunk)
                if self.left < 0:
                    raise TooLarge(f"source: more than the limit of {self._limits.max_bytes} bytes; name one model")
                if time.monotonic() > self._ends:
                    raise DeadlineExceeded(f"source: not here after {self._limits.timeout_s:g} s; push it instead")
                file.write(chunk)


def scheme_of(source: str, plain: bool = False) -> str | None:
    """The scheme of a URL in lower case; None for a plain path. Raises InvalidInput for one that is not read, as http
    is only where ``plain`` says so: what comes that way can be changed on the way."""
    found = _SCHEME.match(source)
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme in EXTRAS and "::" in source:
        raise InvalidInput(f"source {source[:200]!r}: chained URLs ('::') are not read; name the file itself")
    if scheme == "http":
        if plain:
            return scheme
        raise InvalidInput("source: http can be changed on the way; use https")
    if scheme not in SCHEMES:
        raise InvalidInput(f"source: scheme {scheme[:20]!r} is not read; one of {', '.join(SCHEMES)}")
    return scheme


def fetch(source: str, into: Path, limits: Limits) -> Path:
    """Bring a remote source into the empty folder ``into``; returns the file, or the folder, that holds it there.

    Raises InvalidInput, NotFound, NotAllowed, TooLarge, DeadlineExceeded, MissingExtra, Unavailable.
    """
    scheme, budget = scheme_of(source), _Budget(limits)
    if scheme is None or scheme == "file":
        raise InvalidInput("source: a path of this machine is not fetched; push it instead")
    if scheme == "https":
        found = _from_web(source, into, limits, budget)
    elif scheme == "hf":
        found = _from_hub(source, into, limits)
    else:
        found = _from_store(source, scheme, into, budget)
    if found.is_file() and is_archive(found):
        unpacked = into / "unpacked"
        unpack(found, unpacked, max_bytes=limits.max_bytes, max_files=limits.max_files)
        found.unlink()
        inside = list(unpacked.iterdir())
        return inside[0] if len(inside) == 1 and inside[0].is_dir() else unpacked
    return found


def local_path(source: str) -> Path:
    """The path that a plain path or a ``file://`` URL means."""
    if scheme_of(source) is None:
        return Path(source).expanduser()
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise InvalidInput(f"source {source[:200]!r} names another machine; use file:///path")
    return Path(unquote(parts.path))


def is_within(source: str, beginnings: Iterable[str]) -> bool:
    """Whether a URL begins as one of the operator's settings does, and leads out of there neither plainly nor in
    escapes. ``s3://models`` covers that bucket and no longer name."""
    if ".." in re.split(r"[/\\]", unquote(source)):
        return False
    return any(source == one or source.startswith(one if one.endswith("/") else f"{one}/") for one in beginnings)


# The web


def _from_web(source: str, into: Path, limits: Limits, budget: _Budget) -> Path:
    check_url(source)
    path = into / file_name(source)
    reading = {"max_bytes": limits.max_bytes, "timeout_s": limits.timeout_s, "allow_private": limits.allow_private}
    with opened(source, **reading) as chunks:  # type: ignore[arg-type]
        budget.write(path, chunks)
    return path


# Object stores


def _from_store(source: str, scheme: str, into: Path, budget: _Budget) -> Path:
    with told(source):
        filesystem, root = open_store(source, EXTRAS[scheme])
        files = _listed(filesystem, root)
        if not files:
            raise NotFound(f"source {source[:200]!r}: there is nothing; is it the bucket and prefix that you mean?")
        budget.check_files(len(files))
        if (total := sum(size for _, size in files.values())) > budget.left:
            raise TooLarge(f"source: {total} bytes are over the limit of {budget.left}; name one model")
        check_paths(files)
        for inside, (remote, _) in files.items():
            budget.write(into / inside, _remote_chunks(filesystem, remote))
    return into / next(iter(files)) if _is_one_file(root, files) else into


def open_store(source: str, extra: str) -> tuple[Any, str]:
    """The file system of a store's URL, and the place in it; raises MissingExtra, NotAllowed."""
    from fsspec.core import url_to_fs  # noqa: PLC0415

    try:
        filesystem, root = url_to_fs(source, use_listings_cache=False)
    except ImportError:
        raise MissingExtra(extra, f"reading {source.split(':', 1)[0]}://") from None
    except ValueError as error:  # adlfs, when nothing says which account
        _log.info("no connection for %s", repr(source[:200]), exc_info=error)
        raise _no_credentials(repr(source[:200]), extra) from None
    return filesystem, str(root).rstrip("/")


def _listed(filesystem: Any, root: str) -> dict[str, tuple[str, int]]:
    """Relative path to remote name and size, of the one file or of all below a folder, without hidden ones."""
    found: Any = filesystem.find(root, detail=True)
    if isinstance(found, list):  # as adlfs answers for a single file
        found = {remote: filesystem.info(remote) for remote in found}
    files: dict[str, tuple[str, int]] = {}
    for remote, info in sorted(found.items()):
        inside = remote.removeprefix(root).lstrip("/") or remote.rpartition("/")[2]
        if remote.endswith("/") or any(part.startswith(".") for part in inside.split("/")):
            continue
        files[inside] = (remote, int(info.get("size") or 0))
    return files


def _is_one_file(root: str, files: dict[str, tuple[str, int]]) -> bool:
    return [remote for remote, _ in files.values()] == [root]


def _remote_chunks(filesystem: Any, remote: str) -> Iterator[bytes]:
    with filesystem.open(remote, "rb", block_size=8 * CHUNK, cache_type="readahead") as file:
        while chunk := file.read(8 * CHUNK):
            yield chunk


# A model hub


def _from_hub(source: str, into: Path, limits: Limits) -> Path:
    found = _HUB.fullmatch(source)
    if found is None:
        raise InvalidInput(f"source {source[:200]!r} is not like hf://organisation/name[@revision][/path]")
    try:
        hub: Any = import_module("huggingface_hub")
        utils: Any = import_module("huggingface_hub.utils")
    except ImportError:
        raise MissingExtra("hub", "reading hf://") from None
    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    repo, revision, path = found["repo"], found["revision"], found["path"]
    with told(source):
        total = _hub_size(hub, utils, repo, revision, path, limits)
        if total > limits.max_bytes:
            raise TooLarge(f"source: {total} bytes are over the limit of {limits.max_bytes}; name one model")
        wanted = [path, f"{path}/*"] if path else None
        hub.snapshot_download(
            repo, revision=revision, local_dir=into, allow_patterns=wanted, ignore_patterns=_NOT_WANTED, max_workers=4
        )
    shutil.rmtree(into / ".cache", ignore_errors=True)
    target = into / path if path else into
    if not target.exists():
        raise NotFound(f"source {source[:200]!r}: the hub has nothing there; check name, revision and path")
    return target


def _hub_size(hub: Any, utils: Any, repo: str, revision: str | None, path: str | None, limits: Limits) -> int:
    """Bytes that will come, from the hub's own list; raises InvalidInput for paths that no folder can hold."""
    info = hub.HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=30)
    listed = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
    names = [name for name in listed if path is None or name == path or name.startswith(f"{path}/")]
    wanted = set(utils.filter_repo_objects(names, ignore_patterns=_NOT_WANTED))
    if len(wanted) > limits.max_files:
        raise TooLarge(f"source: holds {len(wanted)} files, at most {limits.max_files} are read; name one model")
    check_paths(wanted)
    return sum(listed[name] for name in wanted)


@contextmanager
def told(source: str) -> Iterator[None]:
    """What a store's library raises, as an error that names the source and the next step."""
    shown = repr(source[:200])
    try:
        yield
    except (ModelportError, MemoryError):
        raise
    except FileNotFoundError:
        raise NotFound(f"source {shown}: there is nothing; check bucket, prefix and spelling") from None
    except PermissionError:
        raise NotAllowed(
            f"source {shown}: the store refuses the credentials of the one who reads it; ask its owner for access, "
            "or push the files themselves"
        ) from None
    except Exception as error:  # each store has its own tree of errors, whose texts may name the server's own set-up
        if is_full(error):  # ours: the source is only read
            raise
        kind = type(error).__name__
        _log.info("reading %s failed", shown, exc_info=error)
        if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError", "GatedRepoError"):
            raise NotFound(f"source {shown}: the hub has no such repository, or it wants a token (HF_TOKEN)") from None
        if "Credentials" in kind or "Token" in kind:
            raise _no_credentials(shown, EXTRAS.get(source.partition(":")[0].lower(), "hub")) from None
        raise Unavailable(
            f"source {shown}: the store cannot be read now ({kind}); check address and credentials, and try again"
        ) from None


def _no_credentials(shown: str, extra: str) -> NotAllowed:
    return NotAllowed(
        f"source {shown}: the environment has no credentials that open this store; set {CREDENTIALS[extra]}"
    )
