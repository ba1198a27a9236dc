"""A line whose answers are server-sent events, as OpenAI streams them: it notes when each piece of text came.

The same for every server that speaks this protocol. Knows no schedule.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import orjson

from modelport.bench.lines import HttpLine, said
from modelport.bench.shots import Shot

CUT_SHORT = "the stream ended before the answer did"


class Heard:
    """What came of one answer."""

    __slots__ = ("cached_tokens", "error", "is_whole", "moments", "sent", "tokens_in", "tokens_out")

    def __init__(self) -> None:
        self.sent = time.perf_counter()
        self.moments = array("d")
        """When each event with text (or with a tool's call) came, on ``time.perf_counter``'s clock."""
        self.tokens_in = self.tokens_out = self.cached_tokens = 0
        """As the server counts them."""
        self.is_whole = False
        self.error = ""


class StreamLine(HttpLine):
    """A connection; ``heard`` is its last answer."""

    def __init__(self, write: Callable[[Shot], bytes]) -> None:
        super().__init__(write)
        self.heard = Heard()
        self._rest = b""

    def send(self, shot: Shot, done: Any) -> None:
        super().send(shot, done)
        self.heard, self._rest = Heard(), b""

    def on_body(self, part: bytes) -> None:
        if self._status != 200:
            super().on_body(part)
            return
        now = time.perf_counter()
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:].strip(), now)

    def _event(self, data: bytes, now: float) -> None:
        heard = self.heard
        if data == b"[DONE]":
            heard.is_whole = True
            return
        try:
            event = orjson.loads(data)
            if event.get("error"):
                heard.error = said(data)
                return
            for choice in event.get("choices") or ():
                if has_text(choice):
                    heard.moments.append(now)
                if choice.get("finish_reason"):
                    heard.is_whole = True
            if usage := event.get("usage"):
                heard.tokens_in, heard.tokens_out = usage["prompt_tokens"], usage["completion_tokens"]
                heard.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            heard.error = f"this is no event of a chat completion: {data[:80].decode(errors='replace')}"

    def _outcome(self) -> tuple[int, str]:
        status, message = super()._outcome()
        if status != 200:
            return status, message
        if self.heard.error:
            return 0, self.heard.error
        return (200, "") if self.heard.is_whole else (0, CUT_SHORT)


def has_text(choice: dict[str, Any]) -> bool:
    """Whether a person would see something new: text, thoughts or a call."""
    delta = choice.get("delta") or {}
    names = ("content", "reasoning_content", "reasoning", "tool_calls")
    return bool(choice.get("text")) or any(delta.get(name) for name in names)
