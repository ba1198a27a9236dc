"""A family as a table and as a page: what is known, what is not, and nothing that a name could inject."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from modelport.cli.grade import line, page_of, table
from modelport.schemas.grades import Family, Grade, Latency, Measured, Quality, Relative, Throughput

HOSTILE = "<script>alert(1)</script>"


def grade(version: int, price: float | None, value: float | None, figure: str = "accuracy") -> Grade:
    measured = Measured(
        model=f"m:{version}", machine=HOSTILE, threads=1, served_bytes=38_000, total_bytes=38_000, memory_mb=40,
        latency=Latency(batch=1, p50_ms=0.5, p99_ms=1.25, model_ms=0.4, calls=300), peak_mb=41.4,
        throughput=[Throughput(batch=32, rows_per_s=1234.5, calls=9)],
    )  # fmt: skip
    quality = None if value is None else Quality(figure=figure, value=value, less_is_better=False, data=HOSTILE)
    return Grade(
        id=1, model="m", version=version, measured=measured, quality=quality, cost_per_million=price, currency="EUR",
        grade="light", job="j", graded_at=datetime.now(UTC), graded_by="me",
    )  # fmt: skip


def family() -> Family:
    relatives = [
        Relative(model="m", version=3, grade=grade(3, 0.001, 0.9), best=True),
        Relative(model="m", version=2, aliases=["champion"], grade=grade(2, 1.0, 0.95), best=True),
        Relative(model="m", version=1, grade=grade(1, 1.0, 0.9)),
        Relative(model="m", version=4, grade=grade(4, 2.0, 3.5, "mae")),
        Relative(model="m", version=5, grade=grade(5, 2.0, None)),
        Relative(model="t", version=1),
    ]
    return Family(
        model="m", machine=HOSTILE, figure="accuracy", currency="EUR", relatives=relatives, warnings=[HOSTILE]
    )


def test_the_table_says_what_is_known() -> None:
    columns, rows = table(family())
    assert columns[-3:] == ["EUR A MILLION", "ACCURACY", "BEST"]
    assert rows[1] == [
        "m:2 @champion", "light", "38.0 kB", "41 MB", "0.5 ms", "1.25 ms", "1234", "1", "0.95", "*"
    ]  # fmt: skip
    assert [row[-2:] for row in rows] == [["0.9", "*"], ["0.95", "*"], ["0.9", ""], ["mae", ""], ["", ""], ["", ""]]
    assert rows[-1][:2] == ["t:1", "not measured"]


def test_the_picture_has_a_spot_for_whoever_has_a_place() -> None:
    page = page_of(family())
    spots = re.findall(r'class="point( met)?" cx="([\d.]+)" cy="([\d.]+)"', page)
    assert [bool(met) for met, _, _ in spots] == [True, True, False]
    xs, ys = [float(x) for _, x, _ in spots], [float(y) for _, _, y in spots]
    assert xs[0] < xs[1] == xs[2] and ys[1] < ys[0] == ys[2], "to the right dearer, upwards better"
    assert re.search(rf'points="{xs[0]},{ys[0]} {xs[1]},{ys[1]}"', page), "the best are joined"
    assert "<script" not in page and "http://" not in page and "https://" not in page


def test_one_that_was_measured_alone_has_a_place_too() -> None:
    alone = family().model_copy(update={"relatives": family().relatives[:1]})
    assert page_of(alone).count("<circle") == 1
    nobody = family().model_copy(update={"relatives": family().relatives[-2:], "figure": None})
    assert "no version has both a price and a quality" in page_of(nobody)


def test_one_line_for_show() -> None:
    assert line(grade(1, 0.25, 0.9)).startswith("light: 0.5 ms (p99 1.25), 1234 rows/s, 41 MB, 0.25 EUR a million; ")
    kept = Measured(model="m:1", machine="x", threads=1, reason="GGUF", served_bytes=1, total_bytes=1)
    assert line(grade(1, None, None).model_copy(update={"measured": kept})) == "none: GGUF"
