"""The job ``grade`` on real replicas: what it keeps, what it refuses, how it goes on after a kill."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.errors import InvalidInput, ModelportError
from tests.data.lab import Lab, csv_of
from tests.onnx_models import crasher, identity, mlp

QUICK = {"seconds": 0.1, "batch": 4}


def test_all_versions_and_those_that_are_left_after_a_kill(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        lab.push("digits", mlp(), task="classification", metrics={"test_accuracy": 0.96})
    record = type(lab.services.grades).record

    def killed(*arguments: Any) -> Any:
        record(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(type(lab.services.grades), "record", killed)
        with pytest.raises(KeyboardInterrupt):
            lab.run("grade", "job", model="digits", all=True, **QUICK)
    (first,) = lab.services.grades.list(lab.actor)
    found = lab.run("grade", "job", model="digits", all=True, **QUICK)
    assert lab.services.grades.list(lab.actor, version=first.version)[0].id == first.id, "it was not measured twice"
    assert found["graded"] == {"digits:2": "light", "digits:1": "light"} and found["model"] == "digits:2"
    assert found["quality"] == 0.96 and found["rows_per_s"] > 0 and found["p99_ms"] >= found["p50_ms"]
    assert found["warnings"] == []


def test_by_rows_without_the_label(lab: Lab) -> None:
    lab.push("same", identity("FP32", (-1, 2)))
    lab.collect("t", {"t.csv": csv_of({"a": [1.5, 2.5], "b": [0.5, 1.0], "truth": [1.0, 2.0]})}, label="truth")
    lab.run("grade", model="same", data="t", inputs={"input": ["a", "b"]}, **QUICK)
    assert lab.services.grades.list(lab.actor)[0].measured.asked == "rows"
    with pytest.raises(ModelportError, match="the data has no column 'truth'"):
        lab.run("grade", model="same", data="t", inputs={"input": ["a", "truth"]}, **QUICK)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model": "nobody"}, "there is no model 'nobody'"),
        ({"model": "same:1", "all": True}, "leave the version out"),
        ({"model": "same", "data": "nothing"}, "there is no dataset 'nothing'"),
        ({"model": "same", "data": "t", "target": "z"}, "no column 'z'; it has a"),
        ({"model": "same", "target": "a"}, "say which data"),
        ({"model": "same", "data": "t", "inputs": {"other": ["a"]}}, "the model has no input 'other'"),
        ({"model": "same", "seconds": 0}, "greater than or equal to 0.1"),
        ({"model": "same", "nonsense": 1}, "it takes model, all"),
    ],
)
def test_what_cannot_be_is_refused_before_it_begins(lab: Lab, params: dict[str, Any], message: str) -> None:
    lab.push("same", identity("FP32", (-1, 2)))
    lab.collect("t", {"t.csv": csv_of({"a": [1.5]})})
    with pytest.raises(ModelportError, match=message) as caught:
        lab.run("grade", **params)
    assert caught.value.status in (400, 404)
    assert lab.services.grades.list(lab.actor) == []


def test_one_that_fails_does_not_stop_the_others(lab: Lab) -> None:
    lab.push("mixed", crasher())
    lab.push("mixed", identity("INT64", (-1, 1)))
    lab.collect("t", {"t.csv": csv_of({"input": [-(2**63), -(2**63)]})})
    found = lab.run("grade", model="mixed", all=True, data="t", **QUICK)
    assert found["graded"] == {"mixed:2": "light"}
    assert found["warnings"] == [
        "mixed:1: model mixed:1: its replica died while it was measured; the log says more"
    ]  # fmt: skip
    lab.push("alone", crasher())
    with pytest.raises(InvalidInput, match="none of 1 versions could be measured"):
        lab.run("grade", model="alone", all=True, data="t", **QUICK)
