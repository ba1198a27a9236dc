"""Tools: which calls a model may or must make, and its words as calls.

Calls stand within ``<tool_call>`` and ``</tool_call>``, each a JSON object with ``name`` and ``arguments`` (the form of
Hermes, Qwen and SmolLM). Where tools are given, the grammar keeps calls to it and arguments to their schema.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from modelport.engine.generation import Format
from modelport.engine.language.grammar_cost import check_cost
from modelport.engine.language.json_grammar import grammar_of
from modelport.errors import InvalidInput

_MOST_TOOLS = 128
_BEGIN, _END = "<tool_call>", "</tool_call>"
ONLY_FUNCTIONS = {"tools[].type": "only functions can be tools here, which the caller runs"}
"""For the reading of a body that has tools."""


class Function(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What can be called."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """A function; OpenAI's own tools (search, code) are not here."""

    type: Literal["function"]
    function: Function


class Named(msgspec.Struct, forbid_unknown_fields=True):
    """The name of the one that must be called."""

    name: str


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Of a tool."""

    type: Literal["function"]
    function: Named


def format_of(
    tools: list[Tool] | None,
    choice: str | Choice | None,
    parallel: bool | None,
    where: str = "tools[{}].function.parameters",
) -> tuple[list[dict[str, Any]] | None, Format | None]:
    """What the model is shown, and what its words have to be; raises InvalidInput, which finds a tool's schema
    ``where``."""
    if not tools:
        if choice not in (None, "none"):
            raise InvalidInput.of("tool_choice", "'tool_choice' needs 'tools'")
        return None, None
    if len(tools) > _MOST_TOOLS:
        raise InvalidInput.of("tools", f"'tools' holds at most {_MOST_TOOLS}, not {len(tools)}")
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidInput.of("tools", "'tools' has the same name twice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise InvalidInput.of("tool_choice", "'tool_choice' is 'none', 'auto', 'required' or the name of a function")
    if choice == "none":
        return None, None
    grammars = {
        tool.function.name: grammar_of(
            {"type": "object", **(tool.function.parameters or {"additionalProperties": False})},
            where.format(number),
        )
        for number, tool in enumerate(tools)
    }
    if isinstance(choice, Choice):
        if choice.function.name not in grammars:
            raise InvalidInput.of("tool_choice", f"'tools' has no function {choice.function.name[:80]!r}")
        grammars = {choice.function.name: grammars[choice.function.name]}
    check_cost(grammars.values(), "tools")
    must = choice == "required" or isinstance(choice, Choice)
    one = isinstance(choice, Choice) or parallel is False
    return [msgspec.to_builtins(tool) for tool in tools], Format(tools=grammars, must_call=must, parallel=not one)


@dataclass(slots=True)
class Calls:
    """The words of one answer, parted into text and calls while they come."""

    prefix: str = "call_"
    """Of a call's id."""
    found: list[dict[str, Any]] = field(default_factory=list)
    _held: str = ""

    def add(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """Text that belongs to no call, and the calls that are complete now."""
        self._held += text
        words: list[str] = []
        new: list[dict[str, Any]] = []
        while True:
            start = self._held.find(_BEGIN)
            if start < 0:
                keep = next((n for n in range(len(_BEGIN) - 1, 0, -1) if self._held.endswith(_BEGIN[:n])), 0)
                cut = len(self._held) - keep
                words.append(self._held[:cut])
                self._held = self._held[cut:]
                break
            end = self._held.find(_END, start)
            if end < 0:
                words.append(self._held[:start])
                self._held = self._held[start:]
                break
            call = _call_of(self._held[start + len(_BEGIN) : end], self.prefix)
            words.append(self._held[:start] if call is not None else self._held[: end + len(_END)])
            self._held = self._held[end + len(_END) :]
            if call is not None:
                new.append(call | {"index": len(self.found)})
                self.found.append(call)
        said = "".join(words)
        return (said.strip("\n") if self.found else said), new

    def end(self) -> str:
        """What was held back; the half of a call is nothing that a caller could use."""
        rest, self._held = self._held, ""
        return "" if rest.startswith(_BEGIN) else rest


def _call_of(text: str, prefix: str) -> dict[str, Any] | None:
    try:
        said = json.loads(text)
        name, arguments = said["name"], said.get("arguments", said.get("parameters", {}))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not isinstance(name, str):
        return None
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {"id": prefix + secrets.token_hex(12), "type": "function", "function": {"name": name, "arguments": shown}}
