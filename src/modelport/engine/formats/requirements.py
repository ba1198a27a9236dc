"""What a ``requirements.txt`` asks for: one requirement per line, with its hashes.

Where packages come from is the server's business (its pip configuration), so options and paths are refused: an
environment then depends on nothing but these lines.
"""

from __future__ import annotations

import re

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from modelport.errors import ArtifactRefused

_MOST = 2_000
_HASH = re.compile(r"--hash[= ](sha256|sha384|sha512):[0-9a-f]{64,128}")


def read_requirements(text: str, file: str) -> list[str]:
    """The lines without comments, in their order, and numpy, which a replica needs; raises ArtifactRefused."""
    found: list[str] = []
    names: set[str] = set()
    hashed = False
    for line in _lines(text):
        wanted, *options = re.split(r"\s+(?=--)", line)
        if line.startswith("-") or any(not _HASH.fullmatch(option.strip()) for option in options):
            raise ArtifactRefused(
                f"{file}: {line[:80]!r}: options belong to the server (PIP_INDEX_URL and such in its environment); "
                "a line is a requirement, with --hash if you like"
            )
        try:
            requirement = Requirement(wanted)
        except InvalidRequirement:
            raise ArtifactRefused(
                f"{file}: {line[:80]!r} is no requirement, such as humanize==4.9.0; code of your own lies in the folder"
            ) from None
        if requirement.url is not None and not requirement.url.startswith("https://"):
            raise ArtifactRefused(f"{file}: {line[:80]!r}: only https:// addresses are taken")
        names.add(canonicalize_name(requirement.name))
        hashed = hashed or bool(options)
        found.append(" ".join([str(requirement), *(option.strip() for option in options)]))
    if len(found) > _MOST:
        raise ArtifactRefused(f"{file} holds more than {_MOST} requirements")
    if "numpy" in names:
        return found
    if hashed:
        raise ArtifactRefused(f"{file} has hashes, so it has to list numpy with its hash too: every replica needs it")
    return [*found, "numpy"]


def _lines(text: str) -> list[str]:
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]
