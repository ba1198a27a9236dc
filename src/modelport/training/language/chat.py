"""Rows as token ids with marks on what is to be learnt: plain texts, and conversations through a chat template.

The template is rendered in Jinja's sandbox by transformers. Knows no network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from modelport.errors import InvalidInput
from modelport.training.language.rows import is_text, rows

Row = tuple[Sequence[int], Sequence[int] | None]
_ROLES = ("system", "user", "assistant", "tool")


class Reader:
    """Rows of a column as ids and marks; counts what it leaves out."""

    def __init__(self, tokenizer: Any, column: str, *, chat: bool, answers_only: bool, max_length: int) -> None:
        self._tokenizer, self._column, self._chat = tokenizer, column, chat
        self._answers_only, self._max_length = answers_only, max_length
        self.left_out = 0
        """Rows without a text."""
        self.cut = 0
        """Conversations whose end did not fit."""
        if chat and not tokenizer.chat_template:
            raise InvalidInput(
                f"column {column!r} holds conversations, and the base model has no chat template: take an "
                "instruction-tuned model, or write the conversations as plain texts"
            )

    def read(self, parts: Sequence[Path], most: int | None = None) -> Iterator[Row]:
        """Ids and marks of each example; a row may give several, or none."""
        for number, (value,) in enumerate(rows(parts, [self._column])):
            if most is not None and number >= most:
                return
            if self._chat:
                yield from self._conversation(value, number)
            elif is_text(value):
                yield from self._text(value)
            else:
                self.left_out += 1

    def _text(self, text: str) -> Iterator[Row]:
        ids = list(self._tokenizer(text, verbose=False)["input_ids"])
        end = self._tokenizer.eos_token_id
        if end is not None and ids[-1:] != [end]:
            ids.append(end)
        for begin in range(0, len(ids), self._max_length):
            piece = ids[begin : begin + self._max_length]
            if len(piece) > 1:  # one token has nothing to follow from
                yield piece, [0] + [1] * (len(piece) - 1)

    def _conversation(self, value: Any, number: int) -> Iterator[Row]:
        messages = self._messages(value, number)
        if not messages:
            self.left_out += 1
            return
        text = self._rendered(messages, number)
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, offsets = found["input_ids"], found["offset_mapping"]
        spans = list(self._answers(messages, text, number)) if self._answers_only else [(0, len(text))]
        marks = [int(any(begin <= at < end for begin, end in spans)) for at, _ in offsets]
        marks[:1] = [0]
        if len(ids) > self._max_length:
            self.cut += 1
            ids, marks = ids[: self._max_length], marks[: self._max_length]
        if any(marks):
            yield ids, marks
        else:
            self.left_out += 1

    def _answers(self, messages: list[dict[str, str]], text: str, number: int) -> Iterator[tuple[int, int]]:
        """Where in the rendered text the assistant speaks, its end mark included."""
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._rendered(messages[:index], number, prompt=True)
            until = self._rendered(messages[: index + 1], number)
            if not (text.startswith(before) and text.startswith(until)):
                raise InvalidInput(
                    "the base model's chat template changes what was said before when something is added, so answers "
                    "cannot be told from questions: say answers_only: false"
                )
            yield len(before), len(until)

    def _rendered(self, messages: list[dict[str, str]], number: int, prompt: bool = False) -> str:
        try:
            text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template raises what it likes
            cause = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InvalidInput(f"row {number}: the chat template does not take this conversation: {cause}") from None
        return text

    def _messages(self, value: Any, number: int) -> list[dict[str, str]]:
        """A conversation's messages; raises InvalidInput naming the row for what is none."""
        if isinstance(value, str):
            try:
                value = json.loads(value) if value.strip() else []
            except (ValueError, RecursionError):
                raise self._no_conversation(number, "it is not JSON") from None
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._no_conversation(number, "it is no list")
        for message in value:
            if not isinstance(message, dict) or not {"role", "content"} <= set(message):
                raise self._no_conversation(number, "a message has no role or no content")
            if message["role"] not in _ROLES or not isinstance(message["content"], str):
                raise self._no_conversation(
                    number, f"a message's role is none of {', '.join(_ROLES)}, or it has no text"
                )
        return [{"role": message["role"], "content": message["content"]} for message in value]

    def _no_conversation(self, number: int, cause: str) -> InvalidInput:
        return InvalidInput(
            f"column {self._column!r}, row {number}: {cause}; a conversation is a list like "
            '[{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
        )


def packed(lengths: Iterable[int], limit: int) -> list[list[int]]:
    """Rows put together so that each lot has at most ``limit`` tokens: the longest first, each where it fits best."""
    order = sorted(enumerate(lengths), key=lambda found: (-found[1], found[0]))
    room: dict[int, list[int]] = {}
    lots: list[list[int]] = []
    for row, length in order:
        fitting = next((free for free in range(length, limit + 1) if room.get(free)), None)
        if fitting is None:
            lots.append([])
            lot, fitting = len(lots) - 1, limit
        else:
            lot = room[fitting].pop()
        lots[lot].append(row)
        room.setdefault(fitting - length, []).append(lot)
    return lots
