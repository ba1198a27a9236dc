"""Anthropic's messages: a conversation in, the assistant's next message out, whole or as events.

POST /v1/messages
POST /v1/messages/count_tokens     {"input_tokens"}: what the same would be in tokens; nothing is written
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from modelport.api.answers import answer, to_json
from modelport.api.anthropic import errors
from modelport.api.anthropic.conversation import CacheControl, Message, Text, messages_of
from modelport.api.anthropic.output import Output
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai import sse
from modelport.api.openai.reading import facts_of, language_endpoint, read, refuse
from modelport.api.openai.sampling import check_engine, stops_of
from modelport.api.openai.tokens import told
from modelport.api.openai.tools import ONLY_FUNCTIONS, Choice, Function, Named
from modelport.api.openai.tools import Tool as FunctionTool
from modelport.api.openai.tools import format_of as calls_format
from modelport.api.openai.writing import Writer, Written
from modelport.engine.dataplane import DataPlane
from modelport.engine.generation import MOST_TOKENS, Asked, Format, Sampling
from modelport.engine.language.json_grammar import grammar_of
from modelport.errors import InvalidInput, ModelportError

_NOT_HERE = {
    "container": "containers are Anthropic's own",
    "context_management": "a prompt that is too long is refused, never cut",
    "mcp_servers": "nothing is fetched; give the model tools instead",
    "thinking": "no model here thinks apart from its answer; leave it out, or say {'type': 'disabled'}",
}
_NEUTRAL = {"thinking": {"type": "disabled"}}
_CHOICES = {"any": "required", "auto": "auto", "none": "none"}


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """What can be called; Anthropic's own tools (search, code, computers) are not here."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None
    eager_input_streaming: bool | None = None


class ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    """Whether one must be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class JsonFormat(msgspec.Struct, forbid_unknown_fields=True):
    """What the text has to be."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    """Of the text."""

    format: JsonFormat | None = None


class Metadata(msgspec.Struct, forbid_unknown_fields=True):
    """Taken and left alone."""

    user_id: str | None = None


class CountRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of who wants to know how long a prompt is."""

    model: str
    messages: list[Message]
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None
    # refused, unless they say what is so anyway
    container: Any = None
    context_management: Any = None
    mcp_servers: Any = None
    thinking: Any = None


class MessageRequest(CountRequest, kw_only=True):
    """The body of who wants an answer."""

    max_tokens: Annotated[int, Meta(ge=1)]
    stop_sequences: list[str] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, lt=MOST_TOKENS)] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The two paths."""
    doors = Messages(plane)
    table = [("/v1/messages", doors.create), ("/v1/messages/count_tokens", doors.count)]
    return [HttpRoute("POST", re.compile(path), handler, errors.error_answer) for path, handler in table]


class Messages:
    """The handlers, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def create(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        """Check all that can be known, then write."""
        wanted = read(request.body, MessageRequest, ONLY_FUNCTIONS)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        asked = asked_of(wanted, request.caller.key_id or "")
        check_engine(asked.sampling, facts_of(endpoint))
        writer = Writer(self._plane, endpoint, request, [asked])
        form = asked.sampling.format
        reply = _Reply(writer, calls=form is not None and form.tools is not None)
        if wanted.stream:
            return sse.events(reply.events())
        return answer(reply.whole(await writer.whole()))

    async def count(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        """A replica is asked, in its turn: only it knows its tokens."""
        wanted = read(request.body, CountRequest, ONLY_FUNCTIONS)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        refuse(wanted, _NOT_HERE, _NEUTRAL)
        shown, _ = _tools_of(wanted)
        messages = messages_of(wanted.messages, wanted.system)
        asked = Asked(messages=messages, tools=shown, only="tokens", caller=request.caller.key_id or "")
        return answer({"input_tokens": len((await told(self._plane, endpoint, request, asked)).tokens)})


def asked_of(wanted: MessageRequest, caller: str) -> Asked:
    """What the model is asked; raises InvalidInput."""
    refuse(wanted, _NOT_HERE, _NEUTRAL)
    shown, calls = _tools_of(wanted)
    form = wanted.output_config.format if wanted.output_config is not None else None
    if calls is not None and form is not None:
        raise InvalidInput.of(
            "output_config.format", "'output_config.format' and callable 'tools' cannot be asked for together"
        )
    sampling = Sampling(
        max_tokens=wanted.max_tokens,
        temperature=1.0 if wanted.temperature is None else wanted.temperature,
        top_p=1.0 if wanted.top_p is None else wanted.top_p,
        top_k=wanted.top_k or 0,
        stop=stops_of(wanted.stop_sequences, "stop_sequences"),
        format=calls if form is None else Format(grammar=grammar_of(form.schema, "output_config.format.schema")),
    )
    return Asked(sampling, messages=messages_of(wanted.messages, wanted.system), tools=shown, caller=caller)


def _tools_of(wanted: CountRequest) -> tuple[list[dict[str, Any]] | None, Format | None]:
    """What the model is shown, and what its words have to be."""
    tools = [
        FunctionTool("function", Function(tool.name, tool.description, tool.input_schema, tool.strict))
        for tool in wanted.tools or ()
    ]
    given = wanted.tool_choice
    if given is None or (given.type == "auto" and not tools):
        choice: str | Choice | None = None
    elif given.type == "tool":
        if given.name is None:
            raise InvalidInput.of("tool_choice.name", "'tool_choice.name' is missing")
        choice = Choice("function", Named(given.name))
    else:
        choice = _CHOICES[given.type]
    parallel = not (given is not None and given.disable_parallel_tool_use)
    return calls_format(tools, choice, parallel, "tools[{}].input_schema")


class _Reply:
    """The answer's wire form."""

    def __init__(self, writer: Writer, *, calls: bool) -> None:
        self._writer = writer
        self._output = Output(calls=calls)
        self._head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant"}

    def _message(self, written: Written, content: list[dict[str, Any]]) -> dict[str, Any]:
        stopped = {"stop_reason": self._output.stop_reason, "stop_sequence": self._output.stop_sequence}
        model = self._writer.route.name
        return {**self._head, "model": model, "content": content, **stopped, "usage": usage_of(written)}

    def whole(self, written: list[Written]) -> dict[str, Any]:
        for part in written[0].parts:
            self._output.add(part)
        return self._message(written[0], self._output.blocks)

    async def events(self) -> AsyncGenerator[bytes]:
        """Server-sent events. What goes wrong before the first is an answer of its own, later an event."""
        begun = False
        written = self._writer.written[0]
        try:
            async with aclosing(self._writer.parts()) as parts:
                async for _, part in parts:
                    if not begun:
                        begun = True
                        start = {"type": "message_start", "message": self._message(written, [])}
                        yield _event(start) + _event({"type": "ping"})
                    changes = b"".join(map(_event, self._output.add(part)))
                    if changes:
                        yield changes
        except ModelportError as error:
            if not begun:
                raise
            yield _event(errors.body(error))
            return
        stopped = {"stop_reason": self._output.stop_reason, "stop_sequence": self._output.stop_sequence}
        yield _event({"type": "message_delta", "delta": stopped, "usage": usage_of(written)})
        yield _event({"type": "message_stop"})


def _event(value: dict[str, Any]) -> bytes:
    return sse.event(value["type"], to_json(value))


def usage_of(written: Written) -> dict[str, Any]:
    """The count of tokens, in this API's words: those found in the cache are apart."""
    return {
        "input_tokens": written.prompt_tokens - (written.cached_tokens or 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": written.cached_tokens,
        "output_tokens": written.tokens,
    }
