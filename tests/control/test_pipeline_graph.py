"""Pipelines as graphs: what is wrong with one is named before it starts; conditions are parsed and never run."""

from __future__ import annotations

import operator
import string
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.control.pipelines.conditions import Condition
from modelport.control.pipelines.graph import Values, check_pipeline
from modelport.errors import InvalidInput
from modelport.schemas.pipelines import Pipeline


def pipeline(*stages: dict[str, Any], **parameters: Any) -> Pipeline:
    return Pipeline.model_validate(
        {"name": "p", "parameters": parameters, "stages": [{"kind": "count", **stage} for stage in stages]}
    )


names = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


@given(names, st.data())
def test_an_order_is_found_in_which_every_need_comes_first(found: list[str], data: st.DataObject) -> None:
    stages = []
    for number, name in enumerate(found):
        before = data.draw(st.lists(st.sampled_from(found[:number]), unique=True)) if number else []
        used, needed = before[::2], before[1::2]
        params = {f"x{i}": f"a${{stages.{need}.result.y}}" for i, need in enumerate(used)}
        stages.append({"name": name, "needs": needed, "params": params})
    shuffled = data.draw(st.permutations(stages))
    graph = check_pipeline(pipeline(*shuffled), {})
    order = list(graph.nodes)
    assert sorted(order) == sorted(found)
    for name, node in graph.nodes.items():
        assert all(order.index(need) < order.index(name) for need in node.needs)


@given(names, st.data())
def test_every_circle_is_found_and_drawn(found: list[str], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(found)))
    circle = found[:size]
    stages = [{"name": name, "needs": [found[number - 1]] if number else []} for number, name in enumerate(found)]
    stages[0]["needs"] = [circle[-1]]
    with pytest.raises(InvalidInput, match="in a circle: ") as caught:
        check_pipeline(pipeline(*data.draw(st.permutations(stages))), {})
    drawn = caught.value.message.split("in a circle: ")[1].split(";")[0].split(" -> ")
    assert drawn[0] == drawn[-1] and sorted(drawn[1:]) == sorted(circle)
    for before, after in pairwise(drawn):
        assert found.index(before) == (found.index(after) - 1) % size


@pytest.mark.parametrize(
    ("stages", "given_values", "message"),
    [
        ([{"name": "a"}, {"name": "a"}], {}, "stage 'a' is there twice"),
        ([{"name": "a", "needs": ["b"]}], {}, "stage 'a': there is no stage 'b'; there are a"),
        ([{"name": "a", "needs": ["a"]}], {}, "a -> a"),
        ([{"name": "a", "params": {"x": "${stages.a.result.y}"}}], {}, "a -> a"),
        ([{"name": "a", "when": "stages.a.result.y > 1"}], {}, "a -> a"),
        ([{"name": "a", "params": {"x": "${stages.b.result.y}"}}], {}, "stage 'a': there is no stage 'b'"),
        ([{"name": "a", "params": {"x": "${parameters.no}"}}], {}, "there is no parameter 'no'; there are text, size"),
        ([{"name": "a", "params": {"x": ["${nonsense}"]}}], {}, "${nonsense} is no reference"),
        ([{"name": "a", "params": {"x": "${stages.b.y}"}}], {}, "is no reference"),
        ([{"name": "a", "params": {"x": "${parameters.text"}}], {}, "has a ${ without a }"),
        ([{"name": "a", "params": {"x": "${}"}}], {}, "is no reference"),
        ([{"name": "a", "require": "x >"}], {}, "stage 'a': condition 'x >': it is not like"),
        ([{"name": "a", "when": "accuracy > 1"}], {}, "when: 'accuracy' is unknown"),
        ([{"name": "a", "require": ["stages.b.result.x > 1"]}], {}, "there is no stage 'b'"),
        ([{"name": "a"}], {"no": 1}, "parameter 'no': the pipeline has none of that name; it has text, size"),
        ([{"name": "a"}], {"size": "large"}, "parameter 'size': 'large' is no integer"),
        ([{"name": "a"}], {"size": 1.5}, "parameter 'size': '1.5' is no integer"),
        ([{"name": "a"}], {"size": True}, "parameter 'size': 'True' is no integer"),
        ([{"name": "a"}], {"flag": "perhaps"}, "parameter 'flag': 'perhaps' is no boolean"),
        ([{"name": "a"}], {"rate": "nan"}, "parameter 'rate': 'nan' is no number"),
        ([{"name": "a"}], {"size": "9" * 5000}, "is no integer"),
    ],
)
def test_what_is_wrong_is_named(stages: list[Any], given_values: dict[str, Any], message: str) -> None:
    declared = {"text": "t", "size": 3, "rate": 0.5, "flag": True}
    with pytest.raises(InvalidInput) as caught:
        check_pipeline(pipeline(*stages, **declared), given_values)
    assert message in caught.value.message


def test_a_parameter_without_a_default_has_to_be_given() -> None:
    what = pipeline({"name": "a"}, source={"type": "string"})
    with pytest.raises(InvalidInput, match="parameter 'source' has no default; give it: --set source=VALUE"):
        check_pipeline(what, {})
    assert check_pipeline(what, {"source": "x"}).parameters == {"source": "x"}


def test_parameters_have_the_type_that_they_were_declared_with() -> None:
    what = pipeline({"name": "a"}, text="t", size=3, rate=0.5, flag=True)
    given_values = {"text": 5, "size": "7", "rate": "1", "flag": "False"}
    found = check_pipeline(what, given_values).parameters  # type: ignore[arg-type]
    assert found == {"text": "5", "size": 7, "rate": 1.0, "flag": False}


def test_deep_params_are_refused() -> None:
    deep: Any = "${parameters.x}"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(InvalidInput, match="nested more than 50 deep"):
        check_pipeline(pipeline({"name": "a", "params": {"x": deep}}, x=1), {})


VALUES = Values({"n": 5, "t": "text"}, {"a": {"acc": 0.9, "list": [1, {"x": "y"}], "dataset": "d:3"}})


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ("${parameters.n}", 5),
        ("n=${parameters.n}", "n=5"),
        ("${ stages.a.result.acc }", 0.9),
        ("${stages.a.result.list}", [1, {"x": "y"}]),
        ("${stages.a.result.list.1.x}", "y"),
        ("$${parameters.n}", "${parameters.n}"),
        ("$${a} ${parameters.t} $5", "${a} text $5"),
        ({"k": ["${parameters.n}", 1, None, True]}, {"k": [5, 1, None, True]}),
    ],
)
def test_references_become_values(value: Any, resolved: Any) -> None:
    assert VALUES.resolve(value) == resolved


def test_a_result_without_the_field_says_what_it_has() -> None:
    with pytest.raises(InvalidInput, match=r"stages\.a\.result has no 'rows'; it has acc, list, dataset"):
        VALUES.resolve("${stages.a.result.rows}")
    with pytest.raises(InvalidInput, match=r"stages\.a\.result\.list has no '7'"):
        VALUES.resolve("${stages.a.result.list.7}")


def lookup(name: str) -> Any:
    found = {"acc": 0.97, "rows": 100, "name": "digits", "ok": True, "tags": ["x", "y"], "none": None, "a.b": 3}
    return found[name]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("acc >= 0.97", True), ("acc > 0.97", False), ("0.9 < acc <= 1", True), ("0.9 < acc < 0.95", False),
        ("acc >= 0.97 and rows > 10", True), ("acc > 1 or rows == 100", True), ("not ok", False),
        ("name == 'digits'", True), ('name != "digits"', False), ("'x' in tags", True), ("'z' not in tags", True),
        ("rows in [1, 100]", True), ("none == null", True), ("ok == true", True), ("a.b == 3", True),
        ("rows > -1", True), ("ok", True), ("'dig' in name", True), ("(acc > 1 or ok) and rows < 1000", True),
    ],
)  # fmt: skip
def test_conditions_hold_or_not(text: str, holds: bool) -> None:
    assert Condition(text).holds(lookup) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "acc + 1 > 2", "acc if ok else rows", "[x for x in tags]", "lambda: 1",
        "tags[0] == 'x'", "f'{acc}'", "acc := 3", "print(acc)", "acc > ", "", "  ", "x; y", "await x", "*tags",
        "{'a': 1}", "acc is 1", "1j > 0", "b'x' == name", "...", "~rows", "+rows > 1", "not " * 400 + "ok",
        "(" * 300 + "1" + ")" * 300, "a" * 501, "acc\n> 1", "acc >= 0.97 # \x00", "().__class__", "name.upper()",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="condition"):
        Condition(text).holds(lookup)


@pytest.mark.parametrize("text", ["acc > 'x'", "name < 3", "rows", "none > 1", "tags > 1", "not rows", "ok > false",
                                  "1 in rows", "-name == 1", "rows and ok", "3 in name"])  # fmt: skip
def test_what_cannot_be_told_is_said(text: str) -> None:
    with pytest.raises(InvalidInput, match="condition"):
        Condition(text).holds(lookup)


@given(st.text(max_size=120))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    try:
        condition = Condition(text)
    except InvalidInput:
        return
    try:
        condition.holds(lambda name: 1)
    except InvalidInput:
        return


numbers = st.integers(-50, 50) | st.floats(-50, 50, allow_nan=False)
OPERATORS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


@given(numbers, st.sampled_from(sorted(OPERATORS)), numbers, numbers, st.sampled_from(["and", "or"]), st.booleans())
def test_conditions_mean_what_they_say(a: float, sign: str, b: float, c: float, word: str, negated: bool) -> None:
    text = f"{'not ' if negated else ''}(x {sign} {b!r} {word} y.z >= {c!r})"
    first, second = OPERATORS[sign](a, b), a >= c
    expected = (first and second) if word == "and" else (first or second)
    assert Condition(text).holds(lambda name: {"x": a, "y.z": a}[name]) is (expected is not negated)
