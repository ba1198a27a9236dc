"""``POST /v1/responses``: items in, items out, whole or as events. Nothing is kept: each request says all."""

from __future__ import annotations

import re
import secrets
import time
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
from modelport.api.openai.response_input import messages_of
from modelport.api.openai.response_output import Output
from modelport.api.openai.sampling import Choosing, check_engine, sampling_of
from modelport.api.openai.tools import ONLY_FUNCTIONS, Choice, Function, Named, Tool
from modelport.api.openai.tools import format_of as calls_format
from modelport.api.openai.writing import Writer, Written
from modelport.engine.dataplane import DataPlane
from modelport.engine.generation import Asked, Format
from modelport.engine.language.json_grammar import any_object, grammar_of
from modelport.errors import InvalidInput, ModelportError

_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (_LOGPROBS, "reasoning.encrypted_content")
"""The second is of reasoning items, which are none here."""
_MOST_LOGPROBS = 20
_NOT_HERE = {
    "access_programs": "they are OpenAI's own",
    "background": "a response is written while its caller waits",
    "background_options": "a response is written while its caller waits",
    "context_management": "a prompt that is too long is refused, never cut",
    "conversation": "nothing is kept here; send the whole conversation as 'input'",
    "image": "this model writes text",
    "max_tool_calls": "it is about OpenAI's own tools",
    "moderation": "it is a service of OpenAI's",
    "previous_response_id": "nothing is kept here; send the whole conversation as 'input'",
    "prompt": "there are no stored prompts here; say it in 'instructions' and 'input'",
    "reasoning": "say it in 'chat_template_kwargs' where the model's template knows of it",
    "store": "nothing is kept here; leave it out, or say false",
    "truncation": "a prompt that is too long is refused, never cut; leave it out, or say 'disabled'",
}
_NEUTRAL: dict[str, Any] = {
    "background": False, "reasoning": {"effort": "none"}, "store": False, "truncation": "disabled",
}  # fmt: skip


class FunctionTool(msgspec.Struct, forbid_unknown_fields=True):
    """What can be called; OpenAI's own tools (search, code, computers) are not here."""

    type: Literal["function"]
    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The one that must be called."""

    type: Literal["function"]
    name: str


class TextFormat(msgspec.Struct, forbid_unknown_fields=True):
    """What the text has to be."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, forbid_unknown_fields=True):
    """Of the text."""

    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None
    """Any other has to be said in the instructions."""


class ResponseRequest(Choosing, kw_only=True):
    """The body."""

    input: str | list[msgspec.Raw]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: str | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=_MOST_LOGPROBS)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    # refused, unless they say what is so anyway
    access_programs: Any = None
    background: Any = None
    background_options: Any = None
    context_management: Any = None
    conversation: Any = None
    image: Any = None
    max_tool_calls: Any = None
    moderation: Any = None
    previous_response_id: Any = None
    prompt: Any = None
    reasoning: Any = None
    store: Any = None
    truncation: Any = None


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The one path."""
    return [HttpRoute("POST", re.compile("/v1/responses"), Responses(plane).respond, error_answer)]


class Responses:
    """The handler, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def respond(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        """Check all that can be known, then write."""
        wanted = read(request.body, ResponseRequest, ONLY_FUNCTIONS)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        asked = asked_of(wanted, request.caller.key_id or "")
        check_engine(asked.sampling, facts_of(endpoint))
        writer = Writer(self._plane, endpoint, request, [asked])
        reply = _Reply(wanted, asked, writer)
        if wanted.stream:
            return sse.events(reply.events())
        return answer(reply.whole(await writer.whole()))


def asked_of(wanted: ResponseRequest, caller: str) -> Asked:
    """What the model is asked; raises InvalidInput."""
    refuse(wanted, _NOT_HERE, _NEUTRAL)
    for number, name in enumerate(wanted.include or ()):
        if name not in _INCLUDABLE:
            raise InvalidInput.of(f"include[{number}]", f"'include' holds nothing but {_LOGPROBS!r} here")
    if wanted.top_logprobs is not None and _LOGPROBS not in (wanted.include or ()):
        raise InvalidInput.of("top_logprobs", f"'top_logprobs' needs 'include': [{_LOGPROBS!r}]")
    shown, calls = calls_format(*_tools_of(wanted), wanted.parallel_tool_calls, "tools[{}].parameters")
    form = _format_of(wanted.text.format if wanted.text is not None else None)
    if calls is not None and form is not None:
        raise InvalidInput.of("text.format", "'text.format' and callable 'tools' cannot be asked for together")
    logprobs = (wanted.top_logprobs or 0) if _LOGPROBS in (wanted.include or ()) else None
    return Asked(
        sampling_of(wanted, wanted.max_output_tokens, logprobs, calls or form),
        messages=messages_of(wanted.input, wanted.instructions), tools=shown,
        template_values=wanted.chat_template_kwargs or {}, caller=caller,
    )  # fmt: skip


def _tools_of(wanted: ResponseRequest) -> tuple[list[Tool] | None, str | Choice | None]:
    """As chat has them."""
    tools = [
        Tool("function", Function(tool.name, tool.description, tool.parameters, tool.strict))
        for tool in wanted.tools or ()
    ]
    choice = wanted.tool_choice
    if not tools and choice == "auto":
        choice = None
    return tools, Choice("function", Named(choice.name)) if isinstance(choice, FunctionChoice) else choice


def _format_of(form: TextFormat | None) -> Format | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return Format(grammar=any_object())
    if form.schema is None:
        raise InvalidInput.of("text.format.schema", "'text.format.schema' is missing")
    return Format(grammar=grammar_of(form.schema, "text.format.schema"))


class _Reply:
    """The answer's wire form."""

    def __init__(self, wanted: ResponseRequest, asked: Asked, writer: Writer) -> None:
        self._writer = writer
        form = asked.sampling.format
        self._output = Output(
            calls=form is not None and form.tools is not None, logprobs=asked.sampling.logprobs is not None
        )
        self._sent = 0
        text = wanted.text if wanted.text is not None and wanted.text.format is not None else None
        self._head = {
            "id": f"resp_{secrets.token_hex(16)}", "object": "response", "created_at": writer.created,
            "model": wanted.model, "instructions": wanted.instructions, "max_output_tokens": wanted.max_output_tokens,
            "metadata": wanted.metadata or {}, "parallel_tool_calls": wanted.parallel_tool_calls is not False,
            "temperature": asked.sampling.temperature, "top_p": asked.sampling.top_p,
            "top_logprobs": wanted.top_logprobs or 0, "text": text or {"format": {"type": "text"}},
            "tools": wanted.tools or [], "tool_choice": wanted.tool_choice or "auto", "user": wanted.user,
            "prompt_cache_key": wanted.prompt_cache_key, "safety_identifier": wanted.safety_identifier,
            "service_tier": "default", "truncation": "disabled", "background": False, "store": False,
            "previous_response_id": None, "max_tool_calls": None, "reasoning": {"effort": None, "summary": None},
        }  # fmt: skip
        self._head = msgspec.to_builtins(self._head)

    def _response(self, status: str, **rest: Any) -> dict[str, Any]:
        empty = {"error": None, "incomplete_details": None, "completed_at": None, "usage": None}
        model = self._writer.route.name
        return {**self._head, "model": model, "status": status, **empty, "output": self._output.items, **rest}

    def _ended(self, written: Written) -> dict[str, Any]:
        rest = {"completed_at": int(time.time()), "usage": usage_of(written)}
        if self._output.finish == "length":
            return self._response("incomplete", **rest, incomplete_details={"reason": "max_output_tokens"})
        return self._response("completed", **rest)

    def whole(self, written: list[Written]) -> dict[str, Any]:
        for part in written[0].parts:
            self._output.add(part)
        return self._ended(written[0])

    async def events(self) -> AsyncGenerator[bytes]:
        """Server-sent events. What goes wrong before the first is an answer of its own, later the response has
        failed."""
        begun = False
        try:
            async with aclosing(self._writer.parts()) as parts:
                async for _, part in parts:
                    if not begun:
                        begun = True
                        now = self._response("in_progress", output=[])
                        yield self._event("response.created", response=now)
                        yield self._event("response.in_progress", response=now)
                    changes = b"".join(self._event(**change) for change in self._output.add(part))
                    if changes:
                        yield changes
        except ModelportError as error:
            if not begun:
                raise
            code = "rate_limit_exceeded" if error.status == 429 else "server_error"
            failed = self._response("failed", error={"code": code, "message": error.message})
            yield self._event("response.failed", response=failed)
            return
        ended = self._ended(self._writer.written[0])
        yield self._event(f"response.{ended['status']}", response=ended)

    def _event(self, type: str, **rest: Any) -> bytes:
        self._sent += 1
        return sse.event(type, to_json({"type": type, "sequence_number": self._sent - 1, **rest}))


def usage_of(written: Written) -> dict[str, Any]:
    """The count of tokens, in this API's words."""
    return {
        "input_tokens": written.prompt_tokens,
        "input_tokens_details": {"cached_tokens": written.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": written.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": written.prompt_tokens + written.tokens,
    }
