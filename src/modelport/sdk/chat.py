"""Conversations with a language model: OpenAI's ``/v1/chat/completions``, streamed piece by piece.

The same for any server that speaks this protocol. Programs that want more than text (tools, schemas,
log-probabilities) have OpenAI's own client for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, get_args, overload

import orjson

from modelport.errors import Unavailable, from_status
from modelport.schemas.text_tasks import TextTask
from modelport.sdk.flows import Awaiting, Blocking, D_co, Flow, Operations, Request, operation, send_json
from modelport.sdk.inference import model_path

PATH = "/v1/chat/completions"
_LONGEST_S = 600.0
"""An answer may take so long; nobody waits for longer than that between two pieces of one either."""


class ChatMessage(TypedDict):
    """One of a conversation."""

    role: str
    """``system``, ``user`` or ``assistant``."""
    content: str


@dataclass(frozen=True, slots=True)
class ChatPart:
    """A piece of an answer."""

    text: str = ""
    finish: str | None = None
    """Why it ended: ``stop``, or ``length`` for one that was cut at ``max_tokens``."""
    tokens_in: int | None = None
    """Of the whole conversation, in the last piece."""
    tokens_out: int | None = None
    cached: int | None = None
    """Tokens of the conversation that the server had read before; None where it does not tell."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """One that can be talked to."""

    name: str
    context: int | None
    """Tokens of a conversation and its answer, where the server tells."""


class Chat(Operations[D_co]):
    """``client.chat``."""

    @operation
    def models(self) -> Flow[list[LanguageModel]]:
        """The language models that are served; of a server that does not tell which are, all."""
        found = yield from send_json("GET", "/v1/models")
        try:
            cards = [LanguageModel(str(card["id"]), card.get("max_model_len")) for card in found["data"]]
        except (KeyError, TypeError, AttributeError):
            raise Unavailable("GET /v1/models: this is no list of models; is this a Modelport server?") from None
        told = [card for card in cards if card.context is not None]
        is_ours = "models" in found  # where a card without a context is a model that writes no texts
        return told if told or is_ours else cards

    @operation
    def task(self, model: str) -> Flow[TextTask | None]:
        """What an endpoint does with texts: where below ``/v1`` it is asked; None for another kind of model."""
        card = yield from send_json("GET", "/v1" + model_path(model).removeprefix("/v2"))
        task = card.get("task") if isinstance(card, dict) else None
        return task if task in get_args(TextTask) else None

    @overload
    def stream(
        self: Chat[Blocking],
        model: str,
        messages: Sequence[ChatMessage],
        *,
        temperature: float | None = ...,
        max_tokens: int | None = ...,
        **more: Any,
    ) -> Iterator[ChatPart]: ...
    @overload
    def stream(
        self: Chat[Awaiting],
        model: str,
        messages: Sequence[ChatMessage],
        *,
        temperature: float | None = ...,
        max_tokens: int | None = ...,
        **more: Any,
    ) -> AsyncIterator[ChatPart]: ...
    def stream(
        self: Any,
        model: str,
        messages: Sequence[ChatMessage],
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **more: Any,
    ) -> Any:
        """The answer, piece by piece; closing the iterator stops the model.

        ``more`` are further fields of OpenAI's request. Raises NotFound, InvalidInput, Overloaded, and Unavailable for
        an answer that breaks off.
        """
        wanted: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, **more}
        body = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in wanted.items() if value is not None},
        }
        headers = {"content-type": "application/json", "x-request-timeout": f"{_LONGEST_S:g}"}
        request = Request("POST", PATH, headers=headers, body=orjson.dumps(body), timeout=_LONGEST_S, idempotent=False)
        lines = self._driver.lines(request)
        return _awaited_parts(lines) if hasattr(lines, "__aiter__") else _parts(lines)


def _parts(lines: Iterator[str]) -> Iterator[ChatPart]:
    reading = _Reading()
    try:
        for line in lines:
            yield from reading.feed(line)
    finally:
        lines.close()  # type: ignore[attr-defined]  # the connection, and with it the model's work
    reading.end()


async def _awaited_parts(lines: AsyncIterator[str]) -> AsyncIterator[ChatPart]:
    reading = _Reading()
    try:
        async for line in lines:
            for part in reading.feed(line):
                yield part
    finally:
        await lines.aclose()  # type: ignore[attr-defined]
    reading.end()


class _Reading:
    """Lines of server-sent events to pieces of the answer."""

    def __init__(self) -> None:
        self._is_whole = False

    def feed(self, line: str) -> Iterator[ChatPart]:
        if not line.startswith("data:"):
            return
        data = line[5:].strip()
        if data == "[DONE]":
            self._is_whole = True
            return
        try:
            event = orjson.loads(data)
            error = event.get("error")
        except (orjson.JSONDecodeError, AttributeError):
            raise Unavailable(f"this is no piece of an answer: {data[:80]!r}; does a proxy stand between?") from None
        if error:
            message = error.get("message") if isinstance(error, dict) else error
            raise from_status(503, f"the answer broke off: {message}")
        yield from self._parts_of(event)

    def _parts_of(self, event: dict[str, Any]) -> Iterator[ChatPart]:
        for choice in event.get("choices") or ():
            text, finish = (choice.get("delta") or {}).get("content") or "", choice.get("finish_reason")
            self._is_whole = self._is_whole or finish is not None
            if text or finish:
                yield ChatPart(text, finish)
        if usage := event.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            yield ChatPart("", None, usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)

    def end(self) -> None:
        """Nothing comes any more; raises Unavailable where something was missing."""
        if not self._is_whole:
            raise Unavailable("the answer broke off before its end; ask again, and see `modelport status`")
