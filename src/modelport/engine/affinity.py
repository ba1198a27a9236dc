"""Which replica of a language model gets the next request: the one that has seen its beginning, unless it is busier.

A replica keeps what it computed for a prompt's beginning, so that a conversation's next turn costs only what is new.
The beginning is known here by hashes of the text in blocks: no tokenizer is needed. Knows links and requests; knows
no tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelport.engine.generation import Asked

if TYPE_CHECKING:
    from modelport.engine.link import Link, Pending

_BLOCK = 256
"""Characters; what is shorter is not worth a busier replica."""
_MOST_BLOCKS = 256
_REMEMBERED = 65_536
_SPARE = 2
"""So many more requests than the least busy one may the replica have that knows the beginning; or twice as many."""


def beginnings(asked: Asked) -> tuple[bytes, ...]:
    """A hash for each growing beginning of what is asked, shortest first."""
    if asked.only is not None:  # the replica computes nothing that it could keep
        return ()
    if asked.messages is not None:
        text = json.dumps([asked.adapter, asked.tools, asked.messages], separators=(",", ":"))
    else:
        text = json.dumps([asked.adapter, asked.prompt, asked.tokens], separators=(",", ":"))
    digest = hashlib.blake2b(digest_size=8)
    found = []
    for start in range(0, min(len(text) // _BLOCK, _MOST_BLOCKS) * _BLOCK, _BLOCK):
        digest.update(text[start : start + _BLOCK].encode())
        found.append(digest.digest())
    return tuple(found)


class Affinity:
    """Who has seen what, of one endpoint in one gateway."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, str] = OrderedDict()

    def choose(self, pending: Pending, links: Sequence[Link]) -> Link:
        """Of these links, and remember it."""
        least = min(links, key=lambda link: link.load)
        chosen = least
        if len(links) > 1:
            knows = self._longest(pending.beginnings, {link.address.id: link for link in links})
            if knows is not None and knows.load <= max(least.load + _SPARE, 2 * least.load):
                chosen = knows
            for beginning in pending.beginnings:
                self._seen[beginning] = chosen.address.id
                self._seen.move_to_end(beginning)
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        return chosen

    def _longest(self, wanted: Sequence[bytes], links: dict[str, Link]) -> Link | None:
        for beginning in reversed(wanted):
            link = links.get(self._seen.get(beginning, ""))
            if link is not None:
                return link
        return None
