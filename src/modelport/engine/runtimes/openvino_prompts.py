"""How prompts get into OpenVINO GenAI's pipeline: which of its steps read them, and how much.

A step writes a token of every text, and reads the prompts that it was given, each in whole. So that those that are
written are not held up by it, a step is given a bounded number of tokens, and a long prompt in pieces. A piece is a
text of its own that ends at once: its blocks stay in the pipeline's prefix cache, where the longer text that begins so
finds them. Prompts that part inside of a block are not given to the same step if the cache may have their beginning up
to there from an earlier text: the pipeline would let both go on in one and the same block, and one of them is answered
with nonsense. Nor does who begins with the whole of another prompt before that one's text has gone on: the one token
that he reads then is rounded otherwise than a prompt in whole, and he would not get the text that he gets alone. What
ends with its first token is therefore read once more. Knows tokens; knows no text that is written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openvino_genai as genai

BLOCK = 32
"""Tokens of a block of the cache: the library's on the CPU."""
MOST = 256
"""Tokens of prompts that a step reads, about."""
_PIECE = 2 * BLOCK
"""Of a long prompt while others are there: no more than many a prompt has in whole."""
_TOKENS_OF_EACH = 4
"""Of the cache's room, for each prompt that is known: more are known than it can hold."""
_PIECES_FROM = 1 << 40
"""Numbers of pieces; those of texts are smaller."""


class Reading:
    """The prompts of one pipeline. ``add`` gives it a request (number, tokens, how it is written), and returns the
    request's handle; pieces are written as ``ends`` says. ``room`` is that of its prefix cache, in tokens; a pipeline
    without one cuts long prompts itself."""

    def __init__(self, room: int, ends: Any, add: Callable[[int, Sequence[int], Any], Any]) -> None:
        self._add, self._ends = add, ends
        self._kept, self._known = Kept(room), Known(room // _TOKENS_OF_EACH)
        self._keeps = room > 0
        self._given: list[Sequence[int]] = []
        """What the step reads that comes next."""
        self._tokens = 0
        """Of these, beyond what the cache has."""
        self._full: list[Sequence[int]] = []
        """What the last step read and ends with a block: until it is gone on from, others may be let in there, too."""
        self._held: dict[int, tuple[Sequence[int], Any]] = {}
        """Those that clash with one of these, with how their texts are written."""
        self._long: dict[int, tuple[Sequence[int], Any]] = {}
        """Those that are read in pieces; who came first first."""
        self._piece: tuple[Sequence[int], Any] | None = None
        """The one that is read: a beginning of a prompt, and its handle."""
        self._ending: list[Any] = []
        """Handles of pieces that have been read: a request whose handle is dropped is, too."""
        self._pieces = 0
        self._fresh: dict[int, tuple[Sequence[int], int]] = {}
        """Prompts whose texts have no second token, and how many they have."""
        self._again: dict[int, tuple[Sequence[int], Any]] = {}
        """Prompts whose texts ended so, which are read once more; and their handles, once they are."""

    @property
    def may_begin(self) -> bool:
        """Whether the next step may read one more prompt."""
        return self._tokens < MOST and not self._held

    def begin(self, number: int, prompt: Sequence[int], how: Any) -> Any | None:
        """The handle of a text whose prompt is read by the next step; None where that is for a later one."""
        prompt = list(prompt)  # they are compared, whatever they came in
        if self._keeps and len(prompt) - self._kept.of(prompt) > MOST:
            self._long[number] = prompt, how
        elif self._clashes(prompt):
            self._held[number] = prompt, how
        else:
            return self._give(number, prompt, how)
        return None

    def go_on(self, beside: bool) -> Iterator[tuple[int, Any]]:
        """Give the next step prompts that have waited for it, and a piece of a long one: by turns of the one that is
        done soonest and of the one that came first. Yields texts whose prompts it brings to their end, and their
        handles. ``beside`` says whether there are other texts."""
        for number, (prompt, handle) in self._again.items():
            if handle is None and not self._meets(prompt):
                self._again[number] = prompt, self._give(number, prompt, self._ends)
        for number, (prompt, how) in list(self._held.items()):
            if self._tokens < MOST and not self._clashes(prompt):
                del self._held[number]
                yield number, self._give(number, prompt, how)
        if self._piece is not None or not self._long:
            return
        left = {number: len(prompt) - self._kept.of(prompt) for number, (prompt, _) in self._long.items()}
        number = next(iter(left)) if self._pieces % 2 else min(left, key=lambda each: left[each])
        prompt, how = self._long[number]
        size = _PIECE if beside or len(left) > 1 else MOST
        piece = prompt[: max(0, len(prompt) - left[number]) + size]
        if self._clashes(piece):
            return
        self._pieces += 1
        if left[number] <= size:
            del self._long[number]
            yield number, self._give(number, prompt, how)
        else:
            self._piece = piece, self._give(_PIECES_FROM + self._pieces, piece, self._ends)

    def stepped(self) -> None:
        """The pipeline has taken its step."""
        self._full = [prompt for prompt in self._given if len(prompt) % BLOCK == 0]
        self._given.clear()
        self._tokens = 0
        if self._piece is not None and (self._piece[1].can_read() or not _runs(self._piece[1])):
            self._ending.append(self._piece[1])
            self._piece = None
        self._ending = [handle for handle in self._ending if _runs(handle)]
        self._again = {number: one for number, one in self._again.items() if one[1] is None or _runs(one[1])}

    def wrote(self, number: int, tokens: int) -> None:
        """A text has gained so many."""
        self._kept.wrote(tokens)
        if (fresh := self._fresh.pop(number, None)) is not None and fresh[1] + tokens < 2:
            self._fresh[number] = fresh[0], fresh[1] + tokens

    def ended(self, number: int) -> None:
        """Nobody waits for this text any more."""
        self._held.pop(number, None)
        self._long.pop(number, None)
        prompt, tokens = self._fresh.pop(number, ((), 0))
        if tokens:
            self._pieces += 1
            self._again[_PIECES_FROM + self._pieces] = prompt, None

    def _clashes(self, prompt: Sequence[int]) -> bool:
        """Whether it meets another one, or would be read from where another ends."""
        ends = [*(one for one, tokens in self._fresh.values() if tokens), *(one for one, _ in self._again.values())]
        return any(prompt[: len(one)] == one for one in ends) or self._meets(prompt)

    def _meets(self, prompt: Sequence[int]) -> bool:
        """Whether this and another one that is read might go on in the same block."""
        partings = [_parting(prompt, other) for other in (*self._given, *self._full)]
        inside = [same for same in partings if same is not None]
        return bool(inside) and self._known.among(prompt, inside)

    def _give(self, number: int, prompt: Sequence[int], how: Any) -> Any:
        handle = self._add(number, prompt, how)
        self._given.append(prompt)
        self._known.add(prompt, goes_on=number < _PIECES_FROM)
        if self._keeps and number < _PIECES_FROM:
            self._fresh[number] = prompt, 0
        self._tokens += len(prompt) - self._kept.of(prompt)
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
        while self._used and next(iter(self._used.values())) <= self._clock - self._half:
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


class Known:
    """The latest ``most`` prompts, whole ones and pieces: where they or their texts end, the cache may have part of a
    block."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._goes_on: OrderedDict[int, bool] = OrderedDict()
        """Whether a text came behind it, by its hash; what was used longest ago first."""

    def add(self, prompt: Sequence[int], goes_on: bool) -> None:
        """One that is read now."""
        key = 0
        for token in prompt:
            key = hash((key, token))
        self._goes_on[key] = goes_on or self._goes_on.get(key, False)
        self._goes_on.move_to_end(key)
        if len(self._goes_on) > self._most:
            self._goes_on.popitem(last=False)

    def among(self, prompt: Sequence[int], lengths: Sequence[int]) -> bool:
        """Whether one of these beginnings of a prompt may have part of its last block in the cache: it begins with
        another prompt, behind which its text may be the same, too, or with a piece that ends in that block."""
        key, last, found = 0, {length: length // BLOCK for length in lengths}, False
        for count, token in enumerate(prompt[: max(lengths)], 1):
            key = hash((key, token))
            if (goes_on := self._goes_on.get(key)) is not None:
                self._goes_on.move_to_end(key)
                found |= any(count <= length and (goes_on or count // BLOCK == at) for length, at in last.items())
        return found


def _beginnings(prompt: Sequence[int]) -> Iterator[int]:
    """Hashes of the first piece, of the first two, and so on."""
    key = 0
    for start in range(0, len(prompt) - _PIECE + 1, _PIECE):
        key = hash((key, *prompt[start : start + _PIECE]))
        yield key


def _parting(one: Sequence[int], other: Sequence[int]) -> int | None:
    """How many tokens two prompts have in common, if they go on differently inside of a block, or one ends there."""
    pairs = enumerate(zip(one, other, strict=False))
    same = next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))
    return None if same % BLOCK == 0 or same == len(one) == len(other) else same


def _runs(handle: Any) -> bool:
    """Whether the pipeline has still to do something for a request."""
    return bool(handle.get_status() == genai.GenerationStatus.RUNNING)
