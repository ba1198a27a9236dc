"""What a text has to be, kept by llguidance: at each place, the tokens that may come next.

Grammars (``language.json_grammar`` makes them of schemas) and calls of tools become one of its own. The library bounds
its own time and memory.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from modelport.engine.generation import Format
from modelport.engine.runtimes.messages import first_line
from modelport.errors import InvalidInput, MissingExtra

try:
    import llguidance
    import llguidance.hf
    from llguidance.gbnf_to_lark import any_to_lark
except ImportError as error:
    raise MissingExtra("transformers", f"answers of a given form ({first_line(error)})") from None

_TEXT = r"/(.|\n)*/"


class Grammars:
    """Of one tokenizer."""

    def __init__(self, tokenizer: Any, words: int, ends: list[int]) -> None:
        """``words`` is the length of the logits; any of ``ends`` ends a text."""
        self._tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=words, eos_token=ends or None)

    def of(self, wanted: Format) -> Grammar:
        """Raises InvalidInput with the library's reason when there is no such text, or it cannot be kept."""
        try:
            source = _source(wanted)
        except Exception as error:  # a reader of grammars in plain Python, which raises what it likes
            raise InvalidInput(f"the form that is asked for cannot be kept: {first_line(error)}") from None
        matcher = llguidance.LLMatcher(self._tokens, source, log_level=0)
        if matcher.is_error():
            raise InvalidInput(
                f"the form that is asked for cannot be kept: {first_line(ValueError(matcher.get_error()))}"
            )
        return Grammar(matcher)


class Grammar:
    """Of one text, at its present place."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Whether nothing can follow."""
        return bool(self._matcher.is_stopped())

    def allowed(self, words: int) -> torch.Tensor | None:
        """Of each token, whether it may come next; None when the library has given up at its own bounds."""
        raw = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        if self._matcher.is_error():
            return None
        bits = np.unpackbits(raw, bitorder="little")[:words].astype(bool)
        return torch.from_numpy(np.pad(bits, (0, words - len(bits))))

    def take(self, token: int) -> None:
        """It has been chosen."""
        self._matcher.consume_token(token)


def _source(wanted: Format) -> str:
    """llguidance's own form of what is wanted."""
    rules = _calls(wanted) if wanted.tools is not None else any_to_lark(wanted.grammar or "")
    return str(llguidance.LLMatcher.grammar_from_lark(rules))


def _calls(wanted: Format) -> str:
    """Calls as ``api.openai.tools`` reads them; free text before and between them where no call is a must."""
    rules = []
    for number, (name, arguments) in enumerate((wanted.tools or {}).items()):
        begin = json.dumps(f'\n{{"name": {json.dumps(name)}, "arguments": ')
        rules.append(f'rest_{number}: {begin} %lark {{\n{any_to_lark(arguments)}\n}} "}}\\n</tool_call>"')
    rest = " | ".join(f"rest_{number}" for number in range(len(rules)))
    if wanted.must_call:
        start = 'call ("\\n" call)*' if wanted.parallel else "call"
        head = [f"start: {start}", f'call: "<tool_call>" ({rest})']
    else:
        start = "call* text" if wanted.parallel else "call | text"
        head = [f"start: {start}", f"call: begin ({rest})", f'begin[lazy]: {_TEXT} "<tool_call>"', f"text: {_TEXT}"]
    return "%llguidance {}\n" + "\n".join([*head, *rules])
