"""Schemas to grammars: what can be kept to, what is refused and by which path."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest

from modelport.engine.language.json_grammar import _whole, any_object, grammar_of
from modelport.engine.language.regex_grammar import rule_of
from modelport.errors import InvalidInput
from tests.engine.language.schemas import made


def test_each_made_schema_has_a_grammar() -> None:
    for seed in range(200):
        rules = grammar_of(made(seed), "schema").splitlines()
        names = {rule.split(" ::= ")[0] for rule in rules}
        assert rules[0].startswith("root ::= ")
        assert len(names) == len(rules), "no rule twice"
        for rule in rules:
            bare = re.sub(r'"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]', "", rule.split(" ::= ", 1)[1])
            assert set(re.findall(r"[a-z]\w*", bare)) <= names, rule


def test_it_is_compact_and_keeps_the_order() -> None:
    schema = {"type": "object", "properties": {"b": {"const": 1}, "a": {"enum": ["x"]}}, "required": ["b", "a"]}
    assert grammar_of(schema, "schema").splitlines()[0] == "root ::= r8"
    assert '"\\"b\\": " "1"' in grammar_of(schema, "schema")
    assert "\\n" not in any_object().replace("\\\\nrt", "").replace("bfnrt", "")


def _matches(ways: list[str], number: int) -> bool:
    pattern = "|".join("(" + re.sub(r'"([^"]*)" ?', r"\1", way).replace(" ", "") + ")" for way in ways)
    return re.fullmatch(pattern, str(number)) is not None


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, 9), (0, 10), (5, 5), (7, 123), (-50, 45), (-3, -1), (99, 1001), (0, 0), (10, 99), (-(10**15), 10)],
)
def test_whole_numbers_within_bounds(first: int, last: int) -> None:
    ways, rng = _whole(first, last), random.Random(0)
    near = [rng.randint(max(first - 30, -2000), min(last + 30, 2000)) for _ in range(500)]
    for number in [*near, first - 1, first, last, last + 1]:
        assert _matches(ways, number) == (first <= number <= last), number


@pytest.mark.parametrize(
    ("schema", "path", "why"),
    [
        ({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "s.properties.a", "uniqueItems"),
        ({"not": {"type": "null"}}, "s", "'not' cannot be kept to"),
        ({"oneOf": [{"type": "null"}]}, "s", "oneOf"),
        ({"allOf": [{"type": "null"}, {"type": "string"}]}, "s", "merge them"),
        ({"$ref": "http://10.0.0.1/schema"}, "s", "into the schema itself"),
        ({"$ref": "#/$defs/no"}, "s", "points nowhere"),
        ({"$ref": "#"}, "s", "refers to itself"),
        ({"type": "string", "maxLength": 10**9}, "s", "at most 1000"),
        ({"type": "string", "pattern": "(a{1000}){1000}"}, "s.pattern", "repeating more"),
        ({"type": "string", "pattern": "(?=a)b"}, "s.pattern", "cannot be kept to"),
        ({"type": "string", "pattern": "("}, "s.pattern", "no regular expression"),
        ({"type": "string", "format": "iri"}, "s", "format 'iri'"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "s", "no whole number"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "s", "more than"),
        ({"type": "thing"}, "s", "'type' is one of"),
        ({"enum": []}, "s", "1 to 1000"),
        ({"type": "string", "description": "x" * (65 << 10)}, "'s'", "larger than 64 KiB"),
        (5, "s", "no JSON schema"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_to_is_refused_by_its_path(schema: Any, path: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        grammar_of(schema, "s")
    assert caught.value.field == "s"
    assert caught.value.message.startswith(path)
    assert why in caught.value.message


def test_deep_and_wide_schemas_are_refused_soon() -> None:
    deep: dict[str, Any] = {"type": "null"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    wide = {"type": "object", "properties": {f"p{n}": {"type": "null"} for n in range(5000)}}
    started = time.process_time()
    for schema in (deep, wide):
        with pytest.raises(InvalidInput):
            grammar_of(schema, "s")
    assert time.process_time() - started < 30, "no blow-up; a slow machine is no failure"


def test_a_schema_may_refer_to_itself() -> None:
    tree = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    }
    assert "ref1" in grammar_of(tree, "s")


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("^[A-Z]{2}[0-9]+$", "([A-Z]){2,2} ([0-9]){1,64}"),
        ("(yes|no)", '(("y" "e" "s" | "n" "o"))'),
        ('a"', '"a" "\\\\\\""'),
        ("[^x]", '[^x"\\\\\\x00-\\x1f]'),
        ("[!-z]", "[!-!#-\\[\\]-z]"),
    ],
)
def test_patterns_inside_json(pattern: str, rule: str) -> None:
    assert rule_of(pattern, "p", in_json=True) == rule
