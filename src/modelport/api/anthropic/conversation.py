"""What a message answers: system texts and messages in blocks, as messages that a chat template knows.

Knows no data plane.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from modelport.errors import InvalidInput

_MOST_MESSAGES = 4096
_TEXTS_ONLY = "this model reads text only, and nothing is fetched"


class CacheControl(msgspec.Struct, forbid_unknown_fields=True):
    """Taken and left alone: equal beginnings are found in the cache without it."""

    type: Literal["ephemeral"]
    ttl: str | None = None


class Text(msgspec.Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """Some text."""

    text: str
    cache_control: CacheControl | None = None
    citations: list[Any] | None = None


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use", forbid_unknown_fields=True):
    """A call that the model made."""

    id: str
    name: str
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None


class Image(msgspec.Struct, tag_field="type", tag="image"):
    """Refused; nothing is ever fetched."""


class Document(msgspec.Struct, tag_field="type", tag="document"):
    """Refused."""


class SearchResult(msgspec.Struct, tag_field="type", tag="search_result"):
    """Refused."""


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    """Refused: no model here wrote it."""


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result", forbid_unknown_fields=True):
    """What came of a call."""

    tool_use_id: str
    content: str | list[Text | Image | Document | SearchResult] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


Block = Text | ToolUse | ToolResult | Image | Document | SearchResult | Thinking


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


def messages_of(given: list[Message], system: str | list[Text] | None) -> list[dict[str, Any]]:
    """As chat templates know them; raises InvalidInput that names the block."""
    if not 1 <= len(given) <= _MOST_MESSAGES:
        raise InvalidInput.of("messages", f"'messages' holds 1 to {_MOST_MESSAGES} messages, not {len(given)}")
    if given[-1].role == "assistant":
        where = f"messages[{len(given) - 1}]"
        raise InvalidInput.of(where, f"'{where}' is the assistant's: the beginning of an answer cannot be given here")
    found: list[dict[str, Any]] = []
    if system:
        text = system if isinstance(system, str) else "\n\n".join(block.text for block in system)
        found.append({"role": "system", "content": text})
    for number, message in enumerate(given):
        found += _message(message, f"messages[{number}].content")
    return found


def _message(message: Message, where: str) -> list[dict[str, Any]]:
    """One; results of tools come before it as messages of their own."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    said, calls, results = [], [], []
    for place, block in enumerate(message.content):
        at = f"{where}[{place}]"
        if isinstance(block, Text):
            said.append(block.text)
        elif isinstance(block, ToolUse) and message.role == "assistant":
            function = {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
            calls.append({"id": block.id, "type": "function", "function": function})
        elif isinstance(block, ToolResult) and message.role == "user":
            text = _result(block, at)
            results.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": text})
        elif isinstance(block, ToolUse | ToolResult):
            raise InvalidInput.of(at, f"'{at}' has no place in a message of the {message.role}")
        else:
            raise InvalidInput.of(at, f"'{at}' is not text; {_TEXTS_ONLY}")
    if not said and not calls:
        return results
    own: dict[str, Any] = {"role": message.role, "content": "".join(said)}
    return [*results, own | {"tool_calls": calls} if calls else own]


def _result(block: ToolResult, where: str) -> str:
    if isinstance(block.content, list):
        for place, part in enumerate(block.content):
            if not isinstance(part, Text):
                at = f"{where}.content[{place}]"
                raise InvalidInput.of(at, f"'{at}' is not text; {_TEXTS_ONLY}")
        text = "".join(part.text for part in block.content if isinstance(part, Text))
    else:
        text = block.content or ""
    return f"Error: {text}" if block.is_error else text
