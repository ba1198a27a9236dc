"""Room on a disk: whether something fits is asked before it is written where its size is known; a full disk says so.

Knows no file: it is asked about folders and bytes.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modelport.errors import TooLarge, Unavailable

#: Left alone by what writes much, so that the database can still say that the disk is full.
_RESERVE = 16 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: How libraries in other languages say the same.
_SAID = re.compile(rf"No space left|os error ({'|'.join(map(str, _FULL))})\b")


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, is a full disk's, or a file's that may not grow."""
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in _FULL or _SAID.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def full() -> Unavailable:
    """What is said of a full disk."""
    return Unavailable(
        "the server's disk is full: nothing was registered; free space in MODELPORT_HOME and run it again"
    )


@contextmanager
def told_of_disk() -> Iterator[None]:
    """A full disk is an error that says so."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full() from None
        raise


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise TooLarge when ``needed`` bytes surely do not fit on the disk of a folder, be it there or to be made."""
    free = _free(folder)
    if needed + _RESERVE > free:
        raise TooLarge(
            f"{what} would take about {_megabytes(needed)}, the server's disk has {_megabytes(free)} left: nothing was "
            "written; free space in MODELPORT_HOME and run it again"
        )


def leave_room(folder: Path) -> None:
    """Raise Unavailable when the disk of a folder is as good as full."""
    if _free(folder) < _RESERVE:
        raise full()


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
