"""Deployments: wish for one, wait until it serves or has failed, stop, start, roll back, read its logs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, overload

from pydantic import ValidationError

from modelport.errors import Conflict, DeadlineExceeded, NotFound, Unavailable
from modelport.schemas.deployments import Deployment, DeploymentApply
from modelport.sdk.flows import (
    Awaiting,
    Blocking,
    D_co,
    Flow,
    Operations,
    Request,
    Sleep,
    operation,
    path_of,
    send,
    send_json,
)
from modelport.sdk.models import API, refused
from modelport.sdk.references import parse_reference

#: How long a server that answers nothing is waited for, seconds.
_SILENCE_S = 15.0
DeploymentList = list[Deployment]
#: Called with the deployment each time that it was looked at.
Watch = Callable[[Deployment], object]


class DeploymentFailed(Unavailable):
    """The revision that was waited for did not come to serve. ``deployment`` tells why, with its last log lines."""

    def __init__(self, deployment: Deployment) -> None:
        reason = deployment.reason or f"it is {deployment.state}"
        kept = deployment.serving_version
        still = f"; version {kept} keeps serving" if kept is not None else ""
        tail = "".join(f"\n  | {line}" for line in deployment.log_tail[-20:])
        more = f"; all that it wrote: modelport logs {deployment.name}"
        super().__init__(f"deployment {deployment.name!r} revision {deployment.revision}: {reason}{still}{more}{tail}")
        self.deployment = deployment


def _deployment(name: str, *rest: str) -> str:
    return API + path_of("deployments", name, *rest)


def ignore_state(deployment: Deployment) -> None:
    """For callers who do not watch."""


def apply(
    name: str, wish: DeploymentApply, wait: bool, timeout: float, progress: Watch = ignore_state
) -> Flow[Deployment]:
    """Put the wish under ``name``; with ``wait``, come back when it serves."""
    body = wish.model_dump(exclude_defaults=True)
    body["spec"] = wish.spec.model_dump(exclude_unset=True)
    made = Deployment.model_validate((yield from send_json("PUT", _deployment(name), body)))
    progress(made)
    return (yield from settle(made, timeout, progress)) if wait else made


def settle(wanted: Deployment, timeout: float, progress: Watch = ignore_state) -> Flow[Deployment]:
    """Wait until the revision of ``wanted`` serves.

    All its replicas are ready then. Raises DeploymentFailed with the reason, Conflict when a newer revision took its
    place, DeadlineExceeded.
    """
    deadline = time.monotonic() + timeout
    pause, seen, heard = 0.05, wanted, time.monotonic()
    while True:
        if seen.revision != wanted.revision:
            raise Conflict(
                f"deployment {wanted.name!r}: revision {seen.revision} took the place of {wanted.revision}; "
                f"look at it before you deploy again: modelport deployments show {wanted.name}"
            )
        if seen.state in {"ready", "stopped"}:
            return seen
        if seen.state == "failed":
            raise DeploymentFailed(seen)
        if time.monotonic() >= deadline:
            why = f": {seen.reason}" if seen.reason else ""
            raise DeadlineExceeded(
                f"deployment {wanted.name!r} is {seen.state} after {timeout:g} s{why}; it goes on, "
                f"`modelport logs {wanted.name}` tells how"
            )
        yield Sleep(pause)
        pause = min(pause * 1.3, 0.5)
        try:
            seen = Deployment.model_validate((yield from send_json("GET", _deployment(wanted.name))))
        except Unavailable:  # control may be starting again
            if time.monotonic() >= min(deadline, heard + _SILENCE_S):
                raise
        else:
            heard = time.monotonic()
            progress(seen)


class Deployments(Operations[D_co]):
    """``client.deployments``."""

    @operation
    def list(self) -> Flow[DeploymentList]:
        """All deployments of the project."""
        answer = yield from send_json("GET", f"{API}/deployments")
        return [Deployment.model_validate(item) for item in answer["items"]]

    @operation
    def get(self, name: str) -> Flow[Deployment]:
        """One deployment."""
        return Deployment.model_validate((yield from send_json("GET", _deployment(name))))

    @operation
    def apply(
        self,
        name: str,
        wish: DeploymentApply,
        *,
        wait: bool = True,
        timeout: float = 300,
        progress: Watch = ignore_state,
    ) -> Flow[Deployment]:
        """Bring a deployment to a wish. The same wish again changes nothing. Raises as ``Client.deploy``."""
        return (yield from apply(name, wish, wait, timeout, progress))

    @operation
    def delete(self, name: str, *, wait: bool = False, timeout: float = 60) -> Flow[None]:
        """Remove a deployment and end its replicas; with ``wait``, come back when it is gone."""
        yield from send(Request("DELETE", _deployment(name)))
        deadline = time.monotonic() + timeout
        while wait:
            try:
                yield from send(Request("GET", _deployment(name)))
            except NotFound:
                return
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"deployment {name!r} is still there after {timeout:g} s, perhaps for the requests that it holds; "
                    "wait longer, or see `modelport status`"
                )
            yield Sleep(0.1)

    @operation
    def stop(self, name: str) -> Flow[Deployment]:
        """End the replicas, keep the wish."""
        return Deployment.model_validate((yield from send_json("POST", _deployment(name, "stop"))))

    @operation
    def start(
        self, name: str, *, wait: bool = True, timeout: float = 300, progress: Watch = ignore_state
    ) -> Flow[Deployment]:
        """Serve again after ``stop``."""
        made = Deployment.model_validate((yield from send_json("POST", _deployment(name, "start"))))
        return (yield from settle(made, timeout, progress)) if wait else made

    @operation
    def rollback(
        self, name: str, *, wait: bool = True, timeout: float = 300, progress: Watch = ignore_state
    ) -> Flow[Deployment]:
        """Go back to the revision before, as a new revision."""
        answer = yield from send_json("POST", _deployment(name, "rollback"), idempotent=False)
        made = Deployment.model_validate(answer)
        return (yield from settle(made, timeout, progress)) if wait else made

    @overload
    def logs(
        self: Deployments[Blocking], name: str, *, follow: bool = ..., tail: int = ..., replica: str | None = ...
    ) -> Iterator[str]: ...
    @overload
    def logs(
        self: Deployments[Awaiting], name: str, *, follow: bool = ..., tail: int = ..., replica: str | None = ...
    ) -> AsyncIterator[str]: ...
    def logs(self: Any, name: str, *, follow: bool = False, tail: int = 100, replica: str | None = None) -> Any:
        """The last ``tail`` lines that the replicas wrote, and with ``follow`` those to come."""
        params: dict[str, str | int] = {"tail": tail, "follow": "true" if follow else "false"}
        if replica:
            params["replica"] = replica
        return self._driver.lines(Request("GET", _deployment(name, "logs"), params=params, endless=follow))


def wish_of(model: str, version: int | None, alias: str | None, follow: bool, spec: dict[str, Any]) -> DeploymentApply:
    """A wish from the arguments of ``deploy``; raises InvalidInput naming the field."""
    reference = parse_reference(model, version, alias)
    try:
        return DeploymentApply(
            model=reference.name,
            version=reference.version,
            alias=reference.alias,
            follow=follow,
            spec=spec,  # read as it is: a wrong field is named as the server names it
        )
    except ValidationError as error:
        raise refused(error, DeploymentApply) from None
