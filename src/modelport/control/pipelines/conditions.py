"""Conditions of pipelines: ``accuracy >= 0.97 and parameters.publish``. Parsed by Python's own parser, and nothing but
comparisons, ``and``, ``or``, ``not``, names with dots, numbers, texts, ``true``, ``false`` and ``null`` is let through;
nothing is ever executed.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from modelport.errors import InvalidInput

Lookup = Callable[[str], Any]
"""The value of a name with dots; raises InvalidInput for one that there is not."""

_LONGEST = 500
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.In: ("in", lambda a, b: a in b),
    ast.NotIn: ("not in", lambda a, b: a not in b),
}
_EQUALITY = (ast.Eq, ast.NotEq)


class Condition:
    """One condition, parsed; raises InvalidInput that names what it cannot be."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        if len(self.text) > _LONGEST:
            raise InvalidInput(f"condition {self.text[:40]!r}…: it is longer than {_LONGEST} characters")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Python warns of odd code; this is none
                self._tree = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise InvalidInput(
                f'condition {self.text[:200]!r}: it is not like "accuracy >= 0.97 and rows > 100"'
            ) from None
        try:
            self.names = tuple(dict.fromkeys(self._check(self._tree)))
        except RecursionError:
            raise InvalidInput(f"condition {self.text[:200]!r}: it is nested too deeply") from None

    def holds(self, lookup: Lookup) -> bool:
        """Whether it is so; raises InvalidInput where values cannot be compared, or it is no yes or no."""
        found = self._value(self._tree, lookup)
        if not isinstance(found, bool):
            raise InvalidInput(f"condition {self.text!r}: it gives {found!r}, which is neither true nor false")
        return found

    def shown(self, lookup: Lookup) -> str:
        """The values of its names: ``accuracy is 0.93``."""
        return ", ".join(f"{name} is {str(lookup(name))[:100]}" for name in self.names)

    def _check(self, node: ast.expr) -> Iterator[str]:
        """The names in it; raises InvalidInput for what a condition does not have."""
        match node:
            case ast.Constant(value=str() | int() | float() | bool() | None):
                return
            case ast.Name(id=name):
                if name not in _WORDS:
                    yield name
            case ast.Attribute():
                yield self._path(node)
            case ast.BoolOp(values=values):
                for value in values:
                    yield from self._check(value)
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield from self._check(operand)
            case ast.Compare(left=left, comparators=right, ops=ops) if all(type(op) in _COMPARE for op in ops):
                for value in (left, *right):
                    yield from self._check(value)
            case ast.List(elts=values) | ast.Tuple(elts=values):
                for value in values:
                    yield from self._check(value)
            case _:
                raise self._refused(node)

    def _refused(self, node: ast.expr) -> InvalidInput:
        part = ast.get_source_segment(self.text, node) or self.text
        return InvalidInput(
            f"condition {self.text[:200]!r}: {part[:60]!r} is not taken; it takes comparisons, and, or, not, names, "
            "numbers, texts and lists"
        )

    def _path(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            return f"{self._path(node.value)}.{node.attr}"
        raise self._refused(node)

    def _value(self, node: ast.expr, lookup: Lookup) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name(id=name) if name in _WORDS:
                return _WORDS[name]
            case ast.Name() | ast.Attribute():
                return lookup(self._path(node))
            case ast.BoolOp(op=joined, values=values):
                wanted = isinstance(joined, ast.Or)
                for value in values:
                    if self._truth(self._value(value, lookup)) is wanted:
                        return wanted
                return not wanted
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._truth(self._value(operand, lookup))
            case ast.UnaryOp(operand=operand):
                number = self._value(operand, lookup)
                if isinstance(number, bool) or not isinstance(number, int | float):
                    raise InvalidInput(f"condition {self.text!r}: -{number!r} is no number")
                return -number
            case ast.List(elts=values) | ast.Tuple(elts=values):
                return [self._value(value, lookup) for value in values]
            case ast.Compare(left=first, ops=ops, comparators=rest):
                left = self._value(first, lookup)
                for op, following in zip(ops, rest, strict=True):
                    right = self._value(following, lookup)
                    if not self._compare(op, left, right):
                        return False
                    left = right
                return True
        raise AssertionError("_check lets nothing else through")

    def _compare(self, op: ast.cmpop, left: Any, right: Any) -> bool:
        sign, compare = _COMPARE[type(op)]
        comparable = isinstance(op, _EQUALITY) or (
            isinstance(right, list | str | dict)
            if isinstance(op, ast.In | ast.NotIn)
            else _both(left, right, (int, float)) or _both(left, right, (str,))
        )
        try:
            if comparable:
                return bool(compare(left, right))
        except TypeError:
            pass
        raise InvalidInput(f"condition {self.text!r}: {str(left)[:60]!r} {sign} {str(right)[:60]!r} cannot be told")

    def _truth(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise InvalidInput(f"condition {self.text!r}: {str(value)[:60]!r} is neither true nor false")
        return value


def _both(left: Any, right: Any, kinds: tuple[type, ...]) -> bool:
    return all(isinstance(value, kinds) and not isinstance(value, bool) for value in (left, right))
