"""Schemas to grammars: what can be kept to, what is refused and by which path."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.engine.language.grammar_cost import MOST, cost_of
from modelport.engine.language.json_grammar import _whole, any_object, grammar_of
from modelport.engine.language.regex_grammar import repeated, rule_of
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


def _deep(levels: int) -> Any:
    found: Any = []
    for _ in range(levels):
        found = [found]
    return found


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
        ({"type": "string", "pattern": "^a^b$"}, "s.pattern", "a beginning inside"),
        ({"type": "string", "pattern": "(a$)?b"}, "s.pattern", "an end inside"),
        ({"type": "string", "pattern": "a\\b"}, "s.pattern", "border of words"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "s", "'a' is required"),
        ({"type": "integer", "enum": ["a", 1.5, True]}, "s", "of the type integer"),
        ({"type": "string", "const": 1}, "s", "of the type string"),
        ({"type": "string", "pattern": "("}, "s.pattern", "no regular expression"),
        ({"type": "string", "format": "iri"}, "s", "format 'iri'"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "s", "no whole number"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "s", "more than"),
        ({"type": "thing"}, "s", "'type' is one of"),
        ({"type": {"a": 1}}, "s", "'type' is one of"),
        ({"type": [["string"]]}, "s", "'type' is one of"),
        ({"type": "string", "format": []}, "s", "the format"),
        *(({"type": "object", "required": [name]}, "s", "list of names") for name in ({}, 1, None, [])),
        ({"type": "array", "prefixItems": 5}, "s", "list of schemas"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "s", "nothing else"),
        ({"$ref": "#/$defs/a", "$defs": {c: {"$ref": f"#/$defs/{d}"} for c, d in ("ab", "ba")}}, "'s'", "an end"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "'s'", "without an end"),
        ({"enum": [_deep(980)]}, "'s'", "nested too deeply"),
        ({"properties": {f"p{n}": {"pattern": f"[^{chr(97 + n)}]{{1,900}}"} for n in range(20)}}, "'s'", "too large"),
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


def test_values_that_are_not_of_the_type_are_left_out() -> None:
    assert 'r1 ::= "1" | "2.0" | "null"' in grammar_of({"type": ["integer", "null"], "enum": ["a", 1, 2.0, None]}, "s")


def test_what_is_required_and_not_named_is_what_others_may_be() -> None:
    grammar = grammar_of({"type": "object", "required": ["a"], "additionalProperties": {"type": "null"}}, "s")
    assert '"\\"a\\": " null' in grammar


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
        ("^[A-Z]{2}[0-9]{3,16}$", "([A-Z]){2,2} ([0-9]){3,16}"),
        ("(yes|no)", '(("y" "e" "s" | "n" "o"))'),
        ("^(^a|^b$)$|^$", '((("a" | "b")) | "")'),
        ('a"', '"a" "\\\\\\""'),
        ("[^x]", '[^x"\\\\\\x00-\\x1f]'),
        ("[!-z]", "[!-!#-\\[\\]-z]"),
    ],
)
def test_patterns_inside_json(pattern: str, rule: str) -> None:
    assert rule_of(pattern, "p", in_json=True) == rule


def test_long_texts_are_written_in_chunks_which_count_once() -> None:
    one = grammar_of({"type": "string", "maxLength": 1000}, "s")
    many = grammar_of({"properties": {f"p{n}": {"type": "string", "maxLength": 1000} for n in range(50)}}, "s")
    assert cost_of(many) < 2 * cost_of(one) < MOST


def _length_rule(least: int, most: int) -> str:
    """As Python's regular expressions say it."""
    named: dict[str, str] = {}

    def name(rule: str) -> str:
        for known, meaning in named.items():
            rule = re.sub(rf"\b{known}\b", meaning, rule)
        fresh = f"n{len(named)}n"
        named[fresh] = f"(?:{rule})"
        return fresh

    rule = repeated("x", least, most, name)
    for known, meaning in named.items():
        rule = re.sub(rf"\b{known}\b", meaning, rule)
    return rule.replace(" ", "")


@pytest.mark.parametrize(
    ("least", "most"), [(0, 33), (0, 48), (1, 40), (17, 50), (40, 40), (32, 100), (5, 64), (3, 32)]
)
def test_a_chunked_repetition_has_the_same_lengths(least: int, most: int) -> None:
    pattern = re.compile(_length_rule(least, most))
    assert {n for n in range(most + 40) if pattern.fullmatch("x" * n)} == set(range(least, most + 1))


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from((
            "type", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "$ref", "enum", "const",
            "anyOf", "allOf", "pattern", "format", "minLength", "maxLength", "minimum", "exclusiveMaximum",
            "additionalProperties", "nullable", "a",
        ))
        | st.text(max_size=4),
        inner | st.sampled_from(("string", "object", "array", "integer", "number", "#", "#/a", "date", "[a-z]{1,99}")),
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(("type", "properties", "items", "$ref", "anyOf", "a")), _ANYTHING, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_json_is_a_schema_or_is_refused(schema: Any) -> None:
    try:
        grammar = grammar_of(schema, "s")
    except InvalidInput as error:
        assert error.field == "s"
    else:
        assert cost_of(grammar) <= MOST
