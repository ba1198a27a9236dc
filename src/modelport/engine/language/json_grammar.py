"""A JSON schema as a grammar whose every text is valid: compact, so that a model cannot write blanks for ever.

Grammar libraries compile schemas too, but pass over what they do not know in silence, and allow any white space, in
which small models lose themselves. Here a keyword that cannot be kept to is refused by its path, and the size of all is
bounded. The grammar is EBNF as xgrammar reads it. JSON Schema 2020-12.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from modelport.engine.language.grammar_cost import can_end, check_cost
from modelport.engine.language.grammar_spelling import spelt
from modelport.engine.language.regex_grammar import quoted, repeated, rule_of
from modelport.errors import InvalidInput

_MOST_BYTES = 64 << 10
_DEEPEST = 24
_MOST_RULES = 2_000
_MOST_CHOICES = 1_000
_MOST_REPEATS = 1_000
_WORDS = frozenset({
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly",
    "$defs", "definitions", "nullable",
})  # fmt: skip
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "boolean": set(),
    "null": set(),
}  # fmt: skip
_DAY = "(0[1-9]|[12][0-9]|3[01])"
_DATE = "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"  # days that every month has
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "email": "[a-z0-9]{1,20}([._+-][a-z0-9]{1,20}){0,2}@[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,2}\\.[a-z]{2,6}",
    "uuid": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "ipv4": f"{_BYTE}(\\.{_BYTE}){{3}}",
    "hostname": "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,3}",
    "uri": "https?://[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){1,3}(/[a-zA-Z0-9._~-]{1,30}){0,5}",
}
_BASICS = {
    "char": '[^"\\\\\\x00-\\x1f] | "\\\\" ["\\\\/bfnrt]',
    "string": '"\\"" char* "\\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": 'integer ("." [0-9]{1,12})? ([eE] [+-]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "any": "string | number | boolean | null | map | list",
    "map": '"{" (string ": " any (", " string ": " any)*)? "}"',
    "list": '"[" (any (", " any)*)? "]"',
}
_PARTS = {"string": "char", "number": "integer", "any": "string number boolean null map list", "map": "string any",
          "list": "any"}  # fmt: skip


def grammar_of(schema: dict[str, Any], field: str) -> str:
    """The whole grammar, beginning with ``root``; raises InvalidInput naming the path of what cannot be kept to."""
    try:
        if len(json.dumps(schema)) > _MOST_BYTES:
            raise InvalidInput.of(field, f"{field!r} is larger than {_MOST_BYTES >> 10} KiB")
        grammar = _Grammar(schema, field).text()
    except RecursionError:
        raise InvalidInput.of(field, f"{field!r} is nested too deeply") from None
    if not can_end(grammar):
        raise InvalidInput.of(field, f"{field!r} refers to itself without an end: no value is valid")
    check_cost([grammar], field)
    return spelt(grammar)


def any_object() -> str:
    """The grammar of any JSON object."""
    return grammar_of({"type": "object"}, "response_format")


class _Grammar:
    def __init__(self, schema: dict[str, Any], field: str) -> None:
        self._schema, self._field = schema, field
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}
        """Of rules, by what they say: engines read each once."""
        self._references: dict[str, str] = {}

    def text(self) -> str:
        root = self._value(self._schema, self._field, 0)
        return "\n".join([f"root ::= {root}", *(f"{name} ::= {rule}" for name, rule in self._rules.items())]) + "\n"

    def _refuse(self, path: str, why: str) -> InvalidInput:
        return InvalidInput.of(self._field, f"{path}: {why}")

    def _add(self, name: str, rule: str, path: str) -> str:
        self._rules[name] = rule
        if len(self._rules) > _MOST_RULES:
            raise self._refuse(path, f"the schema has more than {_MOST_RULES} parts")
        return name

    def _new(self, rule: str, path: str) -> str:
        if rule not in self._names:
            self._names[rule] = self._add(f"r{len(self._names) + 1}", rule, path)
        return self._names[rule]

    def _times(self, rule: str, least: int, most: int | None, path: str) -> str:
        """A rule repeated."""
        return repeated(rule, max(0, least), most, lambda part: self._new(part, path))

    def _basic(self, name: str) -> str:
        if name not in self._rules:
            self._rules[name] = _BASICS[name]
            for part in _PARTS.get(name, "").split():
                self._basic(part)
        return name

    # -- values ---------------------------------------------------------------------------------------------------

    def _value(self, node: Any, path: str, depth: int) -> str:
        """An expression for one value."""
        if depth > _DEEPEST:
            raise self._refuse(path, f"the schema is nested deeper than {_DEEPEST}")
        if node is True or node == {}:
            return self._basic("any")
        if not isinstance(node, dict):
            raise self._refuse(path, "this is no JSON schema")
        known = {key for key in node if key not in _WORDS}
        for key, make in (("$ref", self._reference), ("const", self._const), ("enum", self._enum),
                          ("anyOf", self._any_of), ("allOf", self._all_of)):  # fmt: skip
            if key in known:
                others = known - {key, "type"}
                if others:
                    raise self._refuse(path, f"{_listed(others)} beside {key!r} cannot be kept to")
                return make(node, path, depth)
        return self._typed(node, known, path, depth)

    def _typed(self, node: dict[str, Any], known: set[str], path: str, depth: int) -> str:
        kinds = self._kinds(node, path)
        if not kinds:
            kinds = [kind for kind, keys in _OF_TYPE.items() if known & keys][:1]
            if not kinds:
                if known:
                    raise self._refuse(path, f"the keyword {_listed(known)} cannot be kept to; leave it out")
                return self._basic("any")
        strange = known - {"type"} - set().union(*(_OF_TYPE[kind] for kind in kinds))
        if strange:
            raise self._refuse(path, f"the keyword {_listed(strange)} cannot be kept to; leave it out")
        made = [getattr(self, f"_{kind}")(node, path, depth) for kind in kinds]
        return made[0] if len(made) == 1 else self._new(" | ".join(made), path)

    def _kinds(self, node: dict[str, Any], path: str) -> list[str]:
        """The types that it names; none, if it names none."""
        if "type" not in node:
            return []
        kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
        if not kinds or any(not isinstance(kind, str) or kind not in _OF_TYPE for kind in kinds):
            raise self._refuse(path, f"'type' is one of {', '.join(_OF_TYPE)}, or a list of them")
        return [*kinds, "null"] if node.get("nullable") is True and "null" not in kinds else kinds

    def _reference(self, node: dict[str, Any], path: str, depth: int) -> str:
        target = node["$ref"]
        if not isinstance(target, str) or not target.startswith("#"):
            raise self._refuse(path, "'$ref' must point into the schema itself")
        if target in self._references:
            return self._references[target]
        found: Any = self._schema
        for step in target[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise self._refuse(path, f"'$ref' {target[:80]!r} points nowhere")
            found = found[name]
        name = self._references[target] = f"ref{len(self._references) + 1}"
        self._add(name, '""', path)  # the place is taken before the target is read: it may refer to itself
        rule = self._value(found, f"{path}.{target[:60]}", depth + 1)
        if rule == name:
            raise self._refuse(path, "'$ref' refers to itself and nothing else")
        return self._add(name, rule, path)

    def _const(self, node: dict[str, Any], path: str, depth: int) -> str:
        return quoted(_written(self._of_its_type([node["const"]], node, path)[0]))

    def _enum(self, node: dict[str, Any], path: str, depth: int) -> str:
        values = node["enum"]
        if not isinstance(values, list) or not 1 <= len(values) <= _MOST_CHOICES:
            raise self._refuse(path, f"'enum' is a list of 1 to {_MOST_CHOICES} values")
        of_type = self._of_its_type(values, node, path)
        return self._new(" | ".join(quoted(_written(value)) for value in of_type), path)

    def _of_its_type(self, values: list[Any], node: dict[str, Any], path: str) -> list[Any]:
        kinds = self._kinds(node, path)
        found = [value for value in values if not kinds or _kinds_of(value) & {*kinds}]
        if not found:
            raise self._refuse(path, f"none of its values is of the type {', '.join(kinds)}")
        return found

    def _any_of(self, node: dict[str, Any], path: str, depth: int) -> str:
        inner = node["anyOf"]
        if not isinstance(inner, list) or not 1 <= len(inner) <= _MOST_CHOICES:
            raise self._refuse(path, "'anyOf' is a list of schemas")
        made = [self._value(each, f"{path}.anyOf[{number}]", depth + 1) for number, each in enumerate(inner)]
        return self._new(" | ".join(made), path)

    def _all_of(self, node: dict[str, Any], path: str, depth: int) -> str:
        inner = node["allOf"]
        if not isinstance(inner, list) or len(inner) != 1:
            raise self._refuse(path, "'allOf' of several schemas cannot be kept to; merge them into one")
        return self._value(inner[0], f"{path}.allOf[0]", depth + 1)

    # -- types ----------------------------------------------------------------------------------------------------

    def _null(self, node: dict[str, Any], path: str, depth: int) -> str:
        return self._basic("null")

    def _boolean(self, node: dict[str, Any], path: str, depth: int) -> str:
        return self._basic("boolean")

    def _string(self, node: dict[str, Any], path: str, depth: int) -> str:
        least, most = self._bounds(node, "minLength", "maxLength", path)
        ruled = [key for key in ("pattern", "format") if key in node]
        if ruled:
            if len(ruled) > 1 or least or most is not None:
                raise self._refuse(path, f"{ruled[0]!r} beside other bounds of a text cannot be kept to; say one")
            if "format" in node and (not isinstance(node["format"], str) or node["format"] not in _FORMATS):
                raise self._refuse(
                    path, f"the format {str(node['format'])[:60]!r} cannot be kept to; {', '.join(_FORMATS)} can"
                )
            pattern = node["pattern"] if "pattern" in node else _FORMATS[node["format"]]
            where = f"{path}.{ruled[0]}"
            rule = rule_of(pattern, self._field, in_json=True, where=where, named=lambda part: self._new(part, path))
            return self._new(f'"\\"" ({rule}) "\\""', path)  # of what a pattern may find anywhere, the whole is one
        if not least and most is None:
            return self._basic("string")
        self._basic("char")
        return self._new(f'"\\"" {self._times("char", least, most, path)} "\\""', path)

    def _integer(self, node: dict[str, Any], path: str, depth: int) -> str:
        low, high = self._limits(node, path)
        if low is None and high is None:
            return self._basic("integer")
        first = -(10**15) if low is None else math.ceil(low)
        last = 10**15 if high is None else math.floor(high)
        if low is not None and "exclusiveMinimum" in node and first == low:
            first += 1
        if high is not None and "exclusiveMaximum" in node and last == high:
            last -= 1
        if first > last:
            raise self._refuse(path, "no whole number lies within its bounds")
        return self._new(" | ".join(_whole(first, last)), path)

    def _number(self, node: dict[str, Any], path: str, depth: int) -> str:
        low, high = self._limits(node, path)
        if low is None and high is None:
            return self._basic("number")
        first = -(10**15) if low is None else math.ceil(low)
        last = 10**15 if high is None else math.floor(high)
        strict = "exclusiveMinimum" in node or "exclusiveMaximum" in node
        ways = []
        if first <= last and not strict:
            ways += _whole(first, last)
        # between two whole numbers that are within the bounds, any fraction is
        if max(first, 0) < last:
            ways += [f'({way}) "." [0-9]{{0,11}} [1-9]' for way in _whole(max(first, 0), last - 1)]
        if first < min(last, 0):
            ways += [f'"-" ({way}) "." [0-9]{{0,11}} [1-9]' for way in _whole(max(0, -last), -first - 1)]
        if not ways:
            raise self._refuse(path, "bounds of a number with no whole number between them cannot be kept to")
        return self._new(" | ".join(ways), path)

    def _limits(self, node: dict[str, Any], path: str) -> tuple[float | None, float | None]:
        found: list[float | None] = []
        for plain, strict, pick in (("minimum", "exclusiveMinimum", max), ("maximum", "exclusiveMaximum", min)):
            given = [node[key] for key in (plain, strict) if key in node]
            for value in given:
                if type(value) not in (int, float) or not abs(value) <= 1e15:
                    raise self._refuse(path, f"{plain!r} is a number of at most 15 digits")
            found.append(pick(given) if given else None)
        return found[0], found[1]

    def _array(self, node: dict[str, Any], path: str, depth: int) -> str:
        least, most = self._bounds(node, "minItems", "maxItems", path)
        given = node.get("prefixItems", [])
        if not isinstance(given, list):
            raise self._refuse(path, "'prefixItems' is a list of schemas")
        first = [self._value(each, f"{path}.prefixItems[{number}]", depth + 1) for number, each in enumerate(given)]
        rest = None
        more_fit = node.get("items", True) is not False and (most is None or most > len(first))
        if more_fit and (not first or "items" in node or least > len(first)):
            rest = self._new(self._value(node.get("items", True), f"{path}.items", depth + 1), path)
        if rest is None and least > len(first):
            raise self._refuse(path, "'minItems' is more than 'prefixItems' and 'items' allow")
        if first:
            fixed = first if most is None else first[:most]
            tail = self._times(f'(", " {rest})', least - len(fixed), None if most is None else most - len(fixed), path)
            return self._new('"[" ' + ' ", " '.join(fixed) + f' {tail if rest else ""} "]"', path)
        if rest is None or most == 0:
            return quoted("[]")
        more = self._times(f'(", " {rest})', least - 1, None if most is None else most - 1, path)
        body = f'"[" {rest} {more} "]"'
        return self._new(body if least else f'"[]" | {body}', path)

    def _object(self, node: dict[str, Any], path: str, depth: int) -> str:
        properties, required = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, dict):
            raise self._refuse(path, "'properties' is an object")
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise self._refuse(path, "'required' is a list of names")
        others = node.get("additionalProperties", True)
        unnamed = [name for name in required if name not in properties]
        if unnamed and others is False:
            raise self._refuse(path, f"{unnamed[0][:60]!r} is required, and neither a property nor an additional one")
        properties = {**properties, **dict.fromkeys(unnamed, others)}
        if not properties:
            if others is False:
                return quoted("{}")
            if others is True:
                return self._basic("map")
            value = self._new(self._value(others, f"{path}.additionalProperties", depth + 1), path)
            self._basic("string")
            return self._new(f'"{{" (string ": " {value} (", " string ": " {value})*)? "}}"', path)
        pairs = [
            (self._new(
                f"{quoted(json.dumps(name, ensure_ascii=False) + ': ')} "
                f"{self._value(each, f'{path}.properties.{name[:60]}', depth + 1)}", path),
             name in required)
            for name, each in properties.items()
        ]  # fmt: skip
        return self._new(f'"{{" {self._pairs(pairs, path)} "}}"', path)

    def _pairs(self, pairs: list[tuple[str, bool]], path: str) -> str:
        """In their order, those that are not required perhaps; commas between. Two rules for each pair: what may
        follow when something stands before it, and when nothing does."""
        after, alone = '""', '""'
        for pair, is_required in reversed(pairs):
            with_it = f"{pair} {after}" if after != '""' else pair
            next_after = f'", " {with_it}'
            if not is_required:
                alone = self._new(f"{with_it} | {alone}", path)
                after = self._new(f"{next_after} | {after}", path)
            else:
                alone = self._new(with_it, path)
                after = self._new(next_after, path)
        return alone

    def _bounds(self, node: dict[str, Any], low: str, high: str, path: str) -> tuple[int, int | None]:
        for key in (low, high):
            bound = node.get(key)
            if bound is not None and (type(bound) is not int or not 0 <= bound <= _MOST_REPEATS):
                raise self._refuse(path, f"{key!r} is a whole number of at most {_MOST_REPEATS}")
        least, most = node.get(low) or 0, node.get(high)
        if most is not None and least > most:
            raise self._refuse(path, f"{low!r} is more than {high!r}")
        return least, most


def _listed(keys: set[str]) -> str:
    return ", ".join(repr(key[:60]) for key in sorted(keys)[:5])


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _kinds_of(value: Any) -> set[str]:
    """The types of a value."""
    if isinstance(value, bool) or value is None:
        return {"null" if value is None else "boolean"}
    if isinstance(value, int | float):
        return {"number"} if isinstance(value, float) and not value.is_integer() else {"number", "integer"}
    return {"string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"}


def _whole(first: int, last: int) -> list[str]:
    """Rules for the whole numbers from first to last."""
    ways = []
    if first < 0:
        ways += [f'"-" {way}' for way in _digits(max(1, -last), -first)]
    if last >= 0:
        ways += list(_digits(max(0, first), last))
    return ways


def _digits(first: int, last: int) -> Iterator[str]:
    """Rules for the numbers from first to last, neither negative: ranges in which the last digits are free."""
    while first <= last:
        free = 0
        while True:
            step = 10 ** (free + 1)
            if first % step or first + step - 1 > last or first == 0:
                break
            free += 1
        step = 10**free
        head = str(first // step)
        digit = int(head[-1])
        most = min(9, digit + (last - first + 1) // step - 1)
        if first == 0:
            most = min(9, last)
        lead = f"{quoted(head[:-1])} " if head[:-1] else ""
        tail = f" [0-9]{{{free}}}" if free else ""
        yield f"{lead}[{digit}-{most}]{tail}"
        first += (most - digit + 1) * step
