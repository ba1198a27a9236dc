"""``modelport build``: a deployed version as a build context for a container."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli.options import Key, Url

if TYPE_CHECKING:
    from modelport.schemas.models import Manifest

_BASE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
#: Runtimes whose extra has another name than they have.
_EXTRAS = {"aotinductor": "torch", "huggingface": "transformers", "openvino-genai": "llm"}


def build(
    deployment: Annotated[str, typer.Argument(help="Deployment to take apart.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="New or empty folder; by default NAME-image.")
    ] = None,
    base: Annotated[str, typer.Option("--base", help="Image to start from; a digest pins it.")] = _BASE,
    hashes: Annotated[bool, typer.Option(help="Ask the package index for the hash of every package.")] = True,
    url: Url = None,
    key: Key = None,
) -> None:
    """Write what a container image of a deployment is built from.

    A Dockerfile, the model and its manifest, pinned packages, an SBOM. No container engine is needed.

    Example: modelport build digits --output digits-image
    """
    from modelport.cli import render
    from modelport.cli.container import Deployed, context_files
    from modelport.cli.packages import needed_packages, running_wheel, with_hashes
    from modelport.sdk.client import Client
    from modelport.sdk.files import staged

    with Client(url, key) as client:
        found = client.deployments.get(deployment)
        version = found.serving_version or found.version
        manifest = client.models.version(found.model, version).manifest
        packages = needed_packages(extras(manifest, found.spec.runtime))
        if hashes:
            with render.working(f"asking the package index for the hashes of {len(packages)} packages"):
                packages = with_hashes(packages)
        files = context_files(Deployed(found.name, found.spec, manifest), packages, running_wheel(), base)
        folder = output or Path(f"{found.name}-image")
        with staged(folder) as staging:
            for path, content in files.items():
                (staging / path).parent.mkdir(exist_ok=True)
                (staging / path).write_bytes(content)
            with render.transfer_bar() as progress:
                client.models.pull(found.model, version, staging / "model", progress=progress)
    render.say(f"{manifest.model}:{version} is in {folder} ({len(packages)} packages, base {base})")
    render.say(f"docker build -t {found.name}:{version} {folder}")


def extras(manifest: Manifest, runtime: str | None = None) -> set[str]:
    """The extras of Modelport that the version needs: those of its preprocessing and of what runs it."""
    from importlib.metadata import metadata

    offered = metadata("modelport").get_all("Provides-Extra") or []
    runs = runtime or manifest.runtime
    wanted = {step.kind for step in manifest.preprocessing} | {_EXTRAS.get(runs, runs)}
    return wanted & set(offered)
