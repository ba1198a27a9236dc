"""``POST /v1/chat/completions``: a conversation in, the assistant's next message out, whole or token by token."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from modelport.api.answers import answer, to_json
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai import sse
from modelport.api.openai.errors import error_answer
from modelport.api.openai.reading import facts_of, language_endpoint, read, refuse
from modelport.api.openai.sampling import ResponseFormat, Writing, check_engine, choices_of, format_of, sampling_of
from modelport.api.openai.tools import ONLY_FUNCTIONS, Calls, Choice, Tool
from modelport.api.openai.tools import format_of as calls_format
from modelport.api.openai.writing import Writer, Written, logprobs_of, usage_of
from modelport.engine.dataplane import DataPlane
from modelport.engine.generation import Asked
from modelport.errors import InvalidInput

_MOST_MESSAGES = 4096
_MOST_LOGPROBS = 20
_NOT_HERE = {
    "audio": "a language model of text answers text",
    "modalities": "a language model of text answers text",
    "moderation": "it is a service of OpenAI's",
    "web_search_options": "searching is OpenAI's own; give the model a tool instead",
    "functions": "it is deprecated; use 'tools'",
    "function_call": "it is deprecated; use 'tool_choice'",
    "reasoning_effort": "say it in 'chat_template_kwargs' where the model's template knows of it",
    "verbosity": "say it in the system message",
}
_NEUTRAL = {"modalities": ["text"], "reasoning_effort": "none", "verbosity": "medium"}


class TextPart(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Some text of a message."""

    text: str


class ImagePart(msgspec.Struct, tag_field="type", tag="image_url"):
    """Refused; nothing is ever fetched."""


class AudioPart(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Refused."""


class FilePart(msgspec.Struct, tag_field="type", tag="file"):
    """Refused."""


class RefusalPart(msgspec.Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What an assistant did not want to say."""

    refusal: str


ContentPart = TextPart | ImagePart | AudioPart | FilePart | RefusalPart


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True):
    """Of a call."""

    name: str
    arguments: str | dict[str, Any]


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """One that an assistant made."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"
    index: int | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    function_call: None = None
    audio: None = None
    annotations: list[Any] | None = None


class ChatRequest(Writing, kw_only=True):
    """The body."""

    messages: list[Message]
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=_MOST_LOGPROBS)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    prediction: dict[str, Any] | None = None
    """What might be written; it would save OpenAI time, and changes no answer."""
    # refused, unless they say what is so anyway
    audio: Any = None
    function_call: Any = None
    functions: Any = None
    modalities: Any = None
    moderation: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    web_search_options: Any = None


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The one path."""
    return [HttpRoute("POST", re.compile("/v1/chat/completions"), Chat(plane).complete, error_answer)]


class Chat:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def complete(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        """Check all that can be known, then write."""
        wanted = read(request.body, ChatRequest, ONLY_FUNCTIONS)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        asked = asked_of(wanted, request.caller.key_id or "")
        check_engine(asked.sampling, facts_of(endpoint))
        writer = Writer(self._plane, endpoint, request, choices_of(asked, wanted.n or 1))
        reply = _Reply(wanted, writer, calls=asked.sampling.format is not None and wanted.tools is not None)
        if wanted.stream:
            return sse.events(reply.events())
        return answer(reply.whole(await writer.whole()))


def asked_of(wanted: ChatRequest, caller: str) -> Asked:
    """What the model is asked; raises InvalidInput."""
    refuse(wanted, _NOT_HERE, _NEUTRAL)
    shown, calls = calls_format(wanted.tools, wanted.tool_choice, wanted.parallel_tool_calls)
    form = format_of(wanted, wanted.response_format)
    if calls is not None and form is not None:
        raise InvalidInput.of("response_format", "'response_format' and callable 'tools' cannot be asked for together")
    if wanted.top_logprobs is not None and not wanted.logprobs:
        raise InvalidInput.of("top_logprobs", "'top_logprobs' needs 'logprobs': true")
    most = wanted.max_completion_tokens or wanted.max_tokens
    sampling = sampling_of(wanted, most, (wanted.top_logprobs or 0) if wanted.logprobs else None, calls or form)
    return Asked(
        sampling, messages=messages_of(wanted.messages), tools=shown,
        template_values=wanted.chat_template_kwargs or {}, caller=caller,
    )  # fmt: skip


def messages_of(given: list[Message]) -> list[dict[str, Any]]:
    """As chat templates know them; raises InvalidInput naming what is not text."""
    if not 1 <= len(given) <= _MOST_MESSAGES:
        raise InvalidInput.of("messages", f"'messages' holds 1 to {_MOST_MESSAGES} messages, not {len(given)}")
    found = []
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        text = message.content
        if isinstance(text, list):
            for place, part in enumerate(text):
                if not isinstance(part, TextPart | RefusalPart):
                    raise InvalidInput.of(f"{where}.content[{place}]", f"'{where}.content[{place}]' is not text; "
                                          "this model reads text only, and nothing is fetched")  # fmt: skip
            text = "".join(part.text if isinstance(part, TextPart) else part.refusal for part in text)  # type: ignore[union-attr]
        if text is None and message.role != "assistant":
            raise InvalidInput.of(f"{where}.content", f"'{where}.content' is missing")
        entry: dict[str, Any] = {
            "role": "system" if message.role == "developer" else message.role,
            "content": text if text is not None else message.refusal or "",
        }
        if message.name is not None:
            entry["name"] = message.name
        if message.tool_calls:
            entry["tool_calls"] = msgspec.to_builtins(message.tool_calls)
        if message.role == "tool":
            if message.tool_call_id is None:
                raise InvalidInput.of(f"{where}.tool_call_id", f"'{where}.tool_call_id' is missing")
            entry["tool_call_id"] = message.tool_call_id
        found.append(entry)
    return found


class _Reply:
    """The answer's wire form."""

    def __init__(self, wanted: ChatRequest, writer: Writer, *, calls: bool) -> None:
        self._wanted, self._writer = wanted, writer
        self._calls = calls
        self._id = f"chatcmpl-{secrets.token_hex(12)}"

    @property
    def _head(self) -> dict[str, Any]:
        route = self._writer.route
        return {
            "id": self._id, "object": "chat.completion", "created": self._writer.created,
            "model": route.name, "system_fingerprint": f"{route.model}:{route.version}",
        }  # fmt: skip

    def whole(self, written: list[Written]) -> dict[str, Any]:
        choices = []
        for index, one in enumerate(written):
            message: dict[str, Any] = {"role": "assistant", "content": one.text, "refusal": None}
            finish = one.finish
            if self._calls:
                calls = Calls()
                said, _ = calls.add(one.text)
                message["content"] = (said + calls.end()) or None
                if calls.found:
                    message["tool_calls"] = calls.found
                    finish = _with_calls(finish)
            logprobs = {"content": [token for part in one.parts for token in logprobs_of(part)], "refusal": None}
            choices.append({
                "index": index, "message": message, "finish_reason": finish,
                "logprobs": logprobs if self._wanted.logprobs else None,
            })  # fmt: skip
        return {**self._head, "choices": choices, "usage": usage_of(written)}

    async def events(self) -> AsyncGenerator[bytes]:
        """Server-sent events; the deltas of plain text are put together by hand, since they are many."""
        head = b""
        calls = [Calls() for _ in self._writer.written]
        begun: set[int] = set()
        usage = b',"usage":null' if self._wanted.wants_usage else b""
        async with aclosing(self._writer.parts()) as parts:
            async for index, part in parts:
                chunk = b""
                head = head or to_json({**self._head, "object": "chat.completion.chunk"})[:-1]
                if index not in begun:
                    begun.add(index)
                    chunk += sse.choice(head, index, b'{"role":"assistant","content":"","refusal":null}', usage)
                text, finish = part.text, part.finish
                if self._calls:
                    text, new = calls[index].add(text)
                    if finish is not None:
                        text += calls[index].end()
                    if new:
                        chunk += sse.choice(head, index, to_json({"tool_calls": new}), usage)
                    if finish is not None and calls[index].found:
                        finish = _with_calls(finish)
                if text or (self._wanted.logprobs and part.tokens):
                    extra = b""
                    if self._wanted.logprobs:
                        extra = b',"logprobs":' + to_json({"content": logprobs_of(part), "refusal": None})
                    chunk += sse.choice(head, index, b'{"content":' + to_json(text) + b"}", usage, extra)
                if finish is not None:
                    chunk += sse.choice(head, index, b"{}", usage, finish=finish)
                if chunk:
                    yield chunk
        if self._wanted.wants_usage:
            yield sse.data(head + b',"choices":[],"usage":' + to_json(usage_of(self._writer.written)) + b"}")
        yield sse.DONE


def _with_calls(finish: str | None) -> str | None:
    """Why an answer with calls ended; one that was cut may lack some."""
    return "tool_calls" if finish == "stop" else finish
