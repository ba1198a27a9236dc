"""When requests are due: a Poisson process of a rate, or the times that a log holds.

Times are seconds from the start, ascending. Knows no server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from modelport.errors import InvalidInput, NotFound
from modelport.tensors import Array


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of a log: when, and what was sent where it says so."""

    at: float
    path: str | None
    body: bytes | None


def poisson(rate: float, seconds: float, seed: int) -> Array:
    """Arrivals that know nothing of one another, ``rate`` a second on average, as one seed always gives them."""
    rng = np.random.default_rng(seed)
    count = int(rate * seconds + 6 * (rate * seconds) ** 0.5) + 16
    times = np.cumsum(rng.exponential(1 / rate, count))
    while times[-1] < seconds:  # six standard deviations too few happen one day
        times = np.concatenate([times, times[-1] + np.cumsum(rng.exponential(1 / rate, count))])
    return times[times < seconds]


def replayed(file: Path, speed: float = 1.0, seconds: float | None = None) -> list[Logged]:
    """The requests of a log, from its first on, ``speed`` times as fast and for at most ``seconds``.

    Raises NotFound, InvalidInput with the line that cannot be read.
    """
    if not file.is_file():
        raise NotFound(f"--replay {str(file)[:200]!r} is no file; give one JSON object per line, with a 'time'")
    found = sorted(_lines(file), key=lambda line: line.at)
    if not found:
        raise InvalidInput(f"--replay {file.name!r} holds no requests; give one JSON object per line, with a 'time'")
    first = found[0].at
    shifted = [Logged((line.at - first) / speed, line.path, line.body) for line in found]
    return [line for line in shifted if seconds is None or line.at < seconds]


def _lines(file: Path) -> Iterator[Logged]:
    for number, raw in enumerate(file.read_bytes().splitlines(), start=1):
        if not raw.strip():
            continue
        where = f"--replay {file.name!r} line {number}"
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(
                f"{where} is not JSON: {error}; each line is an object such as {{'time': 0.25}}"
            ) from None
        if not isinstance(line, dict) or "time" not in line:
            raise InvalidInput(f"{where} has no 'time'; give seconds, or a moment like 2026-01-31T12:00:00.250Z")
        path = line.get("path")
        if path is not None and not (isinstance(path, str) and path.startswith("/") and path.isprintable()):
            raise InvalidInput(f"{where}: 'path' is not like /predict/digits; correct it, or leave it out")
        if path is not None and (" " in path or not path.isascii()):
            raise InvalidInput(f"{where}: 'path' holds what a URL has to escape; write a blank as %20")
        yield Logged(_seconds(line["time"], where), path, _body(line["body"]) if "body" in line else None)


def _seconds(given: Any, where: str) -> float:
    """A number of seconds, or a moment as ISO 8601 writes it (UTC where it names no zone)."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"{where}: 'time' is {str(given)[:50]!r}; give seconds, or a moment like 2026-01-31T12:00:00.250Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _body(given: Any) -> bytes:
    """Text goes out as it stands, anything else as JSON."""
    return given.encode() if isinstance(given, str) else orjson.dumps(given)
