"""When an answer is no longer wanted: from the header ``x-request-timeout`` (s), a parameter (µs), or the default."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from modelport.api.tensor_json import json_name, shown
from modelport.errors import InvalidInput

HEADER = "x-request-timeout"
_DAY_S = 86_400.0


def deadline(headers: Mapping[str, str], default_s: float, timeout_us: object = None) -> float:
    """The moment on time.monotonic()'s clock; the shorter of what header and parameter ask. Raises InvalidInput.

    ``timeout_us`` of None or 0 means that none was given; beyond a day counts as a day.
    """
    limits = []
    if HEADER in headers:
        limits.append(_header_seconds(headers[HEADER]))
    if timeout_us is not None:
        if type(timeout_us) is not int:
            raise InvalidInput(f"parameter 'timeout' must be an integer of microseconds, not {json_name(timeout_us)}")
        if timeout_us < 0:
            raise InvalidInput("parameter 'timeout' must not be negative; leave it out for the server's own")
        if timeout_us > 0:
            limits.append(min(timeout_us / 1e6, _DAY_S))
    return time.monotonic() + min(limits, default=default_s)


def _header_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise InvalidInput(f"header {HEADER} must be a number of seconds above 0, not {shown(text)}")
    return min(seconds, _DAY_S)
