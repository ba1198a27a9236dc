"""Real texts that every Python brings along: what its standard library says of itself, by the area that it is about."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator

#: Modules by area: those to learn from, and others to be told.
AREAS = {
    "network": (["http.client", "urllib.request", "smtplib", "ssl"], ["ftplib", "imaplib", "socketserver"]),
    "numbers": (["math", "fractions", "random"], ["statistics", "decimal", "cmath"]),
    "files": (["os", "shutil", "zipfile"], ["pathlib", "tempfile", "tarfile"]),
    "concurrency": (["threading", "queue", "multiprocessing.pool"], ["asyncio", "concurrent.futures"]),
    "code": (["ast", "inspect", "pdb"], ["traceback", "dis", "tokenize", "importlib.util"]),
}
_MOST = 25
"""Of one module."""


def docstrings() -> Iterator[tuple[str, str, str]]:
    """``train`` or ``test``, area, text; no text twice."""
    seen = set()
    for area, parts in AREAS.items():
        for part, modules in zip(("train", "test"), parts, strict=True):
            for name in modules:
                module = importlib.import_module(name)
                members = [getattr(module, member) for member in sorted(dir(module)) if not member.startswith("_")]
                texts = [
                    " ".join(text.split())[:200]
                    for member in [module, *members]
                    if (inspect.isroutine(member) or inspect.isclass(member) or member is module)
                    and (text := inspect.getdoc(member))
                ]
                kept = [text for text in dict.fromkeys(texts) if len(text) > 40 and text not in seen][:_MOST]
                seen.update(kept)
                yield from ((part, area, text) for text in kept)
