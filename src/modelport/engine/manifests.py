"""A version outside a registry: its manifest in a file, its files in a folder, checked against each other.

What ``modelport build`` writes and ``modelport serve --manifest`` reads. Knows the manifest as JSON; knows no registry.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from modelport.errors import ArtifactRefused, InvalidInput


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file; raises InvalidInput when it is none."""
    try:
        found = json.loads(path.read_bytes())
        assert {"format", "runtime", "signature", "files", "version"} <= found.keys()
    except (OSError, ValueError, AttributeError, AssertionError):
        raise InvalidInput(f"{path.name!r} is not a version's manifest; `modelport build` writes one") from None
    manifest: dict[str, Any] = found
    return manifest


def verify_files(folder: Path, manifest: dict[str, Any]) -> tuple[str, ...]:
    """The version's files, each with the size and SHA-256 that the manifest says; raises ArtifactRefused."""
    for entry in manifest["files"]:
        path = folder / entry["path"]
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise ArtifactRefused(f"the manifest's file {entry['path'][:120]!r} is missing: build or pull it again")
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != entry["sha256"] or path.stat().st_size != entry["size"]:
            raise ArtifactRefused(
                f"{entry['path'][:120]!r} differs from what the manifest says: build or pull it again"
            )
    return tuple(entry["path"] for entry in manifest["files"])
