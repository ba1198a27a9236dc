"""Which output answers, told by names and types."""

from __future__ import annotations

import pytest

from modelport.data.outputs import Wanted, wanted
from modelport.errors import InvalidInput
from modelport.evaluation.answers import Picked, pick
from modelport.schemas.training import Task
from modelport.tensors import Signature, TensorSpec


def columns(*outputs: tuple[str, str, tuple[int, ...]], labels: dict[str, list[str]] | None = None) -> Wanted:
    signature = Signature((TensorSpec("x", "FP32", (-1, 2)),), tuple(TensorSpec(*output) for output in outputs))
    named = len(labels or {}) == 1
    return wanted(signature, labels or {}, ["y"], number=False, probabilities=named, record=False, has_rows=True)


LABEL, CHANCES, SCORE = ("label", "BYTES", (-1,)), ("probabilities", "FP32", (-1, 2)), ("score", "FP32", (-1,))
NAMES = {"probabilities": ["no", "yes"]}


@pytest.mark.parametrize(
    ("task", "found", "output", "picked"),
    [
        ("classification", columns(LABEL, CHANCES, labels=NAMES), None, Picked(0, 2, ("no", "yes"))),
        ("classification", columns(CHANCES, labels=NAMES), None, Picked(None, 2, ("no", "yes"))),
        ("ranking", columns(LABEL, CHANCES, labels=NAMES), None, Picked(None, 2, ("no", "yes"))),
        ("classification", columns(("label", "INT64", (-1,)), CHANCES), None, Picked(0, 1, None)),
        ("classification", columns(("logits", "FP32", (-1, 3))), None, Picked(None, 0, None)),
        ("anomaly", columns(("is_anomaly", "BOOL", (-1,)), SCORE), None, Picked(1, None, None)),
        ("anomaly", columns(("label", "INT64", (-1, 1)), ("scores", "FP32", (-1, 1))), None, Picked(1, None, None)),
        ("regression", columns(("variable", "FP32", (-1, 1))), None, Picked(0, None, None)),
        ("regression", columns(("a", "FP32", (-1,)), ("b", "FP32", (-1,))), "b", Picked(1, None, None)),
        (
            "forecast",
            columns(("q0.1", "FP32", (-1, 3)), ("forecast", "FP32", (-1, 3)), ("q0.9", "FP32", (-1, 3))), None,
            Picked(1, None, None, (("0.1", 0), ("0.9", 2))),
        ),
        (
            "forecast", columns(("q0.1", "FP32", (-1,)), ("quantile_0.5", "FP32", (-1,))), None,
            Picked(1, None, None, (("0.1", 0), ("0.5", 1))),
        ),
    ],
)  # fmt: skip
def test_what_can_be_told(task: Task, found: Wanted, output: str | None, picked: Picked) -> None:
    assert pick(task, found, output) == picked


@pytest.mark.parametrize(
    ("task", "found", "output", "said"),
    [
        ("regression", columns(("a", "FP32", (-1,)), ("b", "FP32", (-1,))), None, "say it with output: 'a', 'b'"),
        ("regression", columns(SCORE), "nothing", "no output 'nothing'; it has 'score'"),
        ("regression", columns(LABEL), None, "cannot be told"),
        ("classification", columns(("a", "FP32", (-1, 2)), ("b", "FP32", (-1, 2))), None, "'a', 'b'"),
    ],
)
def test_what_cannot_be_told(task: Task, found: Wanted, output: str | None, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        pick(task, found, output)
    assert said in caught.value.message
