"""A response's output: what the model writes becomes items, and each change to them an event.

An answer that is not streamed is put together in the same way, its events are not sent. Knows no data plane.
"""

from __future__ import annotations

import secrets
from typing import Any

from modelport.api.openai.tools import Calls
from modelport.api.openai.writing import logprobs_of
from modelport.engine.generation import Part

Event = dict[str, Any]


class Output:
    """The items of one response, while they grow."""

    def __init__(self, *, calls: bool, logprobs: bool) -> None:
        self.items: list[dict[str, Any]] = []
        self.finish: str | None = None
        self._calls = Calls() if calls else None
        self._logprobs = logprobs
        self._open: dict[str, Any] | None = None
        """The message that is being written, the last of the items."""

    def add(self, part: Part) -> list[Event]:
        """What this part changes; the one with ``finish`` ends all."""
        text = part.text
        calls: list[dict[str, Any]] = []
        if self._calls is not None:
            text, calls = self._calls.add(text)
            if part.finish is not None:
                text += self._calls.end()
        logprobs = logprobs_of(part) if self._logprobs else []
        events = self._write(text, logprobs) if text or logprobs else []
        for call in calls:
            events += [*self._close("completed"), *self._call(call)]
        if part.finish is not None:
            self.finish = part.finish
            if not self.items:
                events += self._begin()
            events += self._close("incomplete" if part.finish == "length" else "completed")
        return events

    def _begin(self) -> list[Event]:
        self._open = {
            "id": f"msg_{secrets.token_hex(12)}", "type": "message", "status": "in_progress", "role": "assistant",
            "content": [],
        }  # fmt: skip
        self.items.append(self._open)
        added = {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": self._open.copy()}
        content = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._open["content"] = [content]
        return [added, {"type": "response.content_part.added", **self._place(), "part": {**content, "logprobs": []}}]

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self.items) - 1, "content_index": 0}

    def _write(self, text: str, logprobs: list[dict[str, Any]]) -> list[Event]:
        events = self._begin() if self._open is None else []
        assert self._open is not None
        content = self._open["content"][0]
        content["text"] += text
        content["logprobs"] += logprobs
        return [
            *events,
            {"type": "response.output_text.delta", **self._place(), "delta": text, "logprobs": logprobs},
        ]

    def _close(self, status: str) -> list[Event]:
        if self._open is None:
            return []
        place, content = self._place(), self._open["content"][0]
        self._open["status"] = status
        events = [
            {"type": "response.output_text.done", **place, "text": content["text"], "logprobs": content["logprobs"]},
            {"type": "response.content_part.done", **place, "part": content},
            {"type": "response.output_item.done", "output_index": place["output_index"], "item": self._open},
        ]
        self._open = None
        return events

    def _call(self, call: dict[str, Any]) -> list[Event]:
        arguments = call["function"]["arguments"]
        item = {
            "id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "status": "completed",
            "call_id": call["id"], "name": call["function"]["name"], "arguments": arguments,
        }  # fmt: skip
        self.items.append(item)
        index = len(self.items) - 1
        place = {"item_id": item["id"], "output_index": index}
        begun = {**item, "status": "in_progress", "arguments": ""}
        return [
            {"type": "response.output_item.added", "output_index": index, "item": begun},
            {"type": "response.function_call_arguments.delta", **place, "delta": arguments},
            {"type": "response.function_call_arguments.done", **place, "arguments": arguments, "name": item["name"]},
            {"type": "response.output_item.done", "output_index": index, "item": item},
        ]
