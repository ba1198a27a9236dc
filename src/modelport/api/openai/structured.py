"""Schemas and patterns that callers send: only what can be kept to is taken, and nothing that compiles for ever.

A keyword that the grammar library would pass over in silence is refused by name, so that the output is always valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from modelport.errors import InvalidInput

_MOST_BYTES = 64 << 10
_DEEPEST = 24
_MOST_NODES = 2_000
_MOST_CHOICES = 1_000
_LONGEST_PATTERN = 500
_MOST_REPEATS = 1_000
_MOST_REPEATED = 5_000
"""Of a pattern: the product of its nested repetitions."""
_LONGEST_GRAMMAR = 16 << 10
#: JSON Schema 2020-12; those that xgrammar keeps to.
_KEPT = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum",
    "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions", "minLength", "maxLength", "pattern", "minimum",
    "maximum", "exclusiveMinimum", "exclusiveMaximum", "format",
})  # fmt: skip
_WORDS = frozenset({
    "title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly",
    "nullable",
})  # fmt: skip
_BOUNDS = ("minItems", "maxItems", "minLength", "maxLength")
_FORMATS = frozenset({"date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname", "uri", "duration"})


def checked(schema: dict[str, Any], field: str) -> dict[str, Any]:
    """The schema; raises InvalidInput."""
    if len(json.dumps(schema)) > _MOST_BYTES:
        raise InvalidInput.of(field, f"{field!r} is larger than {_MOST_BYTES >> 10} KiB")
    for number, (path, node) in enumerate(_nodes(schema, "", 0, field)):
        if number >= _MOST_NODES:
            raise InvalidInput.of(field, f"{field!r} has more than {_MOST_NODES} parts")
        _check_node(node, f"{field}{path}", field)
    return schema


def _nodes(node: Any, path: str, depth: int, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if depth > _DEEPEST:
        raise InvalidInput.of(field, f"{field!r} is nested deeper than {_DEEPEST}")
    if isinstance(node, bool):
        return
    if not isinstance(node, dict):
        raise InvalidInput.of(field, f"{field}{path} is no JSON schema")
    yield path, node
    for key in ("properties", "$defs", "definitions"):
        inner = node.get(key, {})
        if not isinstance(inner, dict):
            raise InvalidInput.of(field, f"{field}{path}.{key} must be an object")
        for name, value in inner.items():
            yield from _nodes(value, f"{path}.{key}.{name[:60]}", depth + 1, field)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from _nodes(node[key], f"{path}.{key}", depth + 1, field)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        inner = node.get(key, [])
        if not isinstance(inner, list):
            raise InvalidInput.of(field, f"{field}{path}.{key} must be a list")
        for number, value in enumerate(inner):
            yield from _nodes(value, f"{path}.{key}[{number}]", depth + 1, field)


def _check_node(node: dict[str, Any], where: str, field: str) -> None:
    for key in node:
        if key not in _KEPT and key not in _WORDS:
            raise InvalidInput.of(field, f"{where}: the keyword {key[:60]!r} cannot be kept to; leave it out")
    if "allOf" in node and len(node["allOf"]) != 1:
        raise InvalidInput.of(field, f"{where}: 'allOf' of several schemas cannot be kept to; merge them into one")
    if "oneOf" in node:
        raise InvalidInput.of(field, f"{where}: 'oneOf' cannot be kept to; 'anyOf' can")
    reference = node.get("$ref")
    if reference is not None and not (isinstance(reference, str) and reference.startswith("#")):
        raise InvalidInput.of(field, f"{where}: '$ref' must point into the schema itself")
    if len(node.get("enum", ())) > _MOST_CHOICES:
        raise InvalidInput.of(field, f"{where}: 'enum' has more than {_MOST_CHOICES} values")
    for key in _BOUNDS:
        bound = node.get(key)
        if bound is not None and (type(bound) is not int or not 0 <= bound <= _MOST_REPEATS):
            raise InvalidInput.of(field, f"{where}: {key!r} is a whole number of at most {_MOST_REPEATS}")
    if "pattern" in node:
        checked_regex(node["pattern"], field, f"{where}: 'pattern'")
    if "format" in node and node["format"] not in _FORMATS:
        raise InvalidInput.of(field, f"{where}: the format {str(node['format'])[:60]!r} cannot be kept to")


def checked_regex(pattern: Any, field: str, where: str | None = None) -> str:
    """The pattern; raises InvalidInput for one that is none, or that would take long to compile."""
    where = where or repr(field)
    if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
        raise InvalidInput.of(field, f"{where} is a text of at most {_LONGEST_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidInput.of(field, f"{where} is no regular expression: {error}") from None
    product = 1
    for low, high in re.findall(r"\{(\d*)(?:,(\d*))?\}", pattern):
        product *= max(int(low or 0), int(high or 0), 1)
        if product > _MOST_REPEATED:
            raise InvalidInput.of(field, f"{where} repeats more than {_MOST_REPEATED} times")
    if re.search(r"\(\?[=!<]|\\[1-9bB]", pattern):
        raise InvalidInput.of(field, f"{where}: look-around, word borders and back references cannot be kept to")
    return pattern


def checked_grammar(grammar: str, field: str) -> str:
    """The grammar; raises InvalidInput for one that is too long."""
    if len(grammar) > _LONGEST_GRAMMAR or "root" not in grammar:
        raise InvalidInput.of(
            field, f"{field!r} is an EBNF grammar with a rule 'root', of at most {_LONGEST_GRAMMAR >> 10} KiB"
        )
    return grammar
