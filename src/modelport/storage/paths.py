"""The rule for paths of files inside a version: what a client may name, and every file system can hold.

Knows no file system; nothing here touches one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from modelport.errors import InvalidInput

MAX_PATH = 500
#: Bytes of one part, as file systems count them.
MAX_PART = 255
_DRIVE = re.compile(r"[A-Za-z]:")


def check_path(path: str) -> None:
    """Raise InvalidInput unless ``path`` is relative, with plain parts and forward slashes."""
    if not path or len(path) > MAX_PATH:
        raise _refused(path, f"has {len(path)} characters; 1 to {MAX_PATH} are allowed")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in path):
        raise _refused(path, "holds a control character; rename the file")
    if "\\" in path:
        raise _refused(path, "holds a backslash; parts are separated by '/'")
    if path.startswith("/") or _DRIVE.match(path):
        raise _refused(path, "is absolute; give it relative to the model's folder")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise _refused(path, f"has the part {part!r}; give it relative to the model's folder")
        if len(part.encode()) > MAX_PART:
            raise _refused(path, f"has a part of more than {MAX_PART} bytes; shorten it")


def check_paths(paths: Iterable[str]) -> None:
    """Raise InvalidInput unless all are good, and different files also where case and Unicode form do not count."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        check_path(path)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        if folded in files:
            raise _refused(path, f"is the same file as {files[folded]!r} on some systems; rename one")
        files[folded] = path
        parts = folded.split("/")
        for depth in range(1, len(parts)):
            folders["/".join(parts[:depth])] = path
    for folded, path in files.items():
        if folded in folders:
            raise _refused(path, f"is a file and also a folder of {folders[folded]!r}; rename one")


def _refused(path: str, cause: str) -> InvalidInput:
    return InvalidInput(f"file path {path[:80]!r} {cause}")
