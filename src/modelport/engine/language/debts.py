"""What callers owe each other for prompts: while one is read, the texts of others stand still.

Beside others, the prompts of one caller take at most half of the time: for every second of them he owes one. Of what
he leaves unfinished he owes three times as much, so that nobody keeps a model busy with what he does not want. A small
debt bars nobody. Who was there a moment ago still counts: he finds no heap of prompts when he comes back. Knows
seconds; knows neither texts nor engines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

_SMALL_S = 0.1
_OF_LEFT = 2.0
"""For a second of a prompt whose text he leaves, beyond the one that he owes for every prompt."""
_THERE_S = 1.0
"""For which a caller is still there when his last text is complete."""
_LATELY_S = 60.0
"""For which others leave slots free for him: nobody can be stopped in a text to make room."""
_RECENT = 0.2
"""Weight of the last step in what a step usually takes."""


class Debts:
    """Of the callers of one replica."""

    def __init__(self) -> None:
        self._of: dict[str, float] = {}
        """Seconds."""
        self._seen: dict[str, float] = {}
        """Seconds since a caller had a text under way."""
        self._usual = 0.0
        """Seconds of a step that reads no prompt."""

    def stepped(
        self, seconds: float, callers: Collection[str], read: Mapping[str, int], wrote: bool, idle: float = 0.0
    ) -> float:
        """A step took ``seconds``, while ``callers`` had texts under way: it read so many tokens of prompts of each,
        and ``wrote`` something for other texts; nothing was done for ``idle`` seconds before. Returns the seconds of a
        token that was read."""
        cost = max(0.0, seconds - self._usual) if wrote else seconds
        if not read:
            self._usual += _RECENT * (seconds - self._usual)
        each = cost / sum(read.values()) if read else 0.0
        passed = seconds + idle
        self._seen = {caller: ago + passed for caller, ago in self._seen.items() if ago + passed < _LATELY_S}
        self._seen |= dict.fromkeys(callers, 0.0)
        for caller in self._of.keys() | read.keys():
            own = each * read.get(caller, 0)
            self._owe(caller, own - (passed - own))
        return each

    def left(self, caller: str, seconds: float) -> None:
        """He does not want a text any more whose prompt took so long."""
        self._owe(caller, _OF_LEFT * seconds)

    def _owe(self, caller: str, seconds: float) -> None:
        owed = self._of.pop(caller, 0.0) + seconds
        if owed > 0 and self.beside(caller):
            self._of[caller] = owed

    def beside(self, caller: str) -> set[str]:
        """The others who are there."""
        return {other for other, ago in self._seen.items() if ago < _THERE_S} - {caller}

    def lately(self, caller: str) -> set[str]:
        """The others who were there in the last minute."""
        return self._seen.keys() - {caller}

    def bars(self, caller: str) -> bool:
        """Whether his next prompt waits while others write."""
        return self._of.get(caller, 0.0) > _SMALL_S
