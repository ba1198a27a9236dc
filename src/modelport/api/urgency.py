"""How urgent a request is: when its answer is no longer wanted, and before whose it comes.

From the headers ``x-request-timeout`` (s) and ``x-request-priority`` (1 to 9, lower first), V2's parameters ``timeout``
(µs) and ``priority``, or the defaults.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from modelport.api.tensor_json import json_name, shown
from modelport.engine.requests import NORMAL
from modelport.errors import InvalidInput

HEADER = "x-request-timeout"
PRIORITY_HEADER = "x-request-priority"
_DAY_S = 86_400.0
_LEAST_URGENT = 9
_LEVELS = frozenset(map(str, range(1, _LEAST_URGENT + 1)))


def deadline(headers: Mapping[str, str], default_s: float, timeout_us: object = None) -> float:
    """The moment on time.monotonic()'s clock; the shorter of what header and parameter ask. Raises InvalidInput.

    ``timeout_us`` of None or 0 means that none was given; beyond a day counts as a day.
    """
    if timeout_us is None and HEADER not in headers:
        return time.monotonic() + default_s
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


def priority(headers: Mapping[str, str], parameter: object = None) -> int:
    """1 to 9, lower first; the parameter goes before the header. Raises InvalidInput.

    As in Triton a parameter of 0 asks for the default, and levels that do not exist count as the last.
    """
    if parameter is not None:
        if type(parameter) is not int or parameter < 0:
            raise InvalidInput(f"parameter 'priority' must be an integer from 1 (first) to {_LEAST_URGENT}, or 0")
        return min(parameter, _LEAST_URGENT) or NORMAL
    text = headers.get(PRIORITY_HEADER)
    if text is None:
        return NORMAL
    if text not in _LEVELS:
        raise InvalidInput(f"header {PRIORITY_HEADER} must be 1 (first) to {_LEAST_URGENT}, not {shown(text)}")
    return int(text)
