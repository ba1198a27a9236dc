"""What is typed after ``modelport compress``, and how what was tried is shown."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.cli import compression_options as typed
from modelport.cli import frontier
from modelport.errors import InvalidInput

NOTHING = (None,) * 6


def budget(**given: str) -> dict[str, float]:
    names = ("max_drop", "size", "speed", "latency_p99", "latency_p50", "memory")
    return typed.budget(*(given.get(name) for name in names))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"max_drop": "1%"}, {"max_drop": 0.01}),
        ({"max_drop": "0.02"}, {"max_drop": 0.02}),
        ({"max_drop": "0.5pt"}, {"max_drop_points": 0.5}),
        ({"max_drop": "2 points"}, {"max_drop_points": 2.0}),
        ({"size": "4x"}, {"size_ratio": 4.0}),
        ({"size": "10MB"}, {"size_bytes": 10e6}),
        ({"size": "64 KiB"}, {"size_bytes": 65536.0}),
        ({"size": "1500"}, {"size_bytes": 1500.0}),
        ({"speed": "2x"}, {"speed_ratio": 2.0}),
        ({"latency_p99": "10ms"}, {"latency_p99_ms": 10.0}),
        ({"latency_p50": "250us"}, {"latency_p50_ms": 0.25}),
        ({"latency_p99": "0.1s"}, {"latency_p99_ms": 100.0}),
        ({"memory": "200MB"}, {"memory_mb": 200.0}),
    ],
)
def test_units_are_those_that_people_write(given: dict[str, str], meant: dict[str, float]) -> None:
    assert budget(**given) == pytest.approx(meant)


@pytest.mark.parametrize("given", [{"max_drop": "a bit"}, {"size": "4y"}, {"latency_p99": "ms"}, {"size": "x"}])
def test_what_is_no_number_is_named(given: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(given.values()))):
        budget(**given)


def test_a_method_and_its_options_are_one_text() -> None:
    step = typed.method_step("quantize mode=static bits=8 exclude='[\"/fc*\"]'")
    assert step == {"method": "quantize", "options": {"mode": "static", "bits": 8, "exclude": ["/fc*"]}}
    with pytest.raises(InvalidInput, match="NAME K=V"):
        typed.method_step("quantize 'mode")


def candidate(number: int, **more: Any) -> dict[str, Any]:
    label = "quantize mode=static" if number else "original"
    empty = dict.fromkeys(("quality", "drop", "size_bytes", "size_ratio", "speed_ratio", "latency_p99_ms"))
    return {"number": number, "label": label, "state": "measured", "message": "", "misses": [], **empty, **more}


FOUND = [
    candidate(0, quality=0.9, drop=0.0, size_ratio=1.0, size_bytes=1000, speed_ratio=1.0),
    candidate(1, quality=0.89, drop=0.011, size_ratio=4.0, size_bytes=250, speed_ratio=2.0, state="proven"),
    candidate(
        2, quality=0.2, drop=0.77, size_ratio=9.0, size_bytes=111, misses=["quality fell by 77.00%, 1.00% allowed"]
    ),
    candidate(3, state="failed", message="no <b>way</b>"),
]


def test_those_that_keep_to_the_budget_come_first() -> None:
    columns, rows = frontier.table(FOUND, "accuracy")
    shown = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [row["NUMBER"] for row in shown] == [0, 1, 2, 3]
    assert shown[1]["CANDIDATE"] == "quantize mode=static" and shown[1]["SMALLER"] == "4.00 x"
    assert shown[2]["STATE"] == "measured, misses quality"


def test_the_page_escapes_and_draws_every_candidate_that_has_figures() -> None:
    found = {"original": "digits:1", "candidates": FOUND, "main": "accuracy", "budget": {"max_drop": 0.01}, "met": True}
    page = frontier.page(found)
    assert "<b>way</b>" not in page and "&lt;b&gt;way" in page
    size, speed = page.split("Quality by speed")
    assert size.count("<circle") == 3 and speed.count("<circle") == 2 and size.count('class="point met"') == 1
