"""``POST /v1/completions``: a text in, how it goes on out, whole or token by token."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any

from msgspec import Meta

from modelport.api.answers import answer, to_json
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai import sse
from modelport.api.openai.errors import error_answer
from modelport.api.openai.reading import facts_of, language_endpoint, read
from modelport.api.openai.sampling import ResponseFormat, Writing, check_engine, choices_of, format_of, sampling_of
from modelport.api.openai.writing import Writer, Written, usage_of
from modelport.engine.dataplane import DataPlane
from modelport.engine.generation import Asked, Part
from modelport.errors import InvalidInput

_MOST_PROMPTS = 256
_MOST_ANSWERS = 1024
_MOST_LOGPROBS = 20
_DEFAULT_TOKENS = 16
_NOT_HERE = {"suffix": "the model writes forwards only"}

Token = Annotated[int, Meta(ge=0)]


class CompletionRequest(Writing, kw_only=True):
    """The body."""

    prompt: str | list[str | Token | list[Token]]
    logprobs: Annotated[int, Meta(ge=0, le=_MOST_LOGPROBS)] | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None
    response_format: ResponseFormat | None = None


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The one path."""
    return [HttpRoute("POST", re.compile("/v1/completions"), Completions(plane).complete, error_answer)]


class Completions:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def complete(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        """Check all that can be known, then write."""
        wanted = read(request.body, CompletionRequest, _NOT_HERE)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        n = wanted.n or 1
        if wanted.best_of not in (None, n):
            raise InvalidInput.of("best_of", "'best_of' other than 'n' is not supported here")
        if wanted.suffix:
            raise InvalidInput.of("suffix", "'suffix' is not supported here: the model writes forwards only")
        form = format_of(wanted, wanted.response_format)
        most = wanted.max_tokens if wanted.max_tokens is not None else _DEFAULT_TOKENS
        sampling = sampling_of(wanted, most, wanted.logprobs, form)
        check_engine(sampling, facts_of(endpoint), "logprobs")
        caller = request.caller.key_id or ""
        asked = [
            choice
            for prompt in _prompts_of(wanted.prompt)
            for choice in choices_of(
                Asked(sampling, prompt=prompt, caller=caller) if isinstance(prompt, str)
                else Asked(sampling, tokens=tuple(prompt), caller=caller), n
            )
        ]  # fmt: skip
        if len(asked) > _MOST_ANSWERS:
            raise InvalidInput.of("n", f"'n' times the prompts is {len(asked)}; at most {_MOST_ANSWERS} are written")
        writer = Writer(self._plane, endpoint, request, asked)
        reply = _Reply(wanted, writer, n, [one.prompt or "" for one in asked])
        if wanted.stream:
            return sse.events(reply.events())
        return answer(reply.whole(await writer.whole()))


def _prompts_of(given: str | list[Any]) -> list[str | list[int]]:
    if isinstance(given, str):
        return [given]
    if given and all(isinstance(item, int) for item in given):
        return [given]
    if not 1 <= len(given) <= _MOST_PROMPTS or any(isinstance(item, int) for item in given):
        raise InvalidInput.of("prompt", f"'prompt' is a text, a list of tokens, or a list of 1 to {_MOST_PROMPTS} such")
    return given


class _Reply:
    """The answer's wire form."""

    def __init__(self, wanted: CompletionRequest, writer: Writer, n: int, prompts: Sequence[str]) -> None:
        self._wanted, self._writer, self._n = wanted, writer, n
        self._prompts = prompts if wanted.echo else [""] * len(prompts)
        self._id = f"cmpl-{secrets.token_hex(12)}"

    @property
    def _head(self) -> dict[str, Any]:
        return {
            "id": self._id, "object": "text_completion", "created": self._writer.created,
            "model": self._writer.route.name,
        }  # fmt: skip

    def _usage(self, written: list[Written]) -> dict[str, Any]:
        return usage_of(written, written[:: self._n])

    def whole(self, written: list[Written]) -> dict[str, Any]:
        choices = [
            {"index": index, "text": self._prompts[index] + one.text, "finish_reason": one.finish,
             "logprobs": self._logprobs(one.parts, len(self._prompts[index]))}
            for index, one in enumerate(written)
        ]  # fmt: skip
        return {**self._head, "choices": choices, "usage": self._usage(written)}

    def _logprobs(self, parts: Sequence[Part], offset: int = 0) -> dict[str, Any] | None:
        if self._wanted.logprobs is None:
            return None
        pieces = [piece for part in parts for piece in part.pieces]
        offsets = []
        for piece in pieces:
            offsets.append(offset)
            offset += len(piece)
        others = [
            {other.text: other.logprob for other in each} for part in parts for each in part.alternatives
        ]  # fmt: skip
        return {
            "tokens": pieces, "token_logprobs": [value for part in parts for value in part.logprobs],
            "top_logprobs": others or None, "text_offset": offsets,
        }  # fmt: skip

    async def events(self) -> AsyncGenerator[bytes]:
        """Server-sent events."""
        head = b""
        usage = b',"usage":null' if self._wanted.wants_usage else b""
        offsets: dict[int, int] = {}
        async with aclosing(self._writer.parts()) as parts:
            async for index, part in parts:
                text = part.text
                head = head or to_json(self._head)[:-1]
                if index not in offsets:
                    offsets[index] = len(self._prompts[index])
                    text = self._prompts[index] + text
                offset = offsets[index]
                offsets[index] += sum(map(len, part.pieces))
                if text or part.finish is not None:
                    entry = to_json({
                        "index": index, "text": text, "finish_reason": part.finish,
                        "logprobs": self._logprobs([part], offset),
                    })  # fmt: skip
                    yield sse.data(head + b',"choices":[' + entry + b"]" + usage + b"}")
        if self._wanted.wants_usage:
            yield sse.data(head + b',"choices":[],"usage":' + to_json(self._usage(self._writer.written)) + b"}")
        yield sse.DONE
