"""The page stands alone, is well-formed, and its lines go where the figures say."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from modelport.bench.charts import linear_ticks, log_ticks
from modelport.bench.figures import figures_of
from modelport.bench.page import charts, page
from modelport.bench.plan import Report
from modelport.bench.record import Record
from modelport.cli.load_picture import bars, table

SVG = "{http://www.w3.org/2000/svg}"


def report(callers: bool = False) -> Report:
    steps = []
    for rate in (100, 200, 400):
        record = Record(0.0, 10.0)
        record.latencies.extend((np.random.default_rng(rate).lognormal(-6, 0.5, 10 * rate) * rate / 100).tolist())
        record.due_in_window, record.finished_in_window = 10 * rate, 9 * rate
        record.errors["500 <script>alert(1)</script>"] = 1
        steps.append(figures_of(record, f"{rate}/s", callers=rate if callers else None))
    found = Report("digits<b>", "http://127.0.0.1:8000", "v2", "open loop, Poisson arrivals", 0, 50.0, steps=steps)
    found.warnings.append("<script>")
    return found


@pytest.mark.parametrize("callers", [False, True])
def test_the_charts_show_the_figures(callers: bool) -> None:
    latency, achieved = (ElementTree.fromstring(text) for text in charts(report(callers)))
    lines = latency.findall(f"{SVG}polyline")
    assert len(lines) == 4
    heights = [[float(place.split(",")[1]) for place in line.attrib["points"].split()] for line in lines]
    for lower, higher in pairwise(heights):
        assert all(a > b for a, b in zip(lower, higher, strict=True))  # a higher percentile stands higher
    for points in heights:
        assert points == sorted(points, reverse=True)  # and more load takes longer
    across = [float(place.split(",")[0]) for place in lines[0].attrib["points"].split()]
    assert (across[2] - across[1]) == pytest.approx(2 * (across[1] - across[0]), abs=0.2)
    assert len(achieved.findall(f"{SVG}polyline")) == (1 if callers else 2)


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    text = page(report())
    assert not re.search(r"(src|href)=|@import|url\(", text)
    assert "<script" not in text and "&lt;script&gt;" in text and "digits&lt;b&gt;" in text
    assert text.count("<svg") == 2 and text.count("<tr>") == 4
    assert "the greatest load that keeps it is 400/s" in text


def test_a_page_of_nothing() -> None:
    assert "<table>" in page(Report("m", "http://x", "v2", "open", 0))


def test_ticks() -> None:
    assert linear_ticks(400) == [0, 100, 200, 300, 400]
    assert linear_ticks(7) == [0, 2, 4, 6, 8]
    assert linear_ticks(0) == [0, 1]
    assert log_ticks(0.3, 12) == [0.2, 0.5, 1, 2, 5, 10, 20]
    assert log_ticks(1, 1) == [1, 2]
    for most in (0.013, 1, 3.3, 99, 12345):
        assert linear_ticks(most)[-1] >= most and len(linear_ticks(most)) <= 8


def test_the_terminal_shows_the_same() -> None:
    found = report()
    columns, rows = table(found.steps)
    assert len(columns) == len(rows[0]) == 11 and rows[1][0] == "200/s"
    lines = bars(found.steps, 80)
    drawn = [line for line in lines if line.startswith(("100/s", "200/s", "400/s"))]
    assert [sum(line.count(block) for block in "█▓▒░") for line in drawn[:3]] == sorted(
        sum(line.count(block) for block in "█▓▒░") for line in drawn[:3]
    )
    assert drawn[5].count("█") == pytest.approx(2 * drawn[4].count("█"), abs=1)
    assert all(len(line) <= 80 for line in lines)
    assert bars([], 80) == []
