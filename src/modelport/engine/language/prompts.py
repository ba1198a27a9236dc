"""What a request asks becomes the tokens that the model goes on from.

What callers say in a conversation is text, whatever it looks like: only the model's template begins and ends turns.
Knows a runtime's tokens; knows no protocol.
"""

from __future__ import annotations

import json
import re
import secrets
from itertools import accumulate, pairwise
from typing import Any

from modelport.engine.generation import Asked, Part, Sampling
from modelport.engine.language.chat_template import ChatTemplate
from modelport.engine.runtime import Generates
from modelport.errors import ContextExceeded, InvalidInput

_USUAL = 4
"""Bytes of a token: a text of more may still fit, and its tokens are counted piece by piece first."""
_PIECE = 8 << 10
"""Characters."""
_ONLY_TOKENS = 8
"""Who asks for a text's tokens alone may give so many times the context: to count it is what he wants."""
_WHAT = {True: "maximum context length is", False: "tokens are told of a text of at most"}
_PAIRS = 4
"""Of turns, from which the length of each is learnt."""
_TOOLS = """You may call functions to answer. These are their signatures, within <tools></tools>:
<tools>
{tools}
</tools>
For each call write a JSON object with the function's name and its arguments within <tool_call></tool_call>:
<tool_call>
{{"name": "function-name", "arguments": {{"argument": "value"}}}}
</tool_call>"""


class Prompts:
    """Of one model."""

    def __init__(self, runtime: Generates) -> None:
        self._runtime = runtime
        found = runtime.chat_template()
        self._template = ChatTemplate(*found) if found is not None else None
        special = sorted(runtime.special_texts(), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special))) if special else None
        self._of_a_turn = self._least_of_a_turn()

    def tokens_of(self, asked: Asked) -> list[int]:
        """Raises InvalidInput when there is nothing to go on from, or no template for a conversation."""
        tokens = self.read(asked)
        if not tokens:
            raise InvalidInput("the prompt is empty")
        return tokens

    def told(self, asked: Asked) -> Part:
        """The answer to who asks only for the prompt's tokens, or for the text of tokens."""
        tokens = self.read(asked)
        text = self._runtime.decode(tokens) if asked.only == "text" else ""
        pieces = tuple(self._runtime.pieces(tokens)) if asked.only == "pieces" else ()
        return Part(text, tuple(tokens), pieces=pieces, finish="stop", prompt_tokens=len(tokens))

    def read(self, asked: Asked) -> list[int]:
        """What is asked as tokens, perhaps none; raises InvalidInput."""
        if asked.tokens is not None:
            tokens = list(asked.tokens)
            words = self._runtime.facts.words
            strange = next((token for token in tokens if token < 0 or (words and token >= words)), None)
            if strange is not None:
                raise InvalidInput(f"{strange} is no token of this model: they are 0 to {words - 1}")
        elif asked.messages is not None:
            self._check_turns(asked)
            parts = self.text_of(asked)
            self._check_length("".join(parts), asked)
            tokens = [token for part in parts for token in self._runtime.encode(part, special=False)]
        else:
            self._check_length(asked.prompt or "", asked)
            tokens = self._runtime.encode(asked.prompt, special=asked.special) if asked.prompt else []
        return tokens

    @property
    def limit(self) -> int:
        """Tokens that a prompt and its answer may have."""
        facts = self._runtime.facts
        return min(facts.context, facts.room or facts.context)

    def _least_of_a_turn(self) -> int:
        """Tokens that each message of a user or an assistant adds at least; 0 where the template does not show all."""
        found = []
        for roles in (("user", "assistant"), ("user", "user")):
            try:
                counts = [
                    sum(len(self._runtime.encode(part, special=False)) for part in self.text_of(_turns(roles, pairs)))
                    for pairs in range(1, _PAIRS + 1)
                ]
            except InvalidInput:  # the template wants its roles in another order, and says so without reading on
                continue
            more = {(after - before) // 2 for before, after in pairwise(counts)}
            found.append(more.pop() if len(more) == 1 else 0)
        return min(found, default=0)

    def _check_turns(self, asked: Asked) -> None:
        """Raises ContextExceeded for more messages than the context can hold, before they become one text."""
        limit = self._bound(asked)
        turns = sum(message.get("role") in ("user", "assistant") for message in asked.messages or ())
        if turns * self._of_a_turn > limit:
            raise ContextExceeded(
                f"this model's {_WHAT[asked.only is None]} {limit} tokens, but the conversation has {turns} messages: "
                f"at least {turns * self._of_a_turn} tokens; leave out the oldest"
            )

    def _bound(self, asked: Asked) -> int:
        return self.limit * (1 if asked.only is None else _ONLY_TOKENS)

    def _check_length(self, text: str, asked: Asked) -> None:
        """Raises ContextExceeded for a text far beyond the context, before all of it is read: others wait meanwhile."""
        limit = self._bound(asked)
        size, longest = len(text.encode(errors="replace")), self._runtime.longest_token
        least = size // longest if longest else 0
        if least <= limit and size > limit * _USUAL:
            pieces = (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
            counts = accumulate(len(self._runtime.encode(piece, special=False)) for piece in pieces)
            if any(count > 2 * limit for count in counts):  # more than what cutting it may have added
                least = limit + 1
        if least > limit:
            raise ContextExceeded(
                f"this model's {_WHAT[asked.only is None]} {limit} tokens, but the prompt has {len(text)} characters: "
                f"at least {least} tokens; shorten it"
            )

    def text_of(self, asked: Asked) -> list[str]:
        """A conversation as the model was trained on it; in parts, where it would else hold special tokens that are
        not the template's."""
        if self._template is None:
            raise InvalidInput("this model has no chat template: send a prompt to /v1/completions instead")
        messages = [_plain(message) for message in asked.messages or ()]
        if asked.tools and not self._template.shows_tools:
            messages = _with_tools(messages, asked.tools)
        mark = f"\uf8ff{secrets.token_hex(8)}\uf8ff"
        given = (messages, asked.tools, asked.template_values)
        return self._template.render(*(self._marked(value, mark) for value in given)).split(mark)

    def _marked(self, value: Any, mark: str) -> Any:
        """The same, with a mark behind the first letter of every special text in it."""
        if self._special is None:
            return value
        if isinstance(value, str):
            return self._special.sub(lambda found: found[0][0] + mark + found[0][1:], value)
        if isinstance(value, dict):
            return {self._marked(name, mark): self._marked(one, mark) for name, one in value.items()}
        return [self._marked(one, mark) for one in value] if isinstance(value, list) else value


def _turns(roles: tuple[str, str], pairs: int) -> Asked:
    """A conversation of empty messages."""
    return Asked(Sampling(), messages=[{"role": role, "content": ""} for role in roles * pairs])


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """Content in parts becomes one text, which every template understands; arguments of calls become objects."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    plain = {**message, "content": content if content is not None else ""}
    if message.get("tool_calls"):
        plain["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _arguments(call["function"].get("arguments"))}}
            for call in message["tool_calls"]
        ]
    return plain


def _arguments(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given
    except RecursionError:
        raise InvalidInput("the arguments of a call are nested too deeply") from None


def _with_tools(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For templates that know none: the system message tells of them, and answers of tools are a user's words."""
    told = _TOOLS.format(tools="\n".join(json.dumps(tool) for tool in tools))
    changed: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            text = f"<tool_response>\n{message['content']}\n</tool_response>"
            changed.append({"role": "user", "content": text})
        elif message.get("tool_calls"):
            calls = "\n".join(
                f"<tool_call>\n{json.dumps({k: call['function'].get(k) for k in ('name', 'arguments')})}\n</tool_call>"
                for call in message["tool_calls"]
            )
            changed.append({"role": message["role"], "content": f"{message['content']}{calls}"})
        else:
            changed.append(message)
    if changed and changed[0]["role"] == "system":
        return [{**changed[0], "content": f"{changed[0]['content']}\n\n{told}"}, *changed[1:]]
    return [{"role": "system", "content": told}, *changed]
