"""Tokens become text as they come: no half characters, nothing of a stop text that may be about to be completed.

Knows functions that tell what tokens read as; knows no engine.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from typing import Protocol

_UNFINISHED = "\ufffd"
_WINDOW = 12
"""Tokens that decide how the next one reads, and a little more."""


class Reader(Protocol):
    """Reads one answer's tokens."""

    def add(self, tokens: Sequence[int]) -> str:
        """What they add, as far as it is certain."""

    def end(self) -> str:
        """What was not certain."""


class ByBytes:
    """For tokenizers in which every token is some bytes, whatever its neighbours are."""

    def __init__(self, piece: Callable[[int], bytes]) -> None:
        self._piece = piece
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, tokens: Sequence[int]) -> str:
        return self._characters.decode(b"".join(map(self._piece, tokens)))

    def end(self) -> str:
        return self._characters.decode(b"", final=True)


class ByWindow:
    """For all others: a short window is read again with each new token, and what has been added counts."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._given = ""
        """What the window reads as, as far as it has been given."""

    def add(self, tokens: Sequence[int]) -> str:
        self._window.extend(tokens)
        text = self._decode(self._window)
        certain = text.rstrip(_UNFINISHED)
        new = _added(self._given, certain)
        if certain != text:
            self._given = max(self._given, certain, key=len)
            return new
        self._given = text
        if len(self._window) > _WINDOW:
            self._shorten()
        return new

    def _shorten(self) -> None:
        """To a few tokens that begin with a whole character."""
        for size in range(_WINDOW // 2, _WINDOW):
            text = self._decode(self._window[-size:])
            if text and not text.startswith(_UNFINISHED):
                self._window, self._given = self._window[-size:], text
                return

    def end(self) -> str:
        text = self._decode(self._window)
        new = _added(self._given, text)
        self._given = text
        return new


def _added(before: str, after: str) -> str:
    differs = (n for n, (left, right) in enumerate(zip(before, after, strict=False)) if left != right)
    return after[next(differs, min(len(before), len(after))) :]


class Text:
    """The text of one answer while it grows, up to the first of its stop texts."""

    def __init__(self, reader: Reader, stops: Sequence[str] = ()) -> None:
        self._reader = reader
        self._stops = tuple(stops)
        self._longest_stop = max(map(len, self._stops), default=0)
        self._held = ""
        """What may be the beginning of a stop text."""
        self.stopped_by: str | None = None

    def add(self, tokens: Sequence[int]) -> str:
        """What these tokens add, as far as it is certain; see ``stopped_by`` afterwards."""
        text = self._reader.add(tokens)
        return self._up_to_stop(self._held + text, at_end=False) if self._stops else text

    def end(self) -> str:
        """What was held back."""
        text = self._reader.end()
        return self._up_to_stop(self._held + text, at_end=True) if self._stops else text

    def _up_to_stop(self, text: str, *, at_end: bool) -> str:
        self._held = ""
        first = min(((text.find(stop), stop) for stop in self._stops if stop in text), default=None)
        if first is not None:
            self.stopped_by = first[1]
            return text[: first[0]]
        keep = 0 if at_end else self._beginning(text)
        if keep:
            text, self._held = text[:-keep], text[-keep:]
        return text

    def _beginning(self, text: str) -> int:
        """Length of the longest end of ``text`` with which some stop text begins."""
        for size in range(min(len(text), self._longest_stop - 1), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
