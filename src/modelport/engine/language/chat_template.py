"""A conversation becomes the prompt that the model was trained on: its own Jinja template, in a sandbox.

A template comes with a model and is a stranger's program: it gets no attribute that leads out, writes nothing, and
its output is bounded. Names that templates expect beyond Jinja's are those of Hugging Face's documentation ("Chat
templates"). Knows no tokenizer.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from modelport.errors import InvalidInput

_LONGEST = 64 << 20


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, names: dict[str, str]) -> None:
        """Raises InvalidInput when it is no Jinja template."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._names = names
        self.shows_tools = re.search(r"\btools\b", source) is not None
        """Whether the template itself tells the model of its tools."""
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InvalidInput(f"the model's chat template is no Jinja template: {error}") from None

    def render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, values: dict[str, Any]) -> str:
        """The prompt, up to where the model goes on (unless ``values`` say otherwise); raises InvalidInput when the
        template refuses."""
        known = {**self._names, "add_generation_prompt": True, **values, "messages": messages, "tools": tools}
        pieces, size = [], 0
        try:
            for piece in self._template.generate(known):
                size += len(piece)
                if size > _LONGEST:
                    raise InvalidInput("the model's chat template writes without an end")
                pieces.append(piece)
        except RecursionError:
            raise InvalidInput("the conversation is nested too deeply") from None
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise InvalidInput(f"the model's chat template refuses these messages: {error}") from None
        return "".join(pieces)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)
