"""The buckets of limited keys: one for each key and language model, of which gateways lease what they need.

Kept in memory: a control that starts again begins with full ones. Knows loans; knows no gateway and no request.
"""

from __future__ import annotations

import time

from modelport.engine.allowance import Bucket, Granted, Loan

_MOST = 10_000
"""Buckets; beyond it those that are full are forgotten, which changes nothing for anybody."""


class Quotas:
    """What every key has left."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, str, int], Bucket] = {}

    def lend(self, loan: Loan) -> Granted:
        """What a gateway asks for, or nothing and how long to wait."""
        now = time.monotonic()
        place = loan.key, loan.endpoint, loan.per_minute
        bucket = self._buckets.get(place)
        if bucket is None:
            if len(self._buckets) >= _MOST:
                self._buckets = {
                    known: each for known, each in self._buckets.items() if each.level(now) < each.per_minute
                }
            bucket = self._buckets[place] = Bucket(loan.per_minute, now)
        return bucket.lend(loan, now)
