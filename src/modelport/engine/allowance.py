"""What a key may spend: how many tokens of which language model, counted while they are written.

A request takes from its key's bucket what it may need (its prompt by length, its answer by ``max_tokens``) and gives
back at its end what it did not; one that was not bounded takes the bucket below nothing, and the next one waits until
it has filled again. The buckets of all gateways are one: it is kept elsewhere and leases a little to each
(``Lender``). While the lender is away every gateway counts by itself, with its share of the rate.

Knows keys, endpoints' names and parts; knows no protocol and no way to the lender.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import msgspec

from modelport.engine.generation import Asked, Part
from modelport.engine.requests import Budget, InferRequest
from modelport.engine.routing import KeyEntry, RoutingTable
from modelport.errors import InvalidInput, NotFound, Overloaded

_MINUTE_S = 60.0
_BYTES_PER_TOKEN = 4
"""Of a prompt whose tokens nobody has counted yet, about."""
_SLICES = 60
"""A gateway that asks for tokens gets this part of a minute's more, so that it need not ask each time."""
_GATEWAYS = 4
"""Until the lender has said how many there are."""


class Granted(msgspec.Struct, frozen=True):
    """A lender's answer."""

    tokens: int
    """What was lent: all that was asked for, or nothing."""
    left: int
    """In the bucket, afterwards."""
    wait_s: float = 0
    """Until it would be lent."""
    gateways: int = 1
    """That share it."""


class Loan(msgspec.Struct, frozen=True):
    """What a gateway asks a lender for."""

    key: str
    """Its id."""
    endpoint: str
    per_minute: int
    needed: int = 0
    """Tokens."""
    welcome: int = 0
    """More, if they are there."""
    owed: int = 0
    """Spent already beyond what was lent; less than nothing is given back."""


class Lender(Protocol):
    """Who keeps the buckets. Both raise ConnectionError when nobody answers."""

    async def ask(self, loan: Loan) -> Granted:
        """For tokens."""

    def tell(self, loan: Loan) -> None:
        """Of what is owed."""


_Place = tuple[str, str]
"""A key's id, and an endpoint's name."""


class Bucket:
    """Tokens that are left of a minute's; they come back evenly. The clock is in seconds."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._level, self._at = float(per_minute), now

    def level(self, now: float) -> float:
        """What is there; less than nothing when more was spent than there was."""
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / _MINUTE_S)
        self._at = now
        return self._level

    def lend(self, loan: Loan, now: float) -> Granted:
        """What is needed and, as far as it is there, what is welcome; or nothing."""
        level = self._level = min(self.per_minute, self.level(now) - loan.owed)
        least = min(loan.needed, self.per_minute)
        if level < least:
            return Granted(0, int(level), (least - level) * _MINUTE_S / self.per_minute)
        tokens = int(loan.needed + max(0, min(loan.welcome, level - loan.needed)))
        self._level -= tokens
        return Granted(tokens, int(self._level))


@dataclass(slots=True)
class _Purse:
    """Of one key for one endpoint, in this gateway."""

    tokens: int = 0
    """Lent and not spent; less than nothing is owed."""
    known: int = 0
    """In the lender's bucket, when it last said."""
    own: Bucket | None = None
    """While the lender is away."""


class Allowances:
    """Of every key that is limited in some way."""

    def __init__(self, lender: Lender | None = None) -> None:
        self.lender = lender
        self._keys: dict[str, KeyEntry] = {}
        self._purses: dict[tuple[str, str], _Purse] = {}
        self._gateways = _GATEWAYS

    def update(self, table: RoutingTable) -> None:
        """Go by a new table."""
        self._keys = {
            key.id: key
            for key in table.keys
            if key.models is not None or key.tokens_per_minute is not None or key.max_tokens is not None
        }
        for place in [place for place in self._purses if place[0] not in self._keys]:
            del self._purses[place]

    def may_use(self, caller: str, endpoint: str) -> bool:
        """Whether the key may call the endpoint at all."""
        key = self._keys.get(caller)
        return key is None or key.models is None or endpoint in key.models

    def check(self, caller: str, endpoint: str) -> None:
        """Raises NotFound for an endpoint that the key may not call: as if it were not there."""
        if self._keys and not self.may_use(caller, endpoint):
            raise NotFound(f"no endpoint {endpoint!r} here; `modelport deployments list` shows those there are")

    def capped(self, caller: str, asked: Asked) -> Asked:
        """The request within what one answer may have; raises InvalidInput when it asks for more."""
        key = self._keys.get(caller)
        if key is None or key.max_tokens is None:
            return asked
        wanted = asked.sampling.max_tokens
        if wanted is not None and wanted > key.max_tokens:
            raise InvalidInput.of(
                "max_tokens", f"'max_tokens' is {wanted}; an answer to this key has at most {key.max_tokens}"
            )
        if wanted is not None:
            return asked
        return msgspec.structs.replace(
            asked, sampling=msgspec.structs.replace(asked.sampling, max_tokens=key.max_tokens)
        )

    def limit(self, caller: str) -> int | None:
        """Tokens per minute."""
        key = self._keys.get(caller)
        return None if key is None else key.tokens_per_minute

    async def metered(
        self, parts: AsyncGenerator[Part], asked: Asked, endpoint: str, limit: int, request: InferRequest
    ) -> AsyncGenerator[Part]:
        """The same parts, paid for; raises Overloaded before the first when the key has spent its minute's tokens.

        ``request`` is told how the key stands."""
        async with aclosing(parts):
            place = request.caller, endpoint
            taken = min(_estimate(asked), limit)
            await self._take(place, limit, taken, request)
            prompt = written = 0
            try:
                async for part in parts:
                    prompt, written = max(prompt, part.prompt_tokens), written + len(part.tokens)
                    yield part
            finally:
                self._settle(place, limit, taken - prompt - written)

    async def _take(self, place: _Place, limit: int, tokens: int, request: InferRequest) -> None:
        purse = self._purses.setdefault(place, _Purse())
        while purse.tokens < tokens:
            granted = await self._borrow(purse, Loan(*place, limit, tokens - purse.tokens, limit // _SLICES))
            purse.tokens += granted.tokens
            purse.known = granted.left
            if not granted.tokens and purse.tokens < tokens:
                request.budget = _budget(limit, purse)
                seconds = max(1, math.ceil(granted.wait_s))
                raise Overloaded(
                    f"this key may spend {limit} tokens a minute on the model {place[1]!r} and has spent them; "
                    f"try again in {seconds} s", seconds,
                )  # fmt: skip
        purse.tokens -= tokens
        request.budget = _budget(limit, purse)

    async def _borrow(self, purse: _Purse, loan: Loan) -> Granted:
        if self.lender is not None:
            try:
                granted = await self.lender.ask(loan)
            except ConnectionError:
                pass
            else:
                self._gateways, purse.own = granted.gateways, None
                return granted
        return self._own(purse, loan)

    def _own(self, purse: _Purse, loan: Loan) -> Granted:
        """From this gateway's share."""
        now = time.monotonic()
        share = max(1, loan.per_minute // (self._gateways if self.lender is not None else 1))
        if purse.own is None or purse.own.per_minute != share:
            purse.own = Bucket(share, now)
        return purse.own.lend(loan, now)

    def _settle(self, place: _Place, limit: int, rest: int) -> None:
        """What was taken and not spent comes back; what was spent beyond is owed."""
        purse = self._purses.get(place)
        if purse is None:
            return
        purse.tokens += rest
        keep = min(max(0, purse.tokens), limit // _SLICES)
        if purse.tokens == keep:
            return
        loan = Loan(*place, limit, owed=keep - purse.tokens)
        purse.tokens = keep
        try:
            if self.lender is not None and purse.own is None:
                self.lender.tell(loan)
                return
        except ConnectionError:
            pass
        self._own(purse, loan)


def _estimate(asked: Asked) -> int:
    """Tokens that a request may need, as far as that is known before it is read."""
    if asked.tokens is not None:
        prompt = len(asked.tokens)
    elif asked.prompt is not None:
        prompt = len(asked.prompt.encode()) // _BYTES_PER_TOKEN
    else:
        prompt = sum(len(str(message.get("content")).encode()) for message in asked.messages or ()) // _BYTES_PER_TOKEN
    return max(1, prompt + (asked.sampling.max_tokens or 0))


def _budget(limit: int, purse: _Purse) -> Budget:
    left = max(0, min(limit, purse.known + purse.tokens))
    return Budget(limit, left, (limit - left) * _MINUTE_S / limit)
