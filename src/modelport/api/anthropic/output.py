"""A message's content: what the model writes becomes blocks, and each change to them an event.

A message that is not streamed is put together in the same way, its events are not sent. Knows no data plane.
"""

from __future__ import annotations

import json
from typing import Any

from modelport.api.openai.tools import Calls
from modelport.engine.generation import Part

Event = dict[str, Any]


class Output:
    """The blocks of one message, while they grow."""

    def __init__(self, *, calls: bool) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.stop_reason: str | None = None
        self.stop_sequence: str | None = None
        self._calls = Calls("toolu_") if calls else None
        self._writing = False
        """Whether the last block is a text that may grow."""

    def add(self, part: Part) -> list[Event]:
        """What this part changes; the one with ``finish`` ends all."""
        text = part.text
        calls: list[dict[str, Any]] = []
        if self._calls is not None:
            text, calls = self._calls.add(text)
            if part.finish is not None:
                text += self._calls.end()
        events = self._write(text) if text else []
        for call in calls:
            events += [*self._close(), *self._call(call["id"], call["function"])]
        if part.finish is not None:
            events += self._close()
            self._stop(part)
        return events

    def _write(self, text: str) -> list[Event]:
        events = [] if self._writing else self._begin({"type": "text", "text": ""})
        self._writing = True
        self.blocks[-1]["text"] += text
        return [*events, self._delta({"type": "text_delta", "text": text})]

    def _call(self, id: str, function: dict[str, str]) -> list[Event]:
        events = self._begin({"type": "tool_use", "id": id, "name": function["name"], "input": {}})
        self.blocks[-1]["input"] = _object(function["arguments"])
        delta = self._delta({"type": "input_json_delta", "partial_json": function["arguments"]})
        return [*events, delta, self._ended()]

    def _begin(self, block: dict[str, Any]) -> list[Event]:
        self.blocks.append(block)
        return [{"type": "content_block_start", "index": len(self.blocks) - 1, "content_block": block.copy()}]

    def _delta(self, delta: dict[str, str]) -> Event:
        return {"type": "content_block_delta", "index": len(self.blocks) - 1, "delta": delta}

    def _ended(self) -> Event:
        return {"type": "content_block_stop", "index": len(self.blocks) - 1}

    def _close(self) -> list[Event]:
        events = [self._ended()] if self._writing else []
        self._writing = False
        return events

    def _stop(self, part: Part) -> None:
        if part.finish == "length":
            self.stop_reason = "max_tokens"
        elif part.stopped_by is not None:
            self.stop_reason, self.stop_sequence = "stop_sequence", part.stopped_by
        elif self._calls is not None and self._calls.found:
            self.stop_reason = "tool_use"
        else:
            self.stop_reason = "end_turn"


def _object(arguments: str) -> dict[str, Any]:
    """Of a call; the grammar keeps a model to an object."""
    try:
        found = json.loads(arguments)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
