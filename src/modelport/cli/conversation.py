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
    from modelport.sdk.chat import ChatMessage, ChatPart
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
    is_whole: bool = True
    """Whether it was let to write to its end, where tokens are told."""

    def add(self, other: Measured) -> None:
        self.answers += other.answers
        self.first_s += other.first_s
        self.writing_s += other.writing_s
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.cached += other.cached
        self.is_counted = self.is_counted and other.is_counted
        self.is_whole = self.is_whole and other.is_whole

    def text(self) -> str:
        """``first text after 120 ms, 52.3 tokens/s, 31 tokens in (24 cached), 210 out``."""
        said = [f"first text after {1e3 * self.first_s / max(1, self.answers):,.0f} ms"]
        if not self.is_counted:
            why = "the server told no tokens" if self.is_whole else "tokens are told at an answer's end"
            return ", ".join([*said, f"{self.writing_s:.1f} s of writing; {why}"])
        following = self.tokens_out - self.answers
        if following > 0 and self.writing_s > 0:
            said.append(f"{following / self.writing_s:,.1f} tokens/s")
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        return ", ".join([*said, f"{self.tokens_in:,} tokens in{cached}", f"{self.tokens_out:,} out"])


#: What an answer is asked with by default. At OpenAI's temperature of 1 and without a bound a small model rambles.
CALM: dict[str, Any] = {"temperature": 0.3, "max_tokens": 512}


@dataclass(slots=True)
class Conversation:
    """What was said so far."""

    client: Client
    model: str
    system: str | None = None
    sampling: dict[str, Any] = field(default_factory=dict)
    """Temperature, bound of tokens, as the SDK takes them; what the person did not say is as in ``CALM``."""
    context: int | None = None
    """Tokens of the whole conversation at most, where the server tells."""
    is_bounded: bool = True
    """Whether ``CALM`` bounds answers: not those to a key that may have fewer."""
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

    @property
    def asked_with(self) -> dict[str, Any]:
        """Temperature and bound of the next answer."""
        calm = {name: value for name, value in CALM.items() if name != "max_tokens" or self.is_bounded}
        return calm | self.sampling

    @property
    def manner(self) -> str:
        """``temperature 0.3, at most 512 tokens an answer``."""
        wanted = self.asked_with
        bound = (
            f"at most {wanted['max_tokens']:,} tokens"
            if "max_tokens" in wanted
            else "as many tokens as the key may have"
        )
        return f"temperature {wanted['temperature']:g}, {bound} an answer"

    def cut(self) -> str:
        """By which bound the last answer was."""
        bound, written = self.asked_with.get("max_tokens"), self.last.tokens_out
        if bound is not None and (not self.last.is_counted or written >= bound):
            return f"cut after {bound:,} tokens: --max-tokens lets it write more"
        if self.context is not None and self.last.tokens_in + written >= self.context:
            return f"cut: the model's context of {self.context:,} tokens is full; /clear or /undo makes room"
        return f"cut by the server after {written:,} tokens: perhaps as many as your key may have"

    def ask(self, question: str) -> Iterator[str]:
        """The answer, piece by piece. What came is kept when the reader stops; of one that fails before its first
        text nothing is.
        """
        self.said.append({"role": "user", "content": question})
        pieces: list[str] = []
        began, now = time.perf_counter(), time.perf_counter
        first = latest = None
        self.last, self.finish = Measured(is_counted=False), None
        parts = self._answering()
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
                self.last.is_whole = self.finish is not None
                self.last.answers, self.last.first_s, self.last.writing_s = 1, first - began, latest - first
                self.total.add(self.last)
            elif self.finish is None:
                self.said.pop()
            else:
                self.said.append({"role": "assistant", "content": ""})

    def _answering(self) -> Iterator[ChatPart]:
        """What the server says; asked once more without the bound that nobody wished where a key may have fewer."""
        try:
            yield from self.client.chat.stream(self.model, self.messages, **self.asked_with)
        except InvalidInput as error:
            if "max_tokens" in self.sampling or not self.is_bounded or "'max_tokens'" not in error.message:
                raise
            self.is_bounded = False
            yield from self.client.chat.stream(self.model, self.messages, **self.asked_with)

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
            document = {"model": self.model, **self.asked_with, "messages": self.messages}
            file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        else:
            parts = [f"**{message['role']}**\n\n{message['content']}\n" for message in self.messages]
            file.write_text("\n".join([f"# {self.model}\n", *parts]), encoding="utf-8")
        return len(self.messages)
