"""Statistics against numpy, also where they are estimated; and values that are no numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from modelport.data import engine, statistics
from modelport.data.statistics import BINS, describe
from modelport.data.writing import PartWriter, Sizes
from modelport.errors import NotFound


def parts_of(folder: Path, table: pa.Table, rows: int = 5000) -> list[Path]:
    with PartWriter(folder, table.schema, Sizes(group_rows=rows, part_rows=2 * rows)) as writer:
        for batch in table.to_batches():
            writer.write(batch)
    return writer.parts


@pytest.fixture(autouse=True)
def native() -> None:
    engine.use_runner("native")


@pytest.mark.parametrize("exact", [True, False])
def test_moments_quantiles_and_histograms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    if not exact:
        monkeypatch.setattr(statistics, "EXACT_ROWS", 10)
    values = np.random.default_rng(0).lognormal(size=40_000)
    table = pa.table({"v": values, "k": [str(i % 5000) for i in range(40_000)]})
    found = describe(parts_of(tmp_path, table))
    number, text = found.columns
    assert number.mean == pytest.approx(values.mean())
    assert number.std == pytest.approx(values.std())
    assert (number.min, number.max) == (values.min(), values.max())
    error = 1e-9 if exact else 0.03
    for quantile, value in number.quantiles.items():
        assert value == pytest.approx(np.quantile(values, float(quantile)), rel=error)
    assert number.histogram is not None
    counts, edges = np.histogram(values, BINS)
    assert number.histogram.counts == counts.tolist()
    assert number.histogram.edges == pytest.approx(edges)
    assert not text.distinct_exact
    assert text.distinct == pytest.approx(5000, rel=0.05)
    assert text.top == []


def test_what_is_no_number_is_told_apart(tmp_path: Path) -> None:
    table = pa.table(
        {
            "f": [1.0, float("nan"), float("inf"), None],
            "none": pa.array([None] * 4, pa.float64()),
            "label": ["x", None, "y", "x"],
            "b": [b"1", b"2", None, b""],
            "l": [[1], None, [], [2, 3]],
            "ok": [True, False, None, True],
        }
    )
    found = {column.name: column for column in describe(parts_of(tmp_path, table)).columns}
    assert (found["f"].nulls, found["f"].mean, found["f"].max) == (2, 1.0, "inf")
    assert (found["none"].nulls, found["none"].mean, found["none"].histogram) == (4, None, None)
    assert (found["b"].nulls, found["b"].distinct, found["l"].nulls) == (1, None, 1)
    assert found["ok"].distinct == 2
    assert describe(parts_of(tmp_path / "x", table)).class_balance == {"(missing)": 1, "x": 2, "y": 1}
    with pytest.raises(NotFound, match="label: there is no column 'q'"):
        describe(parts_of(tmp_path / "y", table), "q")


def test_no_rows_and_one_value(tmp_path: Path) -> None:
    assert describe(parts_of(tmp_path / "a", pa.table({"x": pa.array([], pa.int64())}))).rows == 0
    one = describe(parts_of(tmp_path / "b", pa.table({"x": [3, 3]}))).columns[0]
    assert (one.mean, one.std, one.distinct) == (3, 0, 1)
    assert one.histogram is not None
    assert sum(one.histogram.counts) == 2


@pytest.mark.parametrize("values", [[-(2**63)] * 3, [1_700_000_000_000_000_001, 1_700_000_000_000_000_009]])
def test_whole_numbers_that_floats_cannot_tell_apart(tmp_path: Path, values: list[int]) -> None:
    (column,) = describe(parts_of(tmp_path, pa.table({"id": pa.array(values, pa.int64())}))).columns
    assert (column.min, column.max) == (min(values), max(values))
    assert column.histogram is not None and sum(column.histogram.counts) == len(values)
