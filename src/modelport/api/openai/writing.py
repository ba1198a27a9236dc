"""Several answers to one request, written at the same time: their parts as they come, or each as a whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from modelport.api.messages import HttpRequest
from modelport.api.openai.reading import DEADLINE_S, facts_of
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.generation import Asked, Part
from modelport.engine.language.admission import most_at_once
from modelport.engine.routing import Route
from modelport.errors import InvalidInput, ModelportError


@dataclass(slots=True)
class Written:
    """One answer, so far."""

    text: str = ""
    parts: list[Part] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    """None where the engine does not tell."""
    finish: str | None = None

    def add(self, part: Part) -> None:
        """One part more."""
        self.tokens += len(part.tokens)
        self.prompt_tokens = part.prompt_tokens or self.prompt_tokens
        if part.cached_tokens is not None:
            self.cached_tokens = max(self.cached_tokens or 0, part.cached_tokens)
        self.finish = part.finish or self.finish


def usage_of(written: Sequence[Written], of_prompts: Sequence[Written] | None = None) -> dict[str, Any]:
    """OpenAI's count of tokens; each prompt counts once, however many answers it has."""
    prompts = of_prompts if of_prompts is not None else written[:1]
    prompt, answer = sum(one.prompt_tokens for one in prompts), sum(one.tokens for one in written)
    found = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    cached = [one.cached_tokens for one in prompts if one.cached_tokens is not None]
    return found | {"prompt_tokens_details": {"cached_tokens": sum(cached)}} if cached else found


def logprobs_of(part: Part) -> list[dict[str, Any]]:
    """The tokens of a part, with their log-probabilities and those of the likeliest beside them, in OpenAI's form."""
    alternatives = part.alternatives or ((),) * len(part.pieces)
    return [
        {**_logprob(piece, logprob), "top_logprobs": [_logprob(other.text, other.logprob) for other in others]}
        for piece, logprob, others in zip(part.pieces, part.logprobs, alternatives, strict=False)
    ]


def _logprob(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


class Writer:
    """The answers of one request."""

    def __init__(self, plane: DataPlane, endpoint: Endpoint, request: HttpRequest, asked: Sequence[Asked]) -> None:
        """Raises InvalidInput for more texts than the replicas ever take from one caller."""
        self._plane, self._endpoint = plane, endpoint
        self._asked = asked
        most = most_at_once(facts_of(endpoint).slots) * max(1, len(endpoint.route.replicas))
        if len(asked) > most:
            raise InvalidInput.of("n", f"{len(asked)} texts are asked for, and this model takes {most} at once")
        self._request = request.infer_request({}, DEADLINE_S)
        self.written = [Written() for _ in asked]
        self.created = int(time.time())

    @property
    def route(self) -> Route:
        """Of the endpoint that answers: it is certain from the first part on."""
        return self._request.answered_by or self._endpoint.route

    async def whole(self) -> list[Written]:
        """All to their ends."""
        async with aclosing(self.parts()) as parts:
            async for index, part in parts:
                self.written[index].parts.append(part)
        for one in self.written:
            one.text = "".join(part.text for part in one.parts)
        return self.written

    async def parts(self) -> AsyncGenerator[tuple[int, Part]]:
        """Which answer, and what it gained. Closed early, it cancels them all."""
        if len(self._asked) == 1:
            async with aclosing(self._plane.generate(self._endpoint, self._asked[0], self._request)) as parts:
                async for part in parts:
                    self.written[0].add(part)
                    yield 0, part
            return
        queue: asyncio.Queue[tuple[int, Part | None] | ModelportError] = asyncio.Queue()
        tasks = [asyncio.ensure_future(self._follow(index, queue)) for index in range(len(self._asked))]
        try:
            running = len(tasks)
            while running:
                found = await queue.get()
                if isinstance(found, ModelportError):
                    raise found
                index, gained = found
                if gained is None:
                    running -= 1
                    continue
                self.written[index].add(gained)
                yield index, gained
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, index: int, queue: asyncio.Queue[tuple[int, Part | None] | ModelportError]) -> None:
        try:
            async with aclosing(self._plane.generate(self._endpoint, self._asked[index], self._request)) as parts:
                async for part in parts:
                    queue.put_nowait((index, part))
            queue.put_nowait((index, None))
        except ModelportError as error:
            queue.put_nowait(error)
