"""How prompts get into OpenVINO GenAI's pipeline: which of its steps read, how much, and what need not be read again.

The pipeline is set so that a step either reads prompts, each in whole, or writes texts: who comes is not held up by all
that are written, which takes twice as long. So that these are not held up either, a step reads a bounded number of
tokens, a step that writes comes between two that read, and a long prompt is read in pieces. That step in between is a
must: of a text that has one token, and has not gone on from it, the cache holds a piece that is wrong for whoever
begins the same. A piece is a text of its
own that ends at once: its blocks stay in the pipeline's prefix cache, where the longer text that begins so finds them.
Knows tokens; knows no text that is written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openvino_genai as genai

_MOST = 256
"""Tokens that a step reads, about."""
_PIECE = 64
"""Of a long prompt while others are there: no more than many a prompt has in whole. Whole blocks of the cache."""
_PIECES_FROM = 1 << 40
"""Numbers of pieces; those of texts are smaller."""


def runs(handle: Any) -> bool:
    """Whether the pipeline has still to do something for a request."""
    return bool(handle.get_status() == genai.GenerationStatus.RUNNING)


class Reading:
    """The prompts of one pipeline. ``add`` gives it a request (number, tokens, how it is written), and returns the
    request's handle; pieces are written as ``ends`` says."""

    def __init__(self, room: int, ends: Any, add: Callable[[int, Sequence[int], Any], Any]) -> None:
        self._add, self._ends = add, ends
        self._kept = Kept(room)
        self._long: dict[int, tuple[list[int], Any]] = {}
        """Those that are read in pieces, with how their texts are written; who came first first."""
        self._piece: tuple[list[int], Any] | None = None
        """The one that is read: a beginning of a prompt, and its handle."""
        self._ending: list[Any] = []
        """Handles of pieces that have been read: a request whose handle is dropped is, too."""
        self.mending: list[Any] = []
        """Handles of prompts that are read once more."""
        self._pieces = 0
        self._tokens = 0
        """Given to the step that comes next."""
        self._has_read = False
        """Whether the last step read."""

    def may_begin(self, writing: bool) -> bool:
        """Whether the next step may read one more prompt, where there are texts that could write."""
        return self._tokens < _MOST and not (writing and self._has_read)

    def begin(self, number: int, prompt: Sequence[int], how: Any) -> Any | None:
        """The handle of a text whose prompt is read by the next step; None where it is long, and comes in time."""
        left = len(prompt) - self._kept.of(prompt)
        if left > _MOST:
            self._long[number] = list(prompt), how
            return None
        handle = self._whole(number, prompt, how)
        self._tokens += left
        return handle

    def go_on(self, beside: bool, writing: bool) -> tuple[int, Any] | None:
        """Give the next step a piece of a long prompt, if it may have one: by turns of the prompt that is done soonest
        and of the one that came first. Returns the text, and its handle, whose prompt comes to its end by it.
        ``beside`` says whether there are other texts, ``writing`` whether some could write."""
        if self._piece is not None or not self._long or (writing and self._has_read):
            return None
        left = {number: len(prompt) - self._kept.of(prompt) for number, (prompt, _) in self._long.items()}
        number = next(iter(left)) if self._pieces % 2 else min(left, key=lambda each: left[each])
        prompt, how = self._long[number]
        size = _PIECE if beside or len(left) > 1 else _MOST
        self._pieces += 1
        self._tokens += min(left[number], size)
        if left[number] <= size:
            del self._long[number]
            return number, self._whole(number, prompt, how)
        piece = prompt[: len(prompt) - left[number] + size]
        self._piece = piece, self._add(_PIECES_FROM + self._pieces, piece, self._ends)
        return None

    def stepped(self) -> None:
        """The pipeline has taken its step."""
        self._has_read, self._tokens = self._tokens > 0, 0
        if self._piece is not None and (self._piece[1].can_read() or not runs(self._piece[1])):
            piece, handle = self._piece
            self._kept.read(piece)
            self._ending.append(handle)
            self._piece = None
        self._ending = [handle for handle in self._ending if runs(handle)]
        self.mending = [handle for handle in self.mending if runs(handle)]

    def again(self, prompt: Sequence[int]) -> None:
        """Read a prompt whose text has ended with its first token, so that the cache holds nothing wrong of it: until
        then nobody is to begin (``mending``)."""
        self._pieces += 1
        self.mending.append(self._add(_PIECES_FROM + self._pieces, prompt, self._ends))

    def ended(self, number: int, written: int) -> None:
        """Nobody waits for this text any more, which had so many tokens."""
        self._long.pop(number, None)
        self._kept.wrote(written)

    def _whole(self, number: int, prompt: Sequence[int], how: Any) -> Any:
        handle = self._add(number, prompt, how)
        self._kept.read(prompt)
        return handle


class Kept:
    """Which beginnings of prompts a cache of ``room`` tokens holds, as far as can be told from outside: it throws away
    what was not used for longest, so one counts as kept until half of the cache has been written since."""

    def __init__(self, room: int) -> None:
        self._half = room // 2
        self._clock = 0
        """Tokens written so far."""
        self._used: OrderedDict[int, int] = OrderedDict()
        """When each was last used, by its hash; oldest first."""

    def wrote(self, tokens: int) -> None:
        """The cache has so many more."""
        self._clock += tokens

    def of(self, prompt: Sequence[int]) -> int:
        """How many of these tokens, in whole pieces, need not be read."""
        while self._used and next(iter(self._used.values())) < self._clock - self._half:
            self._used.popitem(last=False)
        kept = 0
        for key in _beginnings(prompt):
            if key not in self._used:
                break
            self._use(key)
            kept += _PIECE
        return kept

    def read(self, prompt: Sequence[int]) -> None:
        """All of it has been read, as far as it was not kept."""
        self.wrote(len(prompt) - self.of(prompt))
        for key in _beginnings(prompt):
            self._use(key)

    def _use(self, key: int) -> None:
        self._used[key] = self._clock
        self._used.move_to_end(key)


def _beginnings(prompt: Sequence[int]) -> Iterator[int]:
    """Hashes of the first piece, of the first two, and so on."""
    key = 0
    for start in range(0, len(prompt) - _PIECE + 1, _PIECE):
        key = hash((key, *prompt[start : start + _PIECE]))
        yield key
