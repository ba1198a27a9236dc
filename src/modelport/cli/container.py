"""A build context for a deployed version, as a person would write it by hand: files in, an image out.

Equal input gives equal bytes: nothing is dated. What people typed elsewhere (descriptions, names of variables)
enters the Dockerfile quoted, and cannot add a line or an instruction to it. Knows manifests and installed packages;
knows no server and no container engine.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from typing import Any

from modelport import __version__
from modelport.cli.packages import Package
from modelport.errors import InvalidInput
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest
from modelport.schemas.names import NAME_PATTERN

_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/@-]{0,300}")
_HEALTH = "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"
_IGNORE = "*\n!manifest.json\n!model\n!requirements.txt\n!wheels\n"

_DOCKERFILE = """\
# {model}:{version} as the deployment {name}. Written by Modelport {modelport}; yours to edit.
ARG BASE={base}
FROM ${{BASE}}

LABEL org.opencontainers.image.title={title} \\
      org.opencontainers.image.version={label_version} \\
      org.opencontainers.image.description={description} \\
      org.opencontainers.image.licenses={licence}

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin modelport

WORKDIR /srv
COPY requirements.txt ./
COPY wheels ./wheels
RUN pip install {pip_flags}-r requirements.txt && rm -r wheels

COPY manifest.json ./
COPY model ./model

USER 10001:10001
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD {health}
ENTRYPOINT {entry}
"""

_README = """\
# {model}:{version}

A build context for the deployment `{name}`. It holds all but the packages that `requirements.txt` names.

```bash
docker build -t {name}:{version} .
docker run --rm -e MODELPORT_SERVE_KEY=CHOOSE-ONE {variables}\\
    -p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 {name}:{version}
curl -H 'Authorization: Bearer CHOOSE-ONE' http://127.0.0.1:8000/v2/models/{name}
```

* HTTP on 8000 (V2, V1, `/predict`, `/metrics`), gRPC on 8001, both in plain text: end TLS in front of them. Callers
  send the key; without one the container does not start.
* The deployment's environment variables are named here, not their values: `docker run -e NAME` takes a value from
  your environment. The container does not start without one of them.
* The files in `model` are verified against `manifest.json` at every start.
* `--read-only --tmpfs /tmp` works; the process runs as user 10001.
* Another base: `docker build --build-arg BASE={base_name}@sha256:… .` pins it by digest. It needs Python {python}.
* `sbom.cdx.json` lists what goes in (CycloneDX 1.6).
"""


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is to be put into an image."""

    name: str
    spec: DeploymentSpec
    manifest: Manifest


def context_files(deployed: Deployed, packages: list[Package], wheel: tuple[str, bytes], base: str) -> dict[str, bytes]:
    """Every file of the context but those of the model, by path. Raises InvalidInput for names that are none."""
    manifest = deployed.manifest
    for what, name in (("deployment", deployed.name), ("model", manifest.model)):
        if not re.fullmatch(NAME_PATTERN, name) or "\n" in name:
            raise InvalidInput(f"the {what}'s name {name[:100]!r} is none; is this a Modelport server?")
    if not _IMAGE.fullmatch(base):
        raise InvalidInput(f"--base {base[:100]!r} is no name of an image; give one like python:3.12-slim")
    texts = {
        ".dockerignore": _IGNORE,
        "Dockerfile": _dockerfile(deployed, base, hashed=all(package.sha256 for package in packages)),
        "README.md": _README.format(
            model=manifest.model, version=manifest.version, name=deployed.name,
            variables="".join(f"-e {shlex.quote(name)} " for name in sorted(deployed.spec.env)),
            base_name=base.partition("@")[0], python=_python_of(packages),
        ),
        "manifest.json": manifest.model_dump_json(indent=2) + "\n",
        "requirements.txt": _requirements(packages, wheel),
        "sbom.cdx.json": json.dumps(_bill(manifest, packages), indent=2, sort_keys=True) + "\n",
    }  # fmt: skip
    return {**{path: text.encode() for path, text in texts.items()}, f"wheels/{wheel[0]}": wheel[1]}


def _dockerfile(deployed: Deployed, base: str, hashed: bool) -> str:
    manifest = deployed.manifest
    return _DOCKERFILE.format(
        model=manifest.model,
        version=manifest.version,
        name=deployed.name,
        modelport=__version__,
        base=base,
        title=quoted(manifest.model),
        label_version=quoted(str(manifest.version)),
        description=quoted(manifest.description),
        licence=quoted(manifest.licence),
        pip_flags="--require-hashes " if hashed else "",
        health=json.dumps(["python", "-c", _HEALTH]),
        entry=json.dumps(entry_command(deployed)),
    )


def entry_command(deployed: Deployed) -> list[str]:
    """What the container runs. In JSON form no shell and no substitution reads it."""
    spec = deployed.spec
    command = ["modelport", "serve", "model", "--manifest", "manifest.json", "--name", deployed.name]
    command += ["--host", "0.0.0.0", "--port", "8000", "--grpc-port", "8001", "--insecure-no-tls"]  # noqa: S104
    command += ["--replicas", str(max(spec.replicas, 1)), "--threads", str(spec.threads)]
    command += ["--max-batch", str(spec.max_batch), "--max-delay", f"{spec.max_delay_ms:g}"]
    command += ["--timeout", f"{spec.timeout_s:g}", "--start-timeout", f"{spec.start_timeout_s:g}"]
    for option, value in (("--cache", spec.cache), ("--runtime", spec.runtime)):
        command += [option, value] if value is not None else []
    for name, asked in spec.engine.asked.items():
        command += ["--engine", f"{name}={asked}"]
    if deployed.manifest.runtime == "predictor":
        command.append("--allow-python")
    if deployed.manifest.runtime == "aotinductor":
        command.append("--allow-native-code")
    for name in sorted(spec.env):  # values may be secrets: they come when the container starts
        command += ["--env", name]
    return command


def quoted(text: str) -> str:
    """A Dockerfile's string of one line: what does not print becomes a space; quotes and ``$`` mean themselves."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return '"' + re.sub(r'(["\\$])', r"\\\1", line) + '"'


def _python_of(packages: list[Package]) -> str:
    return packages[0].python


def _requirements(packages: list[Package], wheel: tuple[str, bytes]) -> str:
    import hashlib

    hashed = all(package.sha256 for package in packages)
    lines = [f"./wheels/{wheel[0]}" + (f" --hash=sha256:{hashlib.sha256(wheel[1]).hexdigest()}" if hashed else "")]
    for package in packages:
        hashes = "".join(f" --hash=sha256:{sha256}" for sha256 in package.sha256)
        lines.append(f"{package.name}=={package.version}{hashes}")
    return "\n".join(lines) + "\n"


def _bill(manifest: Manifest, packages: list[Package]) -> dict[str, Any]:
    """A CycloneDX 1.6 document: the model as what it is about, its files and the packages as components."""
    about: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest.model}:{manifest.version}",
        "name": manifest.model,
        "version": str(manifest.version),
        "hashes": [{"alg": "SHA-256", "content": manifest.digest}],
    }
    if manifest.licence:
        about["licenses"] = [{"license": {"name": manifest.licence}}]
    files = [
        {"type": "file", "name": f"model/{entry.path}", "hashes": [{"alg": "SHA-256", "content": entry.sha256}]}
        for entry in manifest.files
    ]
    libraries = [package.as_component() for package in packages]
    own = {"type": "library", "name": "modelport", "version": __version__, "purl": f"pkg:pypi/modelport@{__version__}"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": about},
        "components": [own, *libraries, *files],
    }
