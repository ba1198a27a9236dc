"""What a response is asked for: a text or a list of items, as messages that a chat template knows.

Items are messages, the calls that a model made, and what came of them. This server keeps no responses, so whoever
goes on sends all items again, those of earlier answers as they were. Knows no data plane.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelport.api.openai.reading import read
from modelport.errors import InvalidInput

_MOST_ITEMS = 4096
_TEXTS_ONLY = "this model reads text only, and nothing is fetched"

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(msgspec.Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """Some text of who asks."""

    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """Some text that the model wrote earlier."""

    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class Refusal(msgspec.Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What the model did not want to say."""

    refusal: str

    @property
    def text(self) -> str:
        """As any other."""
        return self.refusal


class InputImage(msgspec.Struct, tag_field="type", tag="input_image"):
    """Refused; nothing is ever fetched."""


class InputAudio(msgspec.Struct, tag_field="type", tag="input_audio"):
    """Refused."""


class InputFile(msgspec.Struct, tag_field="type", tag="input_file"):
    """Refused."""


Content = InputText | OutputText | Refusal | InputImage | InputAudio | InputFile


class MessageItem(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody said."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Content]
    type: str = "message"
    id: str | None = None
    status: Status | None = None
    phase: str | None = None


class CallItem(msgspec.Struct, forbid_unknown_fields=True):
    """A call that the model made."""

    call_id: str
    name: str
    arguments: str
    type: str = ""
    id: str | None = None
    status: Status | None = None


class CallOutputItem(msgspec.Struct, forbid_unknown_fields=True):
    """What came of it."""

    call_id: str
    output: str | list[Content]
    type: str = ""
    id: str | None = None
    status: Status | None = None


class _Kind(msgspec.Struct):
    type: str = "message"


_ITEMS: dict[str, type[MessageItem | CallItem | CallOutputItem]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": CallOutputItem,
}


def messages_of(given: str | list[msgspec.Raw], instructions: str | None) -> list[dict[str, Any]]:
    """As chat templates know them; raises InvalidInput that names the item."""
    found: list[dict[str, Any]] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(given, str):
        return [*found, {"role": "user", "content": given}]
    if not 1 <= len(given) <= _MOST_ITEMS:
        raise InvalidInput.of("input", f"'input' is a text or 1 to {_MOST_ITEMS} items, not {len(given)}")
    for number, raw in enumerate(given):
        where = f"input[{number}]"
        kind = read(raw, _Kind, where=where).type
        if kind not in _ITEMS:
            raise InvalidInput.of(
                f"{where}.type", f"'{where}.type' {kind[:80]!r} is not supported here; it is one of {', '.join(_ITEMS)}"
            )
        _add(found, read(raw, _ITEMS[kind], where=where), where)
    return found


def _add(found: list[dict[str, Any]], item: MessageItem | CallItem | CallOutputItem, where: str) -> None:
    if isinstance(item, MessageItem):
        role = "system" if item.role == "developer" else item.role
        found.append({"role": role, "content": _text(item.content, f"{where}.content")})
    elif isinstance(item, CallOutputItem):
        text = _text(item.output, f"{where}.output")
        found.append({"role": "tool", "tool_call_id": item.call_id, "content": text})
    else:  # calls of one turn, and what was said before them, are one message
        if not found or found[-1]["role"] != "assistant":
            found.append({"role": "assistant", "content": ""})
        function = {"name": item.name, "arguments": item.arguments}
        found[-1].setdefault("tool_calls", []).append({"id": item.call_id, "type": "function", "function": function})


def _text(content: str | list[Content], where: str) -> str:
    if isinstance(content, str):
        return content
    for place, part in enumerate(content):
        if not isinstance(part, InputText | OutputText | Refusal):
            raise InvalidInput.of(f"{where}[{place}]", f"'{where}[{place}]' is not text; {_TEXTS_ONLY}")
    return "".join(part.text for part in content if isinstance(part, InputText | OutputText | Refusal))
