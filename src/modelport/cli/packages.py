"""The packages that run a model, as they are installed here: what Modelport needs, pinned, and Modelport itself.

Knows installed distributions and one question to pip; knows no model and no container.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import modelport
from modelport.errors import InvalidInput, MissingExtra

_BEGINNING = (1980, 1, 1, 0, 0, 0)
"""The date of every file in a wheel: the earliest that zip knows."""
_WHEEL = "Wheel-Version: 1.0\nGenerator: modelport\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package."""

    name: str
    version: str
    licence: str = ""
    sha256: tuple[str, ...] = ()
    """Of the file that pip would install here; empty when it was not asked."""
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"

    def as_component(self) -> dict[str, Any]:
        """As CycloneDX writes it."""
        purl = f"pkg:pypi/{self.name}@{self.version}"
        found: dict[str, Any] = {"type": "library", "name": self.name, "version": self.version}
        found |= {"purl": purl, "bom-ref": purl}
        if self.licence:
            found["licenses"] = [{"license": {"name": self.licence}}]
        if self.sha256:
            found["hashes"] = [{"alg": "SHA-256", "content": each} for each in self.sha256]
        return found


def needed_packages(extras: set[str]) -> list[Package]:
    """What Modelport with these extras needs, all the way down, in the versions that are installed here, by name.

    Raises MissingExtra when one is not installed.
    """
    found: dict[str, Package] = {}
    waiting: list[tuple[str, frozenset[str]]] = [("modelport", frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, wanted = waiting.pop()
        try:
            here = distribution(name)
        except PackageNotFoundError:
            raise MissingExtra(",".join(sorted(extras)) or "serve", f"a container with {name}") from None
        if name != "modelport":
            found[name] = Package(name, here.version, _licence(here))
        for line in here.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (wanted or {""})
            ):
                entry = (canonicalize_name(requirement.name), frozenset(requirement.extras))
                if entry not in seen:
                    seen.add(entry)
                    waiting.append(entry)
    return [found[name] for name in sorted(found)]


def _licence(found: Distribution) -> str:
    for field in ("License-Expression", "License"):
        for text in found.metadata.get_all(field) or ():
            if text.strip():
                return str(text).strip().splitlines()[0][:100]
    return ""


def with_hashes(packages: list[Package]) -> list[Package]:
    """The same with the SHA-256 of what pip would install; raises InvalidInput when pip cannot say."""
    wanted = [f"{package.name}=={package.version}" for package in packages]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"]
    command += ["--ignore-installed", "--no-deps", "--report", "-", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (argv is ours)
    if done.returncode != 0:
        cause = (done.stderr.strip().splitlines() or ["pip failed"])[-1][:300]
        raise InvalidInput(f"the package index could not be asked for hashes ({cause}); --no-hashes pins versions only")
    hashes: dict[str, str] = {
        canonicalize_name(item["metadata"]["name"]): item["download_info"]["archive_info"]["hashes"]["sha256"]
        for item in json.loads(done.stdout)["install"]
    }
    return [replace(package, sha256=(hashes[package.name],)) for package in packages]


def running_wheel() -> tuple[str, bytes]:
    """The Modelport that runs here, as a wheel: its name and its bytes."""
    here, root = distribution("modelport"), Path(modelport.__file__).parent
    info = f"modelport-{here.version}.dist-info"
    files: dict[str, bytes] = {
        f"modelport/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        text = here.read_text(name)
        if text is not None:
            files[f"{info}/{name}"] = text.encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    records = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sorted(files.items())]
    files[f"{info}/RECORD"] = "\n".join([*records, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _BEGINNING)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return f"modelport-{here.version}-py3-none-any.whl", out.getvalue()


def _digest(content: bytes) -> str:
    return urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
