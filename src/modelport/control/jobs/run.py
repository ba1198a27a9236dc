"""What a job's work is given, and what a kind of work has to be.

A kind is a plug-in of the group ``modelport.jobs``: a class without arguments. ``Work`` runs in a process of its own,
``Conducted`` inside control (it waits more than it works). Knows no queue and no process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pydantic import BaseModel, ValidationError

from modelport import plugins
from modelport.control.actors import Actor
from modelport.errors import InvalidInput

if TYPE_CHECKING:
    from modelport.control.assembly import Services
    from modelport.control.deployments import Deployments
    from modelport.control.jobs.service import Jobs

GROUP = "jobs"
_LEAST_MEMORY_MB = 64


@dataclass(slots=True)
class JobRun:
    """One attempt at a job, in its process."""

    id: str
    actor: Actor
    attempt: int
    """1 for the first one."""
    folder: Path
    """The job's own, kept from attempt to attempt: an attempt goes on from what lies there. Gone when the job ends."""
    services: Services
    report: Callable[[dict[str, Any]], None] = field(repr=False)
    """Sends one message to control."""
    threads: int = 1
    """Cores that it holds, at least one."""

    def progress(self, done: float, total: float | None = None, message: str = "", unit: str = "rows") -> None:
        """Tell how far it is; call it as often as you like."""
        self.report({"progress": {"done": done, "total": total, "message": message, "unit": unit}})

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Tell one figure; every one is kept."""
        self.report({"metric": {"name": name, "value": value, "step": step}})


@dataclass(slots=True)
class ConductedRun:
    """One attempt at a job that control itself conducts."""

    id: str
    actor: Actor
    services: Services
    jobs: Jobs
    deployments: Deployments
    progress: Callable[[float, float | None, str, str], None]
    """Done, total, message, unit."""


class Kind(Protocol):
    """What every kind of work says about itself."""

    Params: type[BaseModel]
    """What it takes; forbids what it does not know."""

    def check(self, services: Services, actor: Actor, params: Any) -> None:
        """Raise a ModelportError for what can be known to be wrong before the job is accepted. In control."""
        ...


@runtime_checkable
class Work(Kind, Protocol):
    """Work that runs in a process of its own."""

    def run(self, run: JobRun, params: Any) -> dict[str, Any]:
        """Do it; the result is JSON. It may be killed at any instant and begun again with the same folder.

        A ModelportError of the caller's making (4xx) ends the job; anything else is tried again.
        """
        ...


@runtime_checkable
class Conducted(Kind, Protocol):
    """Work that control does itself, on its event loop: it must not block."""

    async def conduct(self, run: ConductedRun, params: Any) -> dict[str, Any]:
        """As ``Work.run``; what it had begun it finds again by the job's id."""
        ...


@runtime_checkable
class Demanding(Protocol):
    """Work whose libraries alone take much memory."""

    least_memory_mb: int
    """With less it cannot begin, and is not accepted."""


@runtime_checkable
class Repeatable(Protocol):
    """Work that does the same to the same, so that a pipeline need not do it twice."""

    def inputs(self, services: Services, actor: Actor, params: Any) -> list[str] | None:
        """Digests of all that it reads; None when nobody can tell whether that has changed."""
        ...

    def still_there(self, services: Services, actor: Actor, result: dict[str, Any]) -> bool:
        """Whether what an earlier run made exists still."""
        ...


def kind_of(name: str) -> Kind:
    """A kind by its name; raises InvalidInput with the nearest name, or all."""
    kind: Kind = plugins.asked_for(GROUP, name, "kind", "kind of job")
    return kind


def least_memory_mb(kind: Kind) -> int:
    """What a kind needs to begin, MB."""
    return kind.least_memory_mb if isinstance(kind, Demanding) else _LEAST_MEMORY_MB


def params_of(kind: Kind, params: dict[str, Any]) -> BaseModel:
    """A kind's parameters, checked; raises InvalidInput naming the first field that is wrong."""
    try:
        return kind.Params.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part)[:100] for part in ("params", *first["loc"]))
        known = ", ".join(kind.Params.model_fields)
        hint = f"; it takes {known or 'none'}" if first["type"] == "extra_forbidden" else ""
        raise InvalidInput(f"{where}: {first['msg'][:500]}{hint}") from None


def fingerprint_of(services: Services, actor: Actor, name: str, params: dict[str, Any]) -> str | None:
    """Equal for jobs that would do the same to the same; None where nobody can tell."""
    kind = kind_of(name)
    if not isinstance(kind, Repeatable):
        return None
    checked = params_of(kind, params)
    inputs = kind.inputs(services, actor, checked)
    if inputs is None:
        return None
    parts = [name, code_version(type(kind).__module__), checked.model_dump_json(), *sorted(inputs)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@cache
def code_version(module: str) -> str:
    """Changes with any source file of the package that a module belongs to."""
    package = module.partition(".")[0]
    spec = find_spec(package)
    digest = hashlib.sha256(package.encode())
    for place in (spec and spec.submodule_search_locations) or ([spec.origin] if spec and spec.origin else []):
        root = Path(place)
        for file in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(f"{file.relative_to(root)} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
