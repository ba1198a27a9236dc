"""Parts: what is written is read back, and the same rows are the same bytes however they arrive."""

from __future__ import annotations

import datetime
import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.data import engine, writing
from modelport.data.writing import PartWriter, Sizes, checked_schema, parts_in, read_parts, rows_in, write_parts
from modelport.errors import InvalidInput

SMALL = Sizes(group_rows=7, group_bytes=300, part_rows=20, part_bytes=900)
SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.binary()),
        ("l", pa.list_(pa.float64())),
        ("t", pa.timestamp("us", "UTC")),
        ("d", pa.date32()),
        ("ok", pa.bool_()),
    ]
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(allow_nan=False),
            "s": st.none() | st.text(max_size=40),
            "b": st.none() | st.binary(max_size=60),
            "l": st.none() | st.lists(st.floats(allow_nan=False), max_size=4),
            "t": st.none() | st.datetimes(timezones=st.just(datetime.UTC), min_value=datetime.datetime(1700, 1, 1)),
            "d": st.none() | st.dates(),
            "ok": st.none() | st.booleans(),
        }
    ),
    max_size=60,
)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in parts_in(folder)}


@settings(max_examples=60)
@given(rows, st.lists(st.integers(1, 25), min_size=1, max_size=5))
def test_what_is_written_is_read_back_however_it_came(found: list[dict[str, Any]], pieces: list[int]) -> None:
    batch = pa.RecordBatch.from_pylist(found, schema=SCHEMA)
    with tempfile.TemporaryDirectory() as text:
        one, two = Path(text) / "one", Path(text) / "two"
        with PartWriter(one, SCHEMA, SMALL) as writer:
            writer.write(batch)
        with PartWriter(two, SCHEMA, SMALL) as writer:
            start = 0
            while start < len(batch):
                size = pieces[start % len(pieces)]
                writer.write(batch.slice(start, size))
                start += size
        assert bytes_of(one) == bytes_of(two)
        assert pa.Table.from_batches(list(read_parts(parts_in(one))), SCHEMA).to_pylist() == batch.to_pylist()
        assert all(rows_in(part) <= SMALL.part_rows + SMALL.group_rows for part in parts_in(one))


def test_parts_that_lie_there_are_gone_on_from(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"i": list(range(100))})
    with PartWriter(tmp_path / "whole", batch.schema, SMALL) as writer:
        writer.write(batch)
    for kept in range(len(parts_in(tmp_path / "whole"))):
        folder = tmp_path / f"from-{kept}"
        folder.mkdir()
        for part in parts_in(tmp_path / "whole")[:kept]:
            (folder / part.name).write_bytes(part.read_bytes())
        (folder / f"part-{kept:05}.parquet.unfinished").write_bytes(b"cut")
        with PartWriter(folder, batch.schema, SMALL) as writer:
            writer.write(batch.slice(writer.rows_done))
        assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_a_write_that_fails_leaves_no_half_part(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"i": list(range(10))})
    with pytest.raises(KeyError), PartWriter(tmp_path, batch.schema, SMALL) as writer:
        writer.write(batch)
        raise KeyError
    assert list(tmp_path.iterdir()) == []


GOLDEN = "86800935de22c518"
"""First digits of the SHA-256 of the parts below, as the versions in constraints.txt write them."""


def test_bytes_are_those_of_yesterday(tmp_path: Path) -> None:
    if pa.__version__ != "25.0.1":
        pytest.skip("the golden hash is that of pyarrow 25.0.1, which writes its version into each file")
    random = np.random.default_rng(0)
    table = pa.table({"x": random.normal(size=1000), "s": [f"row {i % 17}" for i in range(1000)]})
    parts = write_parts(tmp_path, table.schema, table.to_batches())
    digest = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    assert digest.startswith(GOLDEN)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (pa.schema([]), "has no column"),
        (pa.schema([("a", pa.int64()), ("a", pa.int64())]), "is there 2 times"),
        (pa.schema([("", pa.int64())]), "1 to 300 characters"),
        (pa.schema([("x" * 301, pa.int64())]), "1 to 300 characters"),
        (pa.schema([("a\x00b", pa.int64())]), "NUL"),
    ],
)
def test_columns_that_cannot_be_kept_are_refused(schema: pa.Schema, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        checked_schema(schema)


def test_types_become_plain_ones() -> None:
    schema = pa.schema(
        [
            ("d", pa.dictionary(pa.int8(), pa.large_string())),
            ("v", pa.string_view()),
            ("l", pa.large_list(pa.large_string())),
            ("n", pa.null()),
            ("t", pa.timestamp("ns")),
            ("h", pa.float16()),
        ]
    )
    kinds = [str(kind) for kind in checked_schema(schema).types]
    assert kinds == ["string", "string", "list<item: string>", "string", "timestamp[us]", "float"]


def test_hashes_tell_every_row_apart_and_equal_ones_not(tmp_path: Path) -> None:
    engine.use_runner("native")
    values = [(a, b, c) for a in (None, 0, 1) for b in (None, "", "x") for c in (None, 0.0, 1.5)] * 2
    table = pa.table({"a": [v[0] for v in values], "b": [v[1] for v in values], "c": [v[2] for v in values]})
    parts = write_parts(tmp_path, table.schema, table.to_batches())
    hashes = np.concatenate(list(engine.row_hashes(parts, ["a", "b", "c"])))
    assert len({tuple(row) for row in hashes.tolist()}) == 27
    assert np.array_equal(hashes[:27], hashes[27:])


def test_bytes_are_counted_from_values(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"b": [b"x" * 100, None, b""], "i": [1, 2, 3]})
    assert writing.row_bytes(batch).tolist() == [112, 12, 12]
