"""LoRA adapters: versions without a runtime of their own, which run on the replicas of another deployment, their base.

Here: which deployment that is, and what its replicas have been told. Knows wishes and replicas; knows no engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from modelport.engine import adapting
from modelport.engine.fleet import Replica
from modelport.errors import InvalidInput
from modelport.schemas.deployments import DeploymentSpec
from modelport.schemas.models import Manifest
from modelport.telemetry import log

_VLLM = "vllm"


def is_adapter(manifest: Manifest) -> bool:
    """Whether it needs a base to run on."""
    return manifest.details.get("task") == "adapter"


def on_its_base(
    spec: DeploymentSpec, manifest: Manifest, deployed: Mapping[str, tuple[DeploymentSpec, Manifest]]
) -> DeploymentSpec:
    """The spec with the base named: the one that is given, or the only deployment of the model that it was made for.

    ``deployed`` are the project's deployments. Raises InvalidInput when that is not known or cannot hold an adapter.
    """
    if not is_adapter(manifest):
        if spec.base is not None:
            raise InvalidInput(f"spec.base: {manifest.model!r} is a model of its own, no adapter; leave it out")
        return spec
    base = spec.base or _recorded(manifest, deployed)
    if base not in deployed:
        raise InvalidInput(f"spec.base: there is no deployment {base!r}; deploy the adapter's base model first")
    how, found = deployed[base]
    if found.details.get("task") != "generate" or found.format != "huggingface":
        raise InvalidInput(
            f"spec.base: an adapter runs on a language model that was pushed as a Hugging Face folder, and {base!r} "
            f"is {'an adapter' if is_adapter(found) else found.format}"
        )
    if how.runtime == _VLLM and not how.engine.takes_adapters:
        raise InvalidInput(
            f"spec.base: {base!r} runs on vLLM without room for adapters; deploy it again with "
            "--engine enable_lora=true"
        )
    if spec.replicas != 1:
        raise InvalidInput("spec.replicas: an adapter runs on all replicas of its base; leave it out")
    return spec.model_copy(update={"base": base})


def _recorded(manifest: Manifest, deployed: Mapping[str, tuple[DeploymentSpec, Manifest]]) -> str:
    """The deployment of the version that the adapter was trained on, or of the model that its files name."""
    named = str(manifest.details.get("base", "")).rpartition("/")[2].lower()
    fits = [name for name, (_, found) in deployed.items() if f"{found.model}:{found.version}" in manifest.parents]
    fits = fits or [name for name, (_, found) in deployed.items() if named and named == found.model.lower()]
    if len(fits) == 1:
        return fits[0]
    why = "no deployment is known to be its base" if not fits else f"{', '.join(sorted(fits)[:10])} may be its base"
    raise InvalidInput(f"{manifest.model!r} is an adapter, and {why}: say which deployment it runs on (--base NAME)")


class Told:
    """What replicas have been told to hold, and what they refused. Used on one event loop."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._names: dict[str, frozenset[str]] = {}
        """By replica."""
        self._refused: dict[str, dict[str, str]] = {}
        """By adapter: the reasons, by replica."""
        self._asking: dict[str, asyncio.Task[None]] = {}

    def hold(self, replica: Replica, folders: dict[str, Path]) -> None:
        """These adapters and no others; nothing happens when it has been told before."""
        wanted = frozenset(folders)
        known = self._names.get(replica.id)
        if known is None:
            known = frozenset((replica.language or {}).get("adapters", ()))
        if wanted == known or replica.id in self._asking:
            return
        self._names[replica.id] = wanted
        self._asking[replica.id] = asyncio.create_task(self._ask(replica, folders))

    def held(self, replica: Replica, adapter: str) -> bool:
        """Whether the replica has said so."""
        return adapter in (replica.language or {}).get("adapters", ()) and adapter not in self._gone(replica)

    def refused(self, adapter: str) -> str | None:
        """Why it is not held, if a replica refused it."""
        return next(iter(self._refused.get(adapter, {}).values()), None)

    def forget(self, alive: Mapping[str, Replica]) -> None:
        """Replicas that have ended."""
        for replica in [replica for replica in self._names if replica not in alive]:
            del self._names[replica]
            for reasons in self._refused.values():
                reasons.pop(replica, None)

    def _gone(self, replica: Replica) -> frozenset[str]:
        """Held, but told to go."""
        told = self._names.get(replica.id)
        return frozenset() if told is None else frozenset((replica.language or {}).get("adapters", ())) - told

    async def _ask(self, replica: Replica, folders: dict[str, Path]) -> None:
        try:
            answer = await adapting.tell(replica.socket, folders)
        except OSError as error:
            log("adapters_not_told", replica=replica.id, error=str(error))
            self._names.pop(replica.id, None)  # it is told again in the next turn, if it still lives
            await asyncio.sleep(1)
        else:
            replica.language = answer.language
            for reasons in self._refused.values():
                reasons.pop(replica.id, None)
            for adapter, reason in answer.refused.items():
                self._refused.setdefault(adapter, {})[replica.id] = reason
        finally:
            del self._asking[replica.id]
            self._changed()
