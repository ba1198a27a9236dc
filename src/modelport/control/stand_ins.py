"""Whether endpoints can stand in for another, as its deployment wants it: they are there, take and give the same, and
do not lead back to it. Knows wishes and manifests; knows no database.
"""

from __future__ import annotations

from collections.abc import Mapping

from modelport.control.adapters import is_adapter
from modelport.engine import texts
from modelport.errors import InvalidInput
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest
from modelport.tensors import Signature


def named(spec: DeploymentSpec) -> list[tuple[str, str]]:
    """The other endpoints that a spec names: each with the field that names it."""
    found = [("spec.fallback", name) for name in spec.fallback]
    return found + ([("spec.cascade.first", spec.cascade.first)] if spec.cascade is not None else [])


def check(
    name: str, spec: DeploymentSpec, manifest: Manifest, known: Mapping[str, tuple[DeploymentSpec, Manifest]]
) -> None:
    """Raises InvalidInput; ``known`` are the project's deployments."""
    if len(set(spec.fallback)) < len(spec.fallback):
        raise InvalidInput("spec.fallback: a name stands there twice")
    if spec.cascade is not None and _signature(manifest) != texts.SIGNATURE:
        raise InvalidInput(f"spec.cascade: a cascade is for language models; {manifest.model!r} is none")
    for field, other in named(spec):
        if other == name:
            raise InvalidInput(f"{field}: {name!r} cannot stand in for itself")
        if other not in known:
            raise InvalidInput(f"{field}: there is no deployment {other!r} in this project; deploy it first")
        if _signature(known[other][1]) != _signature(manifest):
            raise InvalidInput(
                f"{field}: {other!r} does not take and give what {name!r} does; compare `modelport models show`"
            )
    circle = _way_back(name, name, {**{each: spec for each, (spec, _) in known.items()}, name: spec}, ())
    if circle:
        raise InvalidInput(f"{named(spec)[0][0]}: {' -> '.join(circle)} is a circle; leave one of them out")


def _signature(manifest: Manifest) -> Signature:
    """What its endpoint takes and gives: an adapter's, which has none of its own, is that of every language model."""
    return texts.SIGNATURE if is_adapter(manifest) else manifest.signature


def _way_back(
    to: str, at: str, specs: Mapping[str, DeploymentSpec], way: tuple[str, ...], seen: set[str] | None = None
) -> tuple[str, ...]:
    """From one endpoint to another by way of those that stand in, or nothing."""
    seen = seen if seen is not None else set()
    for _, other in named(specs[at]) if at in specs else ():
        if other == to:
            return (*way, at, to)
        if other not in seen:
            seen.add(other)
            if found := _way_back(to, other, specs, (*way, at), seen):
                return found
    return ()
