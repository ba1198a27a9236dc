"""A regular expression as a rule of an EBNF grammar, for use inside a JSON string or by itself.

Read with Python's own parser; what a grammar cannot say (look-around, back references, borders of words) is refused.
Inside a JSON string a class of characters loses those that JSON would want escaped.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

from modelport.errors import InvalidInput

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from re import _constants as codes  # type: ignore[attr-defined]
    from re import _parser as parser  # type: ignore[attr-defined]

_LONGEST = 500
_MOST_REPEATS = 1_000
_MOST_REPEATED = 5_000
"""The product of nested repetitions."""
_ENDLESS = 64
"""So often is repeated at most, inside JSON, what may be repeated for ever."""
_PLAIN = 16
"""Longer repetitions are written in chunks."""
_CHUNK = 16
_CATEGORIES = {
    codes.CATEGORY_DIGIT: "0-9",
    codes.CATEGORY_WORD: "a-zA-Z0-9_",
    codes.CATEGORY_SPACE: " ",
}
_BEGINS = (codes.AT_BEGINNING, codes.AT_BEGINNING_STRING)
_ENDS = (codes.AT_END, codes.AT_END_STRING)
_WORDS = {"assert": "look-ahead and look-behind", "assert not": "look-ahead and look-behind", "at": "a border of words",
          "groupref": "a reference to a group", "groupref exists": "a reference to a group"}  # fmt: skip
"""What the parser calls otherwise."""
_NOT_IN_JSON = '"\\\\\\x00-\\x1f'


def in_brackets(rule: str) -> str:
    """The name of a rule that has none."""
    return f"({rule})"


def rule_of(
    pattern: Any, field: str, *, in_json: bool, where: str | None = None, named: Callable[[str], str] = in_brackets
) -> str:
    """The right side of a rule; ``named`` gives a part of it a name. Raises InvalidInput about ``field``, naming the
    place in it."""
    where = where or field
    if not isinstance(pattern, str) or len(pattern) > _LONGEST:
        raise InvalidInput.of(field, f"{where} is a text of at most {_LONGEST} characters")
    try:
        tree = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidInput.of(field, f"{where} is no regular expression: {error}") from None
    return _Rule(field, where, named, in_json=in_json).sequence(tree, 1, (True, True)) or '""'


def repeated(rule: str, least: int, most: int | None, named: Callable[[str], str]) -> str:
    """A rule so many times. Long ones are made of chunks, which engines read once, where every place of a repetition
    costs them time, and beyond some length every step does."""
    if most is None:
        return f"{rule}{{{least},}}" if least <= _PLAIN else f"{repeated(rule, least, least, named)} {rule}*"
    if most <= _PLAIN:
        return f"{rule}{{{least},{most}}}" if most else ""
    rule = named(rule) if rule.startswith("(") else rule
    chunk = named(f"{rule}{{{_CHUNK}}}")
    chunks, single = divmod(least, _CHUNK)
    must = [_so_often(chunk, chunks, chunks), _so_often(rule, single, single)]
    chunks, single = divmod(most - least, _CHUNK)
    may = _up_to(rule, single, named)
    if chunks:
        fewer = f"{_so_often(chunk, 0, chunks - 1)} {_up_to(rule, _CHUNK - 1, named)}"
        may = f"({fewer} | {_so_often(chunk, chunks, chunks)} {may})"
    return " ".join(filter(None, (*must, may)))


def _up_to(rule: str, most: int, named: Callable[[str], str]) -> str:
    """Each in terms of the one below, which all share."""
    found = ""
    for _ in range(most):
        found = named(f"({rule} {found})?" if found else f"{rule}?")
    return found


def _so_often(rule: str, least: int, most: int) -> str:
    """Nothing for none, which grammar libraries do not all read."""
    return f"{rule}{{{least},{most}}}" if most else ""


class _Rule:
    def __init__(self, field: str, where: str, named: Callable[[str], str], *, in_json: bool) -> None:
        self._field, self._where, self._named, self._in_json = field, where, named, in_json

    def _refuse(self, what: str) -> InvalidInput:
        return InvalidInput.of(self._field, f"{self._where}: {what} cannot be kept to")

    def sequence(self, items: Any, times: int, edges: tuple[bool, bool] = (False, False)) -> str:
        """``edges`` says whether it is at the beginning of the whole, and at its end."""
        items = list(items)
        begins = next((at for at, item in enumerate(items) if not _is_at(item, _BEGINS)), len(items))
        ends = next((at for at, item in enumerate(reversed(items)) if not _is_at(item, _ENDS)), len(items))
        return " ".join(filter(None, (
            self._one(code, value, times, (edges[0] and at <= begins, edges[1] and at >= len(items) - 1 - ends))
            for at, (code, value) in enumerate(items)
        )))  # fmt: skip

    def _one(self, code: Any, value: Any, times: int, edges: tuple[bool, bool]) -> str:
        if code is codes.LITERAL:
            return _quoted(self._escaped(chr(value)))
        if code is codes.ANY:
            return f"[^{_NOT_IN_JSON}]" if self._in_json else "[^\\n\\r]"
        if code is codes.NOT_LITERAL:
            return self._class([(codes.NEGATE, None), (codes.LITERAL, value)])
        if code is codes.IN:
            return self._class(value)
        if code is codes.BRANCH:
            return "(" + " | ".join(self.sequence(branch, times, edges) or '""' for branch in value[1]) + ")"
        if code is codes.SUBPATTERN:
            return "(" + (self.sequence(value[-1], times, edges) or '""') + ")"
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
            low, high, inner = value
            return self._repeat(low, high, inner, times)
        for anchors, at_edge, edge in ((_BEGINS, edges[0], "a beginning"), (_ENDS, edges[1], "an end")):
            if _is_at((code, value), anchors):
                if not at_edge:
                    raise self._refuse(f"{edge} inside of the whole")
                return ""
        word = str(code).lower().replace("_", " ")
        raise self._refuse(_WORDS.get(word, word))

    def _repeat(self, low: int, high: Any, inner: Any, times: int) -> str:
        endless = high is codes.MAXREPEAT
        most = low if endless else high
        if most > _MOST_REPEATS or times * max(most, 1) > _MOST_REPEATED:
            raise self._refuse(f"repeating more than {_MOST_REPEATS} times")
        if high == 0:
            return '""'
        body = f"({self.sequence(inner, times * max(most, 1)) or chr(34) * 2})"
        if endless and self._in_json:  # a small model would not find the end
            high, endless = max(low, _ENDLESS), False
        return repeated(body, low, None if endless else high, self._named)

    def _class(self, members: list[tuple[Any, Any]]) -> str:
        negated, said = False, ""
        for code, value in members:
            if code is codes.NEGATE:
                negated = True
            elif code is codes.LITERAL:
                said += self._member(value, negated=negated)
            elif code is codes.RANGE:
                said += self._range(*value, negated=negated)
            elif code is codes.CATEGORY and value in _CATEGORIES:
                said += _CATEGORIES[value]
            else:
                raise self._refuse("such a class of characters")
        if negated and self._in_json:
            said += _NOT_IN_JSON
        if not said:
            raise self._refuse("a class of characters that JSON writes differently")
        return f"[{'^' if negated else ''}{said}]"

    def _member(self, code: int, *, negated: bool) -> str:
        if self._in_json and not negated and (chr(code) in '"\\' or code < 32):
            return ""
        return _in_class(code)

    def _range(self, low: int, high: int, *, negated: bool) -> str:
        if not self._in_json or negated or low > 92 or high < 32:
            return f"{_in_class(low)}-{_in_class(high)}"
        pieces, start = "", max(low, 32)
        for stop in (34, 92):  # what JSON escapes
            if start <= stop <= high:
                pieces += f"{_in_class(start)}-{_in_class(stop - 1)}" if stop > start else ""
                start = stop + 1
        return pieces + (f"{_in_class(start)}-{_in_class(high)}" if start <= high else "")

    def _escaped(self, character: str) -> str:
        if not self._in_json:
            return character
        if character in '"\\':
            return "\\" + character
        if ord(character) < 32:
            raise self._refuse("a control character")
        return character


def _is_at(item: tuple[Any, Any], anchors: tuple[Any, ...]) -> bool:
    return item[0] is codes.AT and item[1] in anchors


def _in_class(code: int) -> str:
    character = chr(code)
    if character in "\\]^-[":
        return "\\" + character
    return character if 32 <= code < 127 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def _quoted(text: str) -> str:
    """A literal of a grammar."""
    return '"' + "".join(_in_literal(character) for character in text) + '"'


def _in_literal(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    return character if 32 <= code < 127 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


quoted = _quoted
