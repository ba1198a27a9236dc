"""The work of kind ``deploy``: wish for a version and wait until it serves; a stage of pipelines."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from modelport.control.actors import Actor
from modelport.control.assembly import Services
from modelport.control.jobs.run import ConductedRun
from modelport.errors import Conflict, InvalidInput
from modelport.schemas.deployments import DeploymentApply, DeploymentSpec
from modelport.schemas.names import AliasName, Name

_LOOK_S = 0.2


class DeployParams(BaseModel):
    """What is to be served, and how."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}([:@][A-Za-z0-9][A-Za-z0-9._-]{0,99})?$")]
    """``NAME``, ``NAME:VERSION`` or ``NAME@ALIAS``."""
    endpoint: Name | None = None
    """By default the model's name."""
    follow: bool = False
    spec: DeploymentSpec = DeploymentSpec()
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600

    def wish(self) -> DeploymentApply:
        """As deployments have it; raises InvalidInput for a version or an alias that cannot be."""
        name, at, alias = self.model.partition("@")
        name, _, number = name.partition(":")
        if number and not (number.isdecimal() and 0 < int(number[:12]) < 2**31):
            raise InvalidInput(f"model: {number[:40]!r} is no version; say NAME, NAME:NUMBER or NAME@ALIAS")
        wanted: AliasName | None = alias if at else None
        return DeploymentApply(
            model=name, version=int(number) if number else None, alias=wanted, follow=self.follow, spec=self.spec
        )


class Deploy:
    """Conducted: all that takes time is done by replicas."""

    Params = DeployParams

    def check(self, services: Services, actor: Actor, params: DeployParams) -> None:
        """Raises NotFound for a version that is not there."""
        wish = params.wish()
        services.registry.resolve(actor, wish.model, wish.version, wish.alias)

    async def conduct(self, run: ConductedRun, params: DeployParams) -> dict[str, Any]:
        """Wish, and wait; the same wish again changes nothing, so an interrupted job begins anew."""
        wish, deadline = params.wish(), time.monotonic() + params.timeout_s
        name = params.endpoint or wish.model
        wanted = await asyncio.to_thread(run.deployments.apply, run.actor, name, wish)
        while True:
            seen = await asyncio.to_thread(run.deployments.get, run.actor, name)
            replicas = seen.spec.replicas
            run.progress(seen.replicas_ready, replicas, f"{name} is {seen.state}", "replicas")
            if seen.revision != wanted.revision:
                raise Conflict(f"deployment {name!r}: revision {seen.revision} took the place of {wanted.revision}")
            if seen.state in ("ready", "stopped"):
                return {
                    "deployment": name,
                    "model": f"{seen.model}:{seen.version}",
                    "version": seen.version,
                    "revision": seen.revision,
                }
            if seen.state == "failed":
                raise Conflict(f"deployment {name!r}: {seen.reason}; `modelport logs {name}` shows more")
            if time.monotonic() > deadline:
                raise Conflict(
                    f"deployment {name!r} is {seen.state} after {params.timeout_s:g} s: {seen.reason}; it goes on, "
                    "`modelport status` shows how"
                )
            await asyncio.sleep(_LOOK_S)
