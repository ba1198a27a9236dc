"""Curves of figures: as blocks of a terminal, and as one page without script or address."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.cli import curves
from modelport.schemas.jobs import Job, JobMetric, Resources

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def told(name: str, *values: float | None, first: int | None = 1) -> list[JobMetric]:
    return [
        JobMetric(name=name, step=None if first is None else first + at, value=value, at=NOW)
        for at, value in enumerate(values)
    ]


def job(**params: str) -> Job:
    return Job(
        id="01KAN4ZV9MJ3R8W6S2YQ5T7XBC", kind="train", params=params, state="succeeded", attempt=1, priority=0,
        retries=2, resources=Resources(cores=1, memory_mb=64), created_at=NOW, created_by="owner",
        result={"model": "digits:3"},
    )  # fmt: skip


def test_a_falling_loss_falls() -> None:
    assert curves.line([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"
    assert curves.line([2.0]) == curves.line([5.0]) == "▁" and curves.line([]) == ""


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300), st.integers(1, 80))
def test_a_line_fits_and_shows_least_and_greatest(values: list[float], width: int) -> None:
    shown = curves.line(values, width)
    assert len(shown) == min(width, len(values))
    if len(values) <= width and max(values) - min(values) > 1e-6 * max(map(abs, values)):
        assert shown[values.index(min(values))] == "▁" and shown[values.index(max(values))] == "█"


def test_what_was_told_twice_counts_once() -> None:
    found = curves.by_name([*told("loss", 3, 2), *told("loss", 1, first=2), *told("best", 0.5, first=None)])
    assert found == {"loss": [(1, 3), (2, 1)], "best": [(0, 0.5)]}
    assert curves.by_name(told("loss", None, 2.0))["loss"] == [(2, 2.0)]


def test_a_page_holds_all_and_nothing_else(tmp_path: Path) -> None:
    figures = [*told("train_loss", 3, 2, 1), *told("validation_loss", 3.5, 2.5, 1.5), *told("<b>accuracy", 0.1, 0.9)]
    curves.write(tmp_path / "curves.html", job(recipe="image", data="<script>alert(1)</script>"), figures)
    page = (tmp_path / "curves.html").read_text()
    assert page.count("<svg") == 2 and page.count("<polyline") == 3
    assert "train_loss, last 1" in page and "validation_loss, last 1.5" in page
    assert "<script" not in page and "<b>" not in page and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("values", [(1.0,), (5.0, 5.0), (1e300, -1e300), (1e-320, 2e-320)])
def test_odd_values_are_drawn(values: tuple[float, ...]) -> None:
    drawn = curves.chart({"x": [(float(at), value) for at, value in enumerate(values)]})
    assert "<polyline" in drawn and "nan" not in drawn and "inf" not in drawn
