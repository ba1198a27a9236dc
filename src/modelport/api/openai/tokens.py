"""What a language model makes of a text, and of tokens: in the form of vLLM, which OpenAI has none for.

    POST /tokenize     {"model", "prompt" | "messages", "add_special_tokens"?, "return_token_strs"?}
    POST /detokenize   {"model", "tokens"}

Only a replica knows its tokens: it is asked in its turn, and writes nothing. Knows the data plane; knows no tokenizer.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from typing import Any

import msgspec

from modelport.api.answers import answer
from modelport.api.messages import HttpRequest, HttpResponse, HttpRoute
from modelport.api.openai.chat import Message, messages_of
from modelport.api.openai.completions import Token
from modelport.api.openai.errors import error_answer
from modelport.api.openai.reading import facts_of, language_endpoint, read
from modelport.api.openai.tools import Tool, format_of
from modelport.engine.dataplane import DataPlane, Endpoint
from modelport.engine.generation import Asked, Part
from modelport.errors import ContextExceeded, InvalidInput, RunFailed


class TokenizeBody(msgspec.Struct, forbid_unknown_fields=True):
    """A text, or a conversation."""

    model: str
    prompt: str | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool | None = None
    """Those that the model expects around a text: by default around a prompt; a chat template writes its own."""
    add_generation_prompt: bool = True
    """Whether a conversation ends with where the model goes on."""
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[Tool] | None = None
    return_token_strs: bool = False


class DetokenizeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Tokens."""

    model: str
    tokens: list[Token]


def routes(plane: DataPlane) -> list[HttpRoute]:
    """The two paths."""
    doors = Tokens(plane)
    return [
        HttpRoute("POST", re.compile("(?:/v1)?/tokenize"), doors.of_text, error_answer),
        HttpRoute("POST", re.compile("(?:/v1)?/detokenize"), doors.to_text, error_answer),
    ]


class Tokens:
    """The handlers, over one data plane."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def of_text(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        wanted = read(request.body, TokenizeBody)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        part = await told(self._plane, endpoint, request, _asked_of(wanted, request.caller.key_id or ""))
        found = {"count": len(part.tokens), "max_model_len": facts_of(endpoint).context, "tokens": part.tokens}
        return answer(found | {"token_strs": part.pieces if wanted.return_token_strs else None})

    async def to_text(self, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
        wanted = read(request.body, DetokenizeBody)
        endpoint = language_endpoint(self._plane, request, wanted.model)
        most = facts_of(endpoint).context
        if len(wanted.tokens) > most:
            raise ContextExceeded(f"this model's maximum context length is {most} tokens, not {len(wanted.tokens)}")
        asked = Asked(tokens=tuple(wanted.tokens), only="text", caller=request.caller.key_id or "")
        part = await told(self._plane, endpoint, request, asked)
        return answer({"prompt": part.text})


async def told(plane: DataPlane, endpoint: Endpoint, request: HttpRequest, asked: Asked) -> Part:
    """The one part that answers a request that wants ``only`` tokens or a text."""
    wanted = request.infer_request({}, plane.default_timeout_s)
    async with aclosing(plane.generate(endpoint, asked, wanted)) as parts:
        async for part in parts:
            return part
    raise RunFailed(f"the model {endpoint.route.name!r} did not answer")


def _asked_of(wanted: TokenizeBody, caller: str) -> Asked:
    only = "pieces" if wanted.return_token_strs else "tokens"
    if (wanted.prompt is None) == (wanted.messages is None):
        raise InvalidInput.of("prompt", "one of 'prompt' and 'messages' is given, and not both")
    if wanted.messages is None:
        special = wanted.add_special_tokens is not False
        return Asked(prompt=wanted.prompt, special=special, only=only, caller=caller)
    if wanted.add_special_tokens:
        raise InvalidInput.of("add_special_tokens", "'add_special_tokens' is for a 'prompt', not for a chat template")
    values = {**(wanted.chat_template_kwargs or {}), "add_generation_prompt": wanted.add_generation_prompt}
    shown, _ = format_of(wanted.tools, None, None)
    return Asked(messages=messages_of(wanted.messages), tools=shown, template_values=values, only=only, caller=caller)
