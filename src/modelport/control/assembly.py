"""Builds control's services from the settings: for the control process, and for commands on a stopped server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelport.control.blobs import Blobs, Limits
from modelport.control.datasets import Datasets
from modelport.control.evaluations import Evaluations
from modelport.control.files import Files, Room
from modelport.control.grades import Grades
from modelport.control.identity import Identity
from modelport.control.registry import Registry
from modelport.engine.inspect import inspect_apart
from modelport.engine.runtime import Trust
from modelport.schemas.models import Inspection
from modelport.settings import Settings
from modelport.storage.artifacts import Artifacts
from modelport.storage.database import Database


@dataclass(slots=True)
class Services:
    """What knows no process."""

    settings: Settings
    database: Database
    artifacts: Artifacts
    identity: Identity
    registry: Registry
    datasets: Datasets
    evaluations: Evaluations
    grades: Grades
    files: Files


def trust_of(settings: Settings) -> Trust:
    """What the operator allows, as the engine knows it."""
    return Trust(tuple(settings.trust.sklearn_types), settings.trust.python_predictors, settings.trust.native_code)


def build_services(
    settings: Settings, *, owner_token: str | None, keys_required: bool, migrate: bool = True
) -> Services:
    """Open the database (with ``migrate`` bringing its schema up to date) and the artifact store."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    if migrate:
        database.migrate()
    trust = trust_of(settings)

    def inspect(folder: Path, files: tuple[str, ...]) -> Inspection:
        found = inspect_apart(folder, trust)
        return Inspection(
            format=found.format,
            runtime=found.runtime,
            signature=found.signature,
            labels=found.labels,
            details=found.details,
            sample=found.sample,
        )

    room = Room(int(settings.batches.key_gb * 1e9), int(settings.batches.project_gb * 1e9))
    limits = Limits(int(settings.artifacts.max_file_gb * 1e9), settings.artifacts.gc_grace_s)
    artifacts = Artifacts(settings.artifacts_url, settings.home / "cache")
    blobs = Blobs(database, artifacts, limits)
    return Services(
        settings,
        database,
        artifacts,
        Identity(database, owner_token, keys_required),
        Registry(database, artifacts, inspect, limits),
        Datasets(database, artifacts, blobs, settings.home / "cache", settings.data.archives),
        Evaluations(database),
        Grades(database, settings.grades),
        Files(database, artifacts, blobs, room),
    )
