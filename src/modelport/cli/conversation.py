"""A conversation with a language model as the person's side keeps it: its messages, and how fast its answers came.

Knows the SDK's pieces of an answer; knows no terminal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.errors import InvalidInput

if TYPE_CHECKING:
    from modelport.sdk.chat import ChatMessage
    from modelport.sdk.client import Client


@dataclass(slots=True)
class Measured:
    """One answer, or all of them: times in seconds."""

    answers: int = 0
    first_s: float = 0.0
    """Until the first text; of several answers their sum."""
    writing_s: float = 0.0
    """From the first text to the last."""
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0
    is_counted: bool = True
    """Whether the server told the tokens."""

    def add(self, other: Measured) -> None:
        self.answers += other.answers
        self.first_s += other.first_s
        self.writing_s += other.writing_s
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.cached += other.cached
        self.is_counted = self.is_counted and other.is_counted

    def text(self) -> str:
        """``first text after 120 ms, 52.3 tokens/s, 31 tokens in (24 cached), 210 out``."""
        said = [f"first text after {1e3 * self.first_s / max(1, self.answers):,.0f} ms"]
        if not self.is_counted:
            return ", ".join([*said, f"{self.writing_s:.1f} s of writing; the server told no tokens"])
        following = self.tokens_out - self.answers
        if following > 0 and self.writing_s > 0:
            said.append(f"{following / self.writing_s:,.1f} tokens/s")
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        return ", ".join([*said, f"{self.tokens_in:,} tokens in{cached}", f"{self.tokens_out:,} out"])


@dataclass(slots=True)
class Conversation:
    """What was said so far."""

    client: Client
    model: str
    system: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    """Temperature, bound of tokens, as the SDK takes them."""
    said: list[ChatMessage] = field(default_factory=list)
    """Questions and answers in turn, without the system's message."""
    last: Measured = field(default_factory=Measured)
    total: Measured = field(default_factory=Measured)
    finish: str | None = None
    """Why the last answer ended; None for one that was stopped."""

    @property
    def messages(self) -> list[ChatMessage]:
        """As they are sent."""
        first: list[ChatMessage] = [{"role": "system", "content": self.system}] if self.system else []
        return first + self.said

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece. What came is kept when the reader stops; of one that fails before its first
        text nothing is.
        """
        self.said.append({"role": "user", "content": question})
        pieces: list[str] = []
        began, now = time.perf_counter(), time.perf_counter
        first = latest = None
        self.last, self.finish = Measured(is_counted=False), None
        parts = self.client.chat.stream(self.model, self.messages, **self.sampling)
        try:
            for part in parts:
                if part.text:
                    latest = now()
                    first = first or latest
                    pieces.append(part.text)
                    yield part.text
                self.finish = part.finish or self.finish
                if part.tokens_out is not None:
                    self.last.tokens_in, self.last.tokens_out = part.tokens_in or 0, part.tokens_out
                    self.last.cached, self.last.is_counted = part.cached or 0, True
        finally:
            parts.close()  # type: ignore[attr-defined]  # stops the model
            if pieces and first is not None and latest is not None:
                self.said.append({"role": "assistant", "content": "".join(pieces)})
                self.last.answers, self.last.first_s, self.last.writing_s = 1, first - began, latest - first
                self.total.add(self.last)
            elif self.finish is None:
                self.said.pop()
            else:
                self.said.append({"role": "assistant", "content": ""})

    def undo(self) -> str | None:
        """Take the last question and its answer back; gives the question, None where there is none."""
        while self.said:
            message = self.said.pop()
            if message["role"] == "user":
                return message["content"]
        return None

    def clear(self) -> None:
        """Forget all but the system's message."""
        self.said.clear()

    def save(self, file: Path) -> int:
        """Write it as JSON where the name ends so, else as Markdown; gives the number of messages."""
        import orjson

        if file.is_dir() or not file.parent.is_dir():
            raise InvalidInput(f"{str(file)[:200]!r} cannot be written; name a file in a folder that is there")
        if file.suffix == ".json":
            document = {"model": self.model, **self.sampling, "messages": self.messages}
            file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        else:
            parts = [f"**{message['role']}**\n\n{message['content']}\n" for message in self.messages]
            file.write_text("\n".join([f"# {self.model}\n", *parts]), encoding="utf-8")
        return len(self.messages)
