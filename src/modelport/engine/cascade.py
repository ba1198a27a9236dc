"""A small model first, the large one where the small one is not sure of itself.

The small one's whole answer is judged before any of it is given: how likely its words were to itself, whether it says
the same when it is asked again, whether it is JSON. What fails a test, or fails at all, is asked of the large one,
which answers as if there had been no other. Knows endpoints and parts; knows no protocol.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from modelport.engine import fallback
from modelport.engine.generation import Asked, Part
from modelport.engine.requests import InferRequest
from modelport.engine.routing import Cascade
from modelport.errors import ModelportError

if TYPE_CHECKING:
    from modelport.engine.dataplane import DataPlane, Endpoint

_TEMPERATURE = 0.7
"""Of further samples where the caller wants the likeliest words: those would all be the same."""
_random = random.SystemRandom()


async def generate(
    plane: DataPlane, endpoint: Endpoint, cascade: Cascade, asked: Asked, request: InferRequest
) -> AsyncGenerator[Part]:
    """A text, of one or the other."""
    kept = await _sure(plane, endpoint, cascade, asked, request)
    if kept is not None:
        for part in kept:
            yield part
        return
    async with aclosing(fallback.generate(plane, endpoint, asked, request)) as parts:
        async for part in parts:
            yield part


async def _sure(
    plane: DataPlane, endpoint: Endpoint, cascade: Cascade, asked: Asked, request: InferRequest
) -> list[Part] | None:
    """The small model's answer, or None where it has none, or is not sure enough of it."""
    small = fallback.stand_in(plane, endpoint, cascade.first, request)
    if small is None or small.route.language is None or not fallback.knows(small.route.language, asked.sampling):
        return None
    try:
        parts = await _written(plane, small, cascade, asked, request)
        sure = parts is not None and (
            cascade.agreement is None or await _agrees(plane, small, cascade, asked, request, _text(parts))
        )
    except ModelportError:  # the large one says it, if it is the caller's fault
        parts, sure = None, False
    if parts is None or not sure:
        endpoint.stats.kept_large += 1
        return None
    endpoint.stats.kept_small += 1
    request.answered_by = small.route
    if asked.sampling.logprobs is not None:
        return parts
    return [msgspec.structs.replace(part, logprobs=(), pieces=(), alternatives=()) for part in parts]


async def _written(
    plane: DataPlane, small: Endpoint, cascade: Cascade, asked: Asked, request: InferRequest
) -> list[Part] | None:
    """All parts; None as soon as a test has failed."""
    least, mean = cascade.min_logprob, cascade.mean_logprob
    if least is not None or mean is not None:
        asked = _with(asked, logprobs=asked.sampling.logprobs or 0)
    parts, total, tokens = [], 0.0, 0
    async with aclosing(plane.generate_here(small, asked, request)) as found:
        async for part in found:
            parts.append(part)
            total, tokens = total + sum(part.logprobs), tokens + len(part.logprobs)
            if least is not None and part.logprobs and min(part.logprobs) < least:
                return None
    if mean is not None and (not tokens or total / tokens < mean):
        return None
    if cascade.valid_json and not _is_json(_text(parts)):
        return None
    return parts


async def _agrees(
    plane: DataPlane, small: Endpoint, cascade: Cascade, asked: Asked, request: InferRequest, text: str
) -> bool:
    """Whether it says the same often enough when it is asked again."""
    assert cascade.agreement is not None
    seed = asked.sampling.seed if asked.sampling.seed is not None else _random.getrandbits(62)

    async def sample(number: int) -> str:
        again = _with(asked, seed=seed + number, temperature=asked.sampling.temperature or _TEMPERATURE)
        async with aclosing(plane.generate_here(small, again, request)) as parts:
            return _text([part async for part in parts])

    tasks = [asyncio.ensure_future(sample(number)) for number in range(1, cascade.samples)]
    try:
        others = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    same = sum(_plain(other) == _plain(text) for other in others)
    return same / len(others) >= cascade.agreement


def _with(asked: Asked, **sampling: object) -> Asked:
    return msgspec.structs.replace(asked, sampling=msgspec.structs.replace(asked.sampling, **sampling))


def _text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)


def _plain(text: str) -> str:
    """Without what is no other answer: case, spaces, and the full stop."""
    return " ".join(text.casefold().split()).strip(" .!\"'")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
