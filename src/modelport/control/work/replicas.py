"""Replicas of a job's own: a version, registered or not, run as a deployment would run it.

Knows a job's run and a manifest; knows no row and no figure.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelport.control.assembly import trust_of
from modelport.control.environments import Environments
from modelport.engine.fleet import Limits
from modelport.engine.local import LocalModel, LocalReplicas, Running
from modelport.engine.placement.ports import CannotStart
from modelport.engine.routing import Route
from modelport.engine.runtime import Inspected
from modelport.errors import Unavailable
from modelport.schemas.models import Manifest

if TYPE_CHECKING:
    from modelport.control.jobs.run import JobRun

_START_S = 600.0


@dataclass(frozen=True, slots=True)
class Wish:
    """How they are run."""

    replicas: int
    threads: int
    max_batch: int
    run_s: float
    """Limit of one run."""


def files_of(run: JobRun, manifest: Manifest) -> Path:
    """The folder of a registered version's files."""
    return run.services.artifacts.materialize(run.actor.project_id, manifest.digest, manifest.files)


async def start(
    run: JobRun, manifest: Manifest, files: Path, wish: Wish, folder: Path,
    publish: Callable[[int, Route], Awaitable[None]], told: Callable[[str], None],
) -> LocalReplicas:  # fmt: skip
    """The replicas, one of them ready, and its route published; raises Unavailable when the model cannot be run.

    This process works in ``folder``, which is emptied, from now on: sockets have relative names.
    """
    settings = run.services.settings
    model = LocalModel(
        files, tuple(entry.path for entry in manifest.files),
        Inspected(
            manifest.format, manifest.runtime, manifest.signature, manifest.labels, manifest.details,
            sample=manifest.sample,
        ),
        manifest.version, [step.model_dump() for step in manifest.preprocessing],
        manifest.model_signature.to_json() if manifest.model_signature else None,
    )  # fmt: skip
    how = Running(
        manifest.model, wish.replicas, wish.threads, wish.max_batch, 0, Limits(wish.run_s, _START_S),
        trust_of(settings).sklearn_types,
    )  # fmt: skip
    requirements = manifest.details.get("requirements")
    if requirements is not None:
        told(f"building the environment: {', '.join(requirements)}"[:200])
        environments = settings.home / "environments"
        environments.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = await Environments(environments).ensure(requirements, run.folder / "environment.log")
        how.env, how.python = environment.variables, environment.python
    _enter(folder)
    replicas = LocalReplicas(folder, publish)
    await replicas.open()
    replicas.run(model, how)
    try:
        await replicas.first_ready
    except CannotStart as error:
        replicas.close(signal.SIGKILL)
        raise Unavailable(f"model {manifest.model}:{manifest.version}: {error}") from None
    except BaseException:
        replicas.close(signal.SIGKILL)
        raise
    return replicas


def _enter(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
