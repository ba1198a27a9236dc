"""What may be asked of a language model: beyond a bound it is 400 by its name, before any replica hears of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelport.api import openai
from modelport.api.openai import writing
from modelport.api.openai.structured import checked_grammar, checked_regex
from modelport.api.openai.tools import Function, Tool, format_of
from modelport.api.sampling_parameters import read_sampling
from modelport.engine.language import grammar_cost
from modelport.errors import InvalidInput
from tests.api.asgi import call
from tests.engine.language.fake import letters
from tests.engine.replicas import engine

OPEN = "[" * 100_000


def test_one_budget_for_patterns_grammars_and_all_tools_together() -> None:
    assert checked_regex("[^a]{1,1000}", "guided_regex")
    assert checked_grammar('root ::= "a" b{1,9}\nb ::= [a-z] # ends', "guided_grammar")
    with pytest.raises(InvalidInput, match="too large to keep to"):
        checked_grammar("root ::= a{1,1000}\na ::= [^b]", "guided_grammar")
    with pytest.raises(InvalidInput, match="too large to keep to"):
        checked_regex("".join(f"[^{chr(97 + n)}]{{1,900}}" for n in range(20)), "guided_regex")

    def tools(count: int, pattern: str) -> list[Tool]:
        return [
            Tool("function", Function(f"f{n}", parameters={"properties": {"a": {"pattern": pattern.format(n)}}}))
            for n in range(count)
        ]

    assert format_of(tools(128, "[a-z]{{1,90}}"), None, None), "the same again costs little"
    assert format_of(tools(1, "[^{}]{{1,90}}"), None, None)
    with pytest.raises(InvalidInput, match="too large") as caught:
        format_of(tools(10, "[^{}]{{1,90}}"), None, None)
    assert caught.value.field == "tools"


def test_rules_that_need_one_another_are_read_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Counting(grammar_cost._Reader):
        def __init__(self, *given: Any, **how: Any) -> None:
            read.append(1)
            super().__init__(*given, **how)

    monkeypatch.setattr(grammar_cost, "_Reader", Counting)
    chain = "root ::= r0\n" + "".join(f"r{n}::=r{n + 1}\n" for n in range(1300))
    assert checked_grammar(chain + 'r1300::="a"', "guided_grammar")
    with pytest.raises(InvalidInput, match="has no end"):
        checked_grammar(chain + "r1300::=root", "guided_grammar")
    circles = "root ::= r0\n" + "".join(f"r{n}::=r{n + 1} r{max(0, n - 1)}|r{n + 2}\n" for n in range(700))
    assert checked_grammar(circles + 'r700::="a"\nr701::="b"', "guided_grammar")
    assert len(read) < 20_000, "in one order or another each rule was read a thousand times"
    inwards = "".join(f"s{n}::=s{n - 1} s{n - 1}|s{n + 1}\n" for n in range(1, 600))
    read.clear()
    with pytest.raises(InvalidInput, match="need one another too often"):
        checked_grammar(f'root ::= s0 s600\ns0 ::= "a" | s1\n{inwards}s600 ::= s599', "guided_grammar")
    assert len(read) < 20_000


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"stop_token_ids": [1 << 64]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [1 << 20]}, "stop_token_ids"),
        ({"stop_token_ids": [1] * 100_000}, "stop_token_ids"),
        ({"guided_json": {"type": {"a": 1}}}, "guided_json"),
        *(({name: 1 << 64}, name) for name in ("top_k", "min_tokens")),
        ({"min_tokens": 3}, "min_tokens"),
        ({"n": 25}, "n"),
        ({"prompt": ["a"] * 25}, "n"),
        *(({"guided_grammar": rule}, "guided_grammar") for rule in ("root ::= foo", 'root ::= root "a"')),
    ],
)
async def test_by_its_name(body: dict[str, Any], param: str) -> None:
    async with engine(letters(words=256)) as (made, _):
        plain = {"model": "model", "prompt": "a", "max_tokens": 2, "temperature": 0}
        found = await call(openai.routes(made.plane), "POST", "/v1/completions", json.dumps(plain | body).encode())
        assert found.status == 400, found.body
        assert json.loads(found.body)["error"]["param"] == param


@pytest.mark.parametrize("by", ["a text's own deadline", "the caller's"])
async def test_a_text_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    assert writing.DEADLINE_S == 600
    headers = {"x-request-timeout": "0.2"} if by == "the caller's" else {}
    if not headers:
        monkeypatch.setattr(writing, "DEADLINE_S", 0.2)
    async with engine(letters(pause_s=0.05)) as (made, _):
        body = json.dumps({"model": "model", "prompt": "a", "max_tokens": 1000}).encode()
        found = await call(openai.routes(made.plane), "POST", "/v1/completions", body, headers=headers)
        assert found.status == 504, found.body


async def test_parameters_as_text_nested_without_end() -> None:
    async with engine(letters()) as (_, here):
        with pytest.raises(InvalidInput, match="nested too deeply"):
            read_sampling(here.route, {"guided_json": '{"a":' + OPEN})
        with pytest.raises(InvalidInput, match="1 to 1000 characters"):
            read_sampling(here.route, {"stop": OPEN})
