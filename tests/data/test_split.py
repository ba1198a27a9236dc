"""Splits are disjoint and complete, seeded, and keep together what belongs together."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from modelport.data.split import split
from modelport.data.writing import parts_in, read_parts, schema_of, write_parts
from modelport.errors import InvalidInput, ModelportError
from modelport.schemas.datasets import SplitParams
from tests.data.lab import Lab, csv_of


def rows_of(folder: Path) -> list[dict[str, Any]]:
    parts = parts_in(folder)
    return pa.Table.from_batches(list(read_parts(parts)), schema_of(parts)).to_pylist()  # type: ignore[no-any-return]


tables = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 6)), min_size=12, max_size=80)


@settings(max_examples=25)
@given(tables, st.integers(0, 5), st.sampled_from(["random", "stratify", "group", "time"]))
def test_every_row_is_in_exactly_one_part(rows: list[tuple[str, int]], seed: int, how: str) -> None:
    table = pa.table({"id": list(range(len(rows))), "c": [c for c, _ in rows], "g": [g for _, g in rows]})
    wanted = {"stratify": {"stratify": "c"}, "group": {"group": "g"}, "time": {"time": "g"}}.get(how, {})
    params = SplitParams(name="t", dataset="t", seed=seed, ratios={"train": 0.6, "test": 0.4}, **wanted)
    with tempfile.TemporaryDirectory() as folder:
        parts = write_parts(Path(folder) / "in", table.schema, table.to_batches())
        found = []
        for attempt in ("one", "two"):
            try:
                counts, _ = split(parts, params, Path(folder) / attempt)
            except InvalidInput as error:
                assert "would have no row" in error.message
                return
            found.append({name: rows_of(Path(folder) / attempt / name) for name in counts})
        assert found[0] == found[1], "the same seed, the same parts"
        train, test = found[0]["train"], found[0]["test"]
        assert sorted(row["id"] for row in [*train, *test]) == list(range(len(rows)))
        for part in (train, test):
            assert [row["id"] for row in part] == sorted(row["id"] for row in part)
        if how == "group":
            assert not {row["g"] for row in train} & {row["g"] for row in test}
        if how == "time":
            assert max(row["g"] for row in train) < min(row["g"] for row in test)


def test_strata_keep_their_shares_and_the_seed_matters(lab: Lab) -> None:
    found = load_digits()
    table: dict[str, list[Any]] = {f"p{i}": list(found.data[:, i]) for i in range(0, 64, 8)}
    lab.collect("digits", {"d.csv": csv_of({**table, "k": list(range(1797)), "label": list(found.target)})})
    made = lab.run("split", name="s", dataset="digits", stratify="label", seed=7)
    assert sum(made["parts"].values()) == 1797
    for part, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        counts = Counter(lab.table(f"s/{part}")["label"].to_pylist())
        assert all(abs(counts[d] - share * n) <= 1 for d, n in Counter(found.target.tolist()).items())
    same = lab.run("split", name="s", dataset="digits", stratify="label", seed=7)
    other = lab.run("split", name="s", dataset="digits", stratify="label", seed=8)
    assert same["digest"] == made["digest"] != other["digest"]
    with pytest.raises(InvalidInput, match="is split already"):
        lab.run("split", name="t", dataset="s")
    assert lab.run("split", name="t", dataset="s:1/train")["rows"] == made["parts"]["train"]


def test_equal_rows_do_not_leak(lab: Lab) -> None:
    lab.collect("t", {"t.csv": csv_of({"v": [i // 3 for i in range(300)]})})
    moved = lab.run("split", name="s", dataset="t")["report"]
    assert (moved["leaking_rows"], moved["kept_together"]) == (0, 200)
    warned = lab.run("split", name="s", dataset="t", leaks="warn")["report"]
    assert warned["leaking_rows"] > 50
    with pytest.raises(InvalidInput, match="are equal to rows of another part"):
        lab.run("split", name="s", dataset="t", leaks="fail")


def test_documents_that_differ_only_in_their_path_are_equal(lab: Lab) -> None:
    lab.collect("t", {f"a/{i}.txt": f"text {i % 5}" for i in range(50)})
    report = lab.run("split", name="s", dataset="t", ratios={"train": 0.6, "test": 0.4})["report"]
    assert (report["leaking_rows"], report["kept_together"]) == (0, 45)


def test_missing_times_are_refused(lab: Lab) -> None:
    lab.collect("t", {"t.csv": "at\n2020-01-01\n\n2020-01-02\nNA\n2021-01-01\n"})
    with pytest.raises(InvalidInput, match="column 'at' lacks 1 values"):
        lab.run("split", name="s", dataset="t", time="at")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ratios": {"train": 0.5, "test": 0.4}}, "ratios add up to 0.9"),
        ({"ratios": {"train": 1.0}}, "at least 2"),
        ({"ratios": {"../up": 0.5, "test": 0.5}}, "pattern"),
        ({"ratios": {"train": -1.0, "test": 2.0}}, "greater than 0"),
        ({"stratify": "a", "group": "a"}, "at most one of"),
        ({"stratify": "q"}, "has no column 'q'"),
        ({"seed": -1}, "seed"),
        ({"leaks": "maybe"}, "leaks"),
        ({"dataset": "t:9"}, "no version '9'"),
        ({"dataset": "t/train"}, "has no part 'train'"),
        ({"dataset": "../t"}, "dataset"),
        ({"group": "a", "ratios": {"x": 0.999, "y": 0.001}}, "would have no row"),
    ],
)
def test_bad_splits_are_refused(lab: Lab, params: dict[str, Any], message: str) -> None:
    lab.collect("t", {"t.csv": csv_of({"a": list(range(10))})})
    with pytest.raises(ModelportError) as error:
        lab.run("split", **{"name": "s", "dataset": "t", **params})
    assert message in error.value.message
    assert error.value.status in (400, 404)
    assert len(lab.services.datasets.list(lab.actor)) == 1
