"""Endpoints that stand in for another: when it fails, is overloaded, or the key has spent its tokens there.

They are asked in their order, within the deadline that there was, and only until the first part of an answer has been
given. What is wrong with the request itself is never asked again elsewhere. One that the key may not call, that is
gone, or that does not know what is asked for is passed over. Knows endpoints and errors; knows no protocol.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from modelport.engine.generation import Asked, Facts, Part, Sampling
from modelport.engine.requests import InferRequest, InferResult
from modelport.errors import DeadlineExceeded, ModelportError, NotFound, Overloaded, Unavailable

if TYPE_CHECKING:
    from modelport.engine.dataplane import DataPlane, Endpoint

_PLAIN = Sampling()


def is_passed_on(error: ModelportError) -> bool:
    """Whether another model might do better: not at what is the caller's own fault, nor when time is up."""
    return isinstance(error, Overloaded) or (error.status >= 500 and not isinstance(error, DeadlineExceeded))


def knows(facts: Facts, sampling: Sampling) -> bool:
    """Whether a model's engine can do all that is asked."""
    return not any(
        sampling.logprobs if name == "alternatives" else getattr(sampling, name) != getattr(_PLAIN, name)
        for name in facts.lacks
    )


def stand_in(plane: DataPlane, endpoint: Endpoint, name: str, request: InferRequest) -> Endpoint | None:
    """The endpoint of that name, if this caller may have it in the other's place."""
    if not plane.allowances.may_use(request.caller, name):
        return None
    try:
        found = plane.find(endpoint.route.project, name)
    except NotFound:
        return None
    same = found.route.signature == endpoint.route.signature
    return found if same and (found.route.language is None) == (endpoint.route.language is None) else None


def _all(plane: DataPlane, endpoint: Endpoint, request: InferRequest) -> list[Endpoint]:
    found = (stand_in(plane, endpoint, name, request) for name in endpoint.route.fallback)
    return [endpoint, *(each for each in found if each is not None)]


def _check_there(endpoint: Endpoint) -> None:
    """Raises Unavailable for one whose next replica would have to be waited for, while others could answer."""
    if endpoint.route.recovering and not endpoint.route.replicas:
        raise Unavailable(f"endpoint {endpoint.route.name!r} has lost its replicas; they are being replaced")


async def infer(plane: DataPlane, endpoint: Endpoint, request: InferRequest) -> InferResult:
    """An answer in tensors."""
    first: ModelportError | None = None
    for each in _all(plane, endpoint, request):
        try:
            _check_there(each)
            result = await plane.infer_here(each, request)
        except ModelportError as error:
            if not is_passed_on(error):
                raise
            first = first or error
        else:
            _answered(endpoint, each, request)
            return result
    assert first is not None
    raise first


async def stream(plane: DataPlane, endpoint: Endpoint, request: InferRequest) -> AsyncGenerator[InferResult]:
    """The same in parts."""
    first: ModelportError | None = None
    for each in _all(plane, endpoint, request):
        begun = False
        try:
            _check_there(each)
            async with aclosing(plane.stream_here(each, request)) as parts:
                async for part in parts:
                    if not begun:
                        begun = True
                        _answered(endpoint, each, request)
                    yield part
            return
        except ModelportError as error:
            if begun or not is_passed_on(error):
                raise
            first = first or error
    assert first is not None
    raise first


async def generate(plane: DataPlane, endpoint: Endpoint, asked: Asked, request: InferRequest) -> AsyncGenerator[Part]:
    """A text."""
    first: ModelportError | None = None
    for each in _all(plane, endpoint, request):
        facts = each.route.language
        if each is not endpoint and (facts is None or not knows(facts, asked.sampling)):
            continue
        begun = False
        try:
            _check_there(each)
            async with aclosing(plane.generate_here(each, asked, request)) as parts:
                async for part in parts:
                    if not begun:
                        begun = True
                        _answered(endpoint, each, request)
                    yield part
            return
        except ModelportError as error:
            if begun or not is_passed_on(error):
                raise
            first = first or error
    assert first is not None
    raise first


def _answered(asked: Endpoint, by: Endpoint, request: InferRequest) -> None:
    request.answered_by = by.route
    if by is not asked:
        asked.stats.passed_on += 1
