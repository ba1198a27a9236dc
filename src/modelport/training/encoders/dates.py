"""A column of dates or times to numbers that models can use: how long ago, and where in the year, week and day.

It is taken as text in ISO 8601 (``2024-05-01``, ``2024-05-01T12:30:00``, a space for the T, a Z at the end); an empty
text is missing; anything else is refused by the model itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import Rows

_PATTERN = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([T ]\d\d:\d\d(:\d\d(\.\d+)?Z?)?)?"
_ISO = re.compile(_PATTERN, re.ASCII)
_NO_TIME = "1970-01-01"


@dataclass(frozen=True, slots=True)
class Dates:
    """Days since the training's mean, month, day, weekday, minute of the day, their circles, and whether it lacks."""

    column: str
    mean: float
    scale: float

    @classmethod
    def fit(cls, rows: Rows, column: str) -> Self:
        """The mean and deviation of the day."""
        moments, known = _moments(rows[column])
        days = moments[known].astype("datetime64[D]").astype(np.float64)
        return cls(column, float(days.mean()) if len(days) else 0.0, (float(days.std()) if len(days) else 0.0) or 1.0)

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and what of it."""
        parts = ("days", "month", "day", "weekday", "minute", "sin year", "sin week", "sin day", "cos year",
                 "cos week", "cos day", "missing")  # fmt: skip
        return [(self.column, part) for part in parts]

    def transform(self, rows: Rows) -> Array:
        """[rows, 12] float32."""
        moments, known = _moments(rows[self.column])
        days = moments.astype("datetime64[D]").astype(np.int64)
        months = moments.astype("datetime64[M]")
        month = months.astype(np.int64) % 12 + 1
        day = days - months.astype("datetime64[D]").astype(np.int64) + 1
        minute = moments.astype("datetime64[m]").astype(np.int64) - days * 1440
        return self._features(days, month, day, (days + 3) % 7, minute, known)

    def _features(self, days: Array, month: Array, day: Array, weekday: Array, minute: Array, known: Array) -> Array:
        circles = np.stack([(month - 1) / 12 + (day - 1) / 372, weekday / 7, minute / 1440], 1) * (2 * np.pi)
        plain = np.stack([(days - self.mean) / self.scale, month / 12, day / 31, weekday / 7, minute / 1440], 1)
        found = np.concatenate([plain, np.sin(circles), np.cos(circles)], axis=1)
        found *= known[:, None]
        return np.concatenate([found, ~known[:, None]], axis=1).astype(np.float32)

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        text = graph.input(self.column, "BYTES")
        missing = graph.add("Equal", text, graph.constant([""], object))
        fits = graph.add("RegexFullMatch", text, pattern=_PATTERN)
        other = graph.add(
            "Where", missing, graph.constant([_NO_TIME], object), graph.constant(["no ISO 8601 date"], object)
        )
        year, month, day, minute = _parsed(graph, graph.add("Where", fits, text, other), self.column)
        days = _days(graph, year, month, day)
        weekday = graph.add("Mod", graph.add("Add", days, graph.constant([3 + 7 * 10**6])), graph.constant([7]))
        plain, circles = self._scaled(graph, days, month, day, weekday, minute)
        found = graph.add("Concat", plain, graph.add("Sin", circles), graph.add("Cos", circles), axis=1)
        found = graph.add("Mul", graph.cast(found, "FP32"), graph.cast(graph.add("Not", missing), "FP32"))
        return str(graph.add("Concat", found, graph.cast(missing, "FP32"), axis=1))

    def _scaled(self, graph: Graph, days: str, month: str, day: str, weekday: str, minute: str) -> tuple[str, str]:
        """``_features`` before sine and cosine, FP64."""
        whole = graph.cast(graph.add("Concat", days, month, day, weekday, minute, axis=1), "FP64")
        whole = graph.add("Sub", whole, graph.constant([[self.mean, 0.0, 0.0, 0.0, 0.0]]))
        plain = graph.add("Div", whole, graph.constant([[self.scale, 12.0, 31.0, 7.0, 1440.0]]))
        # month/12 - 1/12 + day/372 - 1/372, weekday/7, minute/1440
        mix = np.zeros((5, 3))
        mix[1, 0], mix[2, 0], mix[3, 1], mix[4, 2] = 1, 31 / 372, 1, 1
        turns = graph.add("MatMul", plain, graph.constant(mix))
        turns = graph.add("Sub", turns, graph.constant([[1 / 12 + 1 / 372, 0.0, 0.0]]))
        return plain, graph.add("Mul", turns, graph.constant(2 * np.pi))


def _parsed(graph: Graph, text: str, column: str) -> tuple[str, str, str, str]:
    """Year, month, day and minute of the day as INT64 [rows, 1]."""

    def split(value: str, more: str, delimiter: str | None, count: int) -> list[str]:
        """The first texts between delimiters; ``more`` sees to it that there are so many."""
        longer = graph.add("StringConcat", value, graph.constant([more], object))
        how = {} if delimiter is None else {"delimiter": delimiter}
        pieces = graph.shaped(graph.add("StringSplit", longer, outputs=2, **how)[0], 0, -1)
        return [graph.columns(pieces, at, at + 1) for at in range(count)]

    first, spaced = split(text, " _ _", None, 2)
    date, joined = split(first, "T_", "T", 2)
    nothing = graph.constant(["_"], object)
    time = graph.add("Where", graph.add("Equal", joined, nothing), spaced, joined)
    time = graph.add("Where", graph.add("Equal", time, nothing), graph.constant(["00:00"], object), time)
    year, month, day = split(date, "-0-0", "-", 3)
    hour, minute = split(time, ":00", ":", 2)
    numbers = [
        # a text that is no date fails at the first of these, and the caller is told its name
        graph.cast(
            part, "INT64", called=f"{column} is no date in ISO 8601, of which the {what} is read".replace("'", "")
        )
        for part, what in ((year, "year"), (month, "month"), (day, "day"), (hour, "hour"), (minute, "minute"))
    ]
    of_day = graph.add("Add", graph.add("Mul", numbers[3], graph.constant([60])), numbers[4])
    return numbers[0], numbers[1], numbers[2], of_day


def _days(graph: Graph, year: str, month: str, day: str) -> str:
    """Days since 1970 of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms")."""

    def constant(value: int) -> str:
        return graph.constant([value], np.int64)

    early = graph.cast(graph.add("LessOrEqual", month, constant(2)), "INT64")
    year = graph.add("Sub", year, early)
    era = graph.add("Div", year, constant(400))
    of_era = graph.add("Sub", year, graph.add("Mul", era, constant(400)))
    shifted = graph.add("Mod", graph.add("Add", month, constant(9)), constant(12))
    of_year = graph.add("Div", graph.add("Add", graph.add("Mul", shifted, constant(153)), constant(2)), constant(5))
    of_year = graph.add("Add", of_year, graph.add("Sub", day, constant(1)))
    days = graph.add("Add", graph.add("Mul", of_era, constant(365)), graph.add("Div", of_era, constant(4)))
    days = graph.add("Add", graph.add("Sub", days, graph.add("Div", of_era, constant(100))), of_year)
    days = graph.add("Add", days, graph.add("Mul", era, constant(146_097)))
    return str(graph.add("Sub", days, constant(719_468)))


def _moments(texts: Array) -> tuple[Array, Array]:
    """As datetime64[us], and which are there."""
    known = np.array([text != "" for text in texts.tolist()], bool)
    filled = [text.removesuffix("Z") if text else _NO_TIME for text in texts.tolist()]
    wrong = next((text for text in filled if not _ISO.fullmatch(text)), None)
    if wrong is not None:
        raise InvalidInput(
            f"{wrong[:80]!r} is no date in ISO 8601, such as 2024-05-01T12:30:00; clean the column first"
        )
    return np.array(filled, "datetime64[us]"), known
