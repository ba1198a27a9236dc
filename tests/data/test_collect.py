"""Collecting: every source and format, what is left out, going on after a kill, and only what is new."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits, load_wine
from sqlalchemy import create_engine, text

from modelport.data import collect, writing
from modelport.errors import InvalidInput, ModelportError, NotAllowed, TooLarge, Unavailable
from tests.data.lab import Lab, csv_of, png
from tests.services.s3 import S3
from tests.web import serving


def wine_csv() -> str:
    found = load_wine()
    columns: dict[str, list[Any]] = {
        name.replace("/", "_"): list(found.data[:, index]) for index, name in enumerate(found.feature_names)
    }
    return csv_of({**columns, "label": [str(found.target_names[t]) for t in found.target]})


def digit_images(count: int = 60) -> dict[str, bytes | str]:
    found = load_digits()
    return {
        f"{label}/{index:04}.png": png((image * 15).astype(np.uint8))
        for index, (image, label) in enumerate(zip(found.images[:count], found.target[:count], strict=True))
    }


def parquet_of(table: dict[str, list[Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(table), buffer)
    return buffer.getvalue()


def test_a_csv_file_becomes_a_version_with_its_statistics(lab: Lab) -> None:
    made = lab.collect("wine", {"wine.csv": wine_csv()})
    assert (made["dataset"], made["rows"]) == ("wine:1", 178)
    found, data = lab.version("wine"), load_wine().data
    columns = {column.name: column for column in found.manifest.columns}
    alcohol = columns["alcohol"]
    assert (alcohol.type, alcohol.nulls) == ("double", 0)
    assert alcohol.mean == pytest.approx(data[:, 0].mean())
    assert alcohol.std == pytest.approx(data[:, 0].std())
    assert (alcohol.min, alcohol.max) == (data[:, 0].min(), data[:, 0].max())
    assert alcohol.quantiles["0.5"] == pytest.approx(np.median(data[:, 0]))
    assert alcohol.distinct == len(np.unique(data[:, 0]))
    assert alcohol.histogram is not None
    assert sum(alcohol.histogram.counts) == 178
    assert found.manifest.class_balance == {"class_0": 59, "class_1": 71, "class_2": 48}
    assert np.array_equal(lab.table("wine")["alcohol"].to_numpy(), data[:, 0])
    assert found.manifest.source == "uploaded: wine.csv"
    assert found.manifest.report["left_out"] == 0


def test_images_are_labelled_by_their_folders(lab: Lab) -> None:
    files = digit_images()
    lab.collect("digits", files)
    rows = lab.rows("digits")
    assert [row["path"] for row in rows] == sorted(files)
    assert all(row["image"] == files[row["path"]] and (row["width"], row["height"]) == (8, 8) for row in rows)
    balance = lab.version("digits").manifest.class_balance
    assert balance == {str(d): sum(1 for path in files if path.startswith(f"{d}/")) for d in range(10)}


def test_an_image_that_cannot_be_read_is_named(lab: Lab) -> None:
    files = {**digit_images(20), "3/cut.png": digit_images(1)["0/0000.png"][:60], "4/text.png": b"no image"}
    with pytest.raises(InvalidInput, match=r"3/cut\.png: is no image"):
        lab.collect("digits", files)
    assert lab.services.datasets.list(lab.actor) == []
    made = lab.collect("digits", files, on_error="skip")
    report = lab.version("digits").manifest.report
    assert (made["rows"], report["left_out"]) == (20, 2)
    assert [line.partition(":")[0] for line in report["left_out_examples"]] == ["3/cut.png", "4/text.png"]


ROWS = {
    "id": [1, 2, None, 4],
    "x": [0.5, None, 2.5, -1.0],
    "s": ["a", "b c", "ü", None],
    "ok": [True, False, True, None],
}
JSONL = "\n".join(json.dumps(dict(zip(ROWS, row, strict=True))) for row in zip(*ROWS.values(), strict=True))
CSV = "id,x,s,ok\n1,0.5,a,true\n2,,b c,false\n,2.5,ü,true\n4,-1.0,,\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", CSV),
        ("rows.tsv", CSV.replace(",", "\t")),
        ("rows.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("bom.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("crlf.csv", CSV.replace("\n", "\r\n")),
        ("rows.jsonl", JSONL),
        ("rows.ndjson", JSONL + "\n\n"),
        ("rows.jsonl.gz", gzip.compress(JSONL.encode(), mtime=0)),
        ("rows.parquet", parquet_of(ROWS)),
    ],
)
def test_every_table_format_gives_the_same_rows(lab: Lab, name: str, content: bytes | str) -> None:
    lab.collect("rows", {name: content})
    assert lab.table("rows").to_pydict() == ROWS


def test_the_same_rows_have_the_same_digest_whatever_brought_them(lab: Lab) -> None:
    one = lab.collect("one", {"rows.csv": CSV})
    two = lab.collect(
        "two",
        {"a.csv": CSV.split("\n4", maxsplit=1)[0] + "\n", "b.csv": "id,x,s,ok\n4,-1.0,,\n"},
        types={"s": "string", "ok": "bool"},
    )
    three = lab.collect("three", {"rows.parquet": parquet_of(ROWS)})
    assert one["digest"] == two["digest"] == three["digest"]


def test_types_are_found_and_can_be_said(lab: Lab) -> None:
    text = "zip,day,at,flag,big,half\n01234,2020-01-31,2020-01-31 10:00:00,true,9223372036854775807,1.5\n99999,,,,1,2\n"
    lab.collect("a", {"a.csv": text})
    kinds = {column.name: column.type for column in lab.version("a").manifest.columns}
    assert kinds == {
        "zip": "string", "day": "date32[day]", "at": "timestamp[us]", "flag": "bool", "big": "int64", "half": "double",
    }  # fmt: skip
    assert lab.rows("a")[0]["zip"] == "01234"
    lab.collect("a", {"a.csv": text}, types={"zip": "int64", "half": "string"})
    assert (lab.rows("a")[0]["zip"], lab.rows("a")[1]["half"]) == (1234, "2")


def test_text_is_lines_and_documents_are_files(lab: Lab) -> None:
    lab.collect("lines", {"a.txt": "one\ntwo\r\n\nfour"})
    assert lab.table("lines").to_pydict() == {"text": ["one", "two", "", "four"]}
    lab.collect("mail", {"spam/1.txt": "buy\nnow", "ham/2.txt": "hello"})
    assert lab.rows("mail") == [
        {"path": "ham/2.txt", "label": "ham", "text": "hello"},
        {"path": "spam/1.txt", "label": "spam", "text": "buy\nnow"},
    ]


def test_an_archive_is_unpacked(lab: Lab) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in digit_images(10).items():
            archive.writestr(path, content)
        archive.writestr("README.md", "not an image")
    made = lab.collect("digits", {"digits.zip": buffer.getvalue()})
    assert made["rows"] == 10
    assert lab.version("digits").manifest.report["ignored_files"] == 1


def test_a_row_that_does_not_fit_is_named_or_left_out(lab: Lab) -> None:
    text = "a,b\n" + "".join(f"{i},x\n" for i in range(30_000)) + "oops,y\n7,w\n"
    with pytest.raises(InvalidInput, match=r"late\.csv, row 30002: 'oops' in column 'a' is no int64.*--type a=string"):
        lab.collect("late", {"late.csv": text})
    text += "5,z,9\n"
    with pytest.raises(InvalidInput, match=r"late\.csv, row 30004: has 3 fields, not 2: '5,z,9'"):
        lab.collect("late", {"late.csv": text})
    made = lab.collect("late", {"late.csv": text}, on_error="skip")
    report = lab.version("late").manifest.report
    assert (made["rows"], report["left_out"]) == (30_001, 2)
    assert [example.partition(":")[0] for example in report["left_out_examples"]] == [
        "late.csv, row 30004",
        "late.csv, row 30002",
    ]


def test_files_of_other_columns_are_refused_or_joined(lab: Lab) -> None:
    files: dict[str, bytes | str] = {"a.csv": "x,y\n1,2\n", "b.csv": "x,z\n3.5,q\n"}
    with pytest.raises(InvalidInput, match=r"'b\.csv' has other columns than 'a\.csv': it lacks y; it has z besides"):
        lab.collect("t", files)
    lab.collect("t", files, on_schema="union")
    assert lab.table("t").to_pydict() == {"x": [1.0, 3.5], "y": [2, None], "z": [None, "q"]}
    with pytest.raises(InvalidInput, match=r"'b\.csv': column 'x' is string, but int64 in the files before it"):
        lab.collect("t", {"a.csv": "x\n1\n", "b.csv": "x\nq\n"})


class Killed(BaseException):
    """What a kill is to the work."""


@pytest.mark.parametrize("after", [1, 2, 3, 5])
def test_a_killed_collection_goes_on_and_ends_with_the_same_bytes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    small = writing.Sizes(group_rows=50, part_rows=100)
    monkeypatch.setattr(writing.PartWriter.__init__, "__defaults__", (small,))
    files = {f"{i}.csv": "a,b\n" + "".join(f"{i * 100 + j},{j}x\n" for j in range(70)) + "bad\n" for i in range(9)}
    whole = lab.run("collect", name="t", files=lab.send(files), on_error="skip")
    report = lab.version("t").manifest.report
    ended, writes = writing.PartWriter._end_part, 0

    def die(self: Any) -> None:
        nonlocal writes
        ended(self)
        writes += 1
        if writes == after:
            raise Killed

    monkeypatch.setattr(writing.PartWriter, "_end_part", die)
    with pytest.raises(Killed):
        lab.run("collect", "twice", name="t", files=lab.send(files), on_error="skip")
    monkeypatch.setattr(writing.PartWriter, "_end_part", ended)
    marks = {p: p.stat().st_mtime_ns for p in (lab.folder / "jobs" / "twice" / "parts").glob("*.parquet")}
    again = lab.run("collect", "twice", name="t", files=lab.send(files), on_error="skip")
    assert again["digest"] == whole["digest"]
    assert lab.version("t").manifest.report == report
    assert marks, "something was kept"
    assert all(path.stat().st_mtime_ns == mark for path, mark in marks.items()), "kept parts are not made again"


def test_a_source_that_stops_half_way_makes_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 6_000_000:
                raise ConnectionResetError("the other side went away")
            return super().read(size)

    from modelport.data import sources

    text = ("a,b\n" + "1,hello\n" * 1_500_000).encode()
    monkeypatch.setattr(sources, "opener", lambda path: lambda: Broken(path.read_bytes()))
    with pytest.raises(Unavailable, match="t.csv"):
        lab.run("collect", "j", name="t", files=lab.send({"t.csv": text}))
    assert lab.services.datasets.list(lab.actor) == []
    monkeypatch.undo()
    assert lab.run("collect", "j", name="t", files=lab.send({"t.csv": text}))["rows"] == 1_500_000


def test_a_full_disk_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.pq.ParquetWriter, "write_table", full)
    with pytest.raises(Unavailable, match="the server's disk is full: nothing was registered"):
        lab.collect("t", {"t.csv": "a\n1\n"})
    assert lab.services.datasets.list(lab.actor) == []


def test_a_disk_that_fills_while_an_archive_is_unpacked_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelport.data import sources

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sources, "unpack", full)
    with pytest.raises(Unavailable, match="the server's disk is full"):
        lab.collect("t", {"t.zip": b"PK"})
    assert lab.services.datasets.list(lab.actor) == []


def test_only_new_files_are_added(lab: Lab) -> None:
    day1 = {"1.csv": "a\n1\n2\n"}
    assert lab.collect("log", day1, incremental="files")["new_rows"] == 2
    assert lab.collect("log", day1, incremental="files")["dataset"] == "log:1"
    made = lab.collect("log", {**day1, "2.csv": "a\n3\n"}, incremental="files")
    assert (made["dataset"], made["new_rows"], made["rows"]) == ("log:2", 1, 3)
    assert lab.table("log:2").to_pydict() == {"a": [1, 2, 3]}
    assert lab.version("log:2").manifest.parents == ["log:1"]
    with pytest.raises(InvalidInput, match=r"'1\.csv' and 0 more have changed"):
        lab.collect("log", {"1.csv": "a\n9\n"}, incremental="files")


def test_only_rows_beyond_the_largest_key_are_added(lab: Lab) -> None:
    lab.collect("log", {"all.csv": "at,v\n2020-01-01,1\n2020-01-03,2\n"}, incremental="at")
    made = lab.collect(
        "log", {"all.csv": "at,v\n2020-01-01,1\n2020-01-03,2\n2020-01-02,3\n2020-02-01,4\n,5\n"}, incremental="at"
    )
    assert made["new_rows"] == 1
    assert lab.table("log")["v"].to_pylist() == [1, 2, 4]


# Sources beyond uploads


def test_a_folder_of_the_server_is_read_where_it_is_allowed(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "a.csv").write_text("x\n1\n")
    (data / "deep" / "b.csv").write_text("x\n2\n")
    (data / ".hidden.csv").write_text("x\n3\n")
    (tmp_path / "secret.csv").write_text("x\n4\n")
    lab = make_lab(allow=[data.as_uri()])
    assert lab.run("collect", name="t", source=data.as_uri())["rows"] == 2
    assert lab.run("collect", name="t", source=f"{data.as_uri()}/*.csv")["rows"] == 2
    assert lab.run("collect", name="t", source=f"{data.as_uri()}/deep/*.csv")["rows"] == 1
    for source in (
        tmp_path.as_uri(),
        f"{data.as_uri()}x",
        f"{data.as_uri()}/../secret",
        "file:///etc/passwd",
        *(f"{data.as_uri()}/{up}secret.csv" for up in ("%2e%2e/", "..%2f", "deep/%2E./.%2e/")),
    ):
        with pytest.raises(NotAllowed, match="the operator allows"):
            lab.run("collect", name="t", source=source)


@pytest.fixture
def s3_lab(make_lab: Callable[..., Lab], s3: S3, monkeypatch: pytest.MonkeyPatch) -> Lab:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return make_lab(allow=["s3://lake"], archives=["s3://cold"])


def test_s3_is_read_where_it_lies(s3_lab: Lab, s3: S3) -> None:
    bucket = s3.bucket("lake")
    s3.put(bucket, "wine/part.csv", wine_csv().encode())
    s3.put(bucket, "wine/b.parquet", parquet_of(ROWS))
    with pytest.raises(InvalidInput, match="several formats"):
        s3_lab.run("collect", name="wine", source="s3://lake/wine")
    assert s3_lab.run("collect", name="wine", source="s3://lake/wine/*.csv")["rows"] == 178
    assert s3_lab.run("collect", name="p", source="s3://lake/wine/b.parquet")["rows"] == 4
    assert s3_lab.table("p").to_pydict() == ROWS
    with pytest.raises(ModelportError, match="no file"):
        s3_lab.run("collect", name="wine", source="s3://lake/nothing")


def test_archived_versions_come_back(s3_lab: Lab, s3: S3) -> None:
    s3.bucket("cold")
    s3_lab.collect("old", {"a.csv": "x\n1\n"})
    datasets, actor = s3_lab.services.datasets, s3_lab.actor
    entry = s3_lab.version("old").manifest.files[0]
    moved = datasets.archive(actor, "old", 1, "s3://cold/sets")
    assert moved.archived == "s3://cold/sets"
    assert s3.keys("cold") == [f"sets/1/{entry.sha256[:2]}/{entry.sha256}"]
    s3_lab.services.artifacts.delete(1, entry.sha256)  # as the collector does after the grace time
    with s3_lab.services.database.session() as session:
        session.execute(text("DELETE FROM blobs"))
    assert s3_lab.table("old").to_pydict() == {"x": [1]}
    assert s3_lab.version("old").archived is None


@pytest.fixture(params=["sqlite", "postgresql"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'shop.db'}"
    else:
        url = request.getfixturevalue("postgres").get_uri(database="postgres", driver="psycopg")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS orders"))
        connection.execute(text("CREATE TABLE orders (id INTEGER, price NUMERIC(8,2), note TEXT, empty TEXT)"))
        connection.execute(
            text("INSERT INTO orders VALUES (:i, :p, :n, NULL)"),
            [{"i": i, "p": i * 0.25, "n": None if i % 3 else f"note:{i}"} for i in range(25_000)],
        )
    yield url
    engine.dispose()


def test_a_query_is_collected_and_again_only_what_is_new(make_lab: Callable[..., Lab], warehouse: str) -> None:
    lab = make_lab(databases={"shop": warehouse})
    query = "SELECT id, price, note, empty FROM orders WHERE note IS NULL OR note <> ':x' ORDER BY id"
    made = lab.run("collect", name="orders", source="sql://shop", query=query, incremental="id")
    assert made["rows"] == 25_000
    table = lab.table("orders")
    assert table["id"].to_pylist() == list(range(25_000))
    assert table["price"].to_pylist()[:3] == [0.0, 0.25, 0.5]
    assert table["note"].to_pylist()[:2] == ["note:0", None]
    assert "shop.db" not in lab.version("orders").manifest.model_dump_json()
    again = lab.run("collect", name="orders", source="sql://shop", query=query, incremental="id")
    assert (again["dataset"], again["new_rows"]) == ("orders:1", 0)
    engine = create_engine(warehouse)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (30000, 1, 'late', NULL)"))
    engine.dispose()
    more = lab.run("collect", name="orders", source="sql://shop", query=query, incremental="id")
    assert (more["dataset"], more["new_rows"], more["rows"]) == ("orders:2", 1, 25_001)


@pytest.mark.parametrize(
    "query", ["DELETE FROM orders", "SELECT 1; DROP TABLE orders", "WITH x AS (SELECT 1) DELETE FROM orders"]
)
def test_a_query_only_reads(make_lab: Callable[..., Lab], warehouse: str, query: str) -> None:
    lab = make_lab(databases={"shop": warehouse})
    with pytest.raises(InvalidInput, match="query"):
        lab.run("collect", name="t", source="sql://shop", query=query)
    engine = create_engine(warehouse)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM orders")).scalar() == 25_000
    engine.dispose()


def test_begin_with_copies_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(parquet_of(ROWS))
    collect.begin_with(tmp_path / "new", [tmp_path / "part-00000.parquet"])
    collect.begin_with(tmp_path / "new", [tmp_path / "part-00000.parquet"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["part-00000.parquet"]


def test_the_web_is_read_but_not_private_addresses(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as web:
        monkeypatch.setenv("SSL_CERT_FILE", str(web.certificate))
        web.pages["/wine.csv"] = wine_csv().encode()
        web.pages["/hidden"] = (302, {"location": web.url("/wine.csv")}, b"")
        lab = make_lab()
        for source in (web.url("/wine.csv"), web.url("/wine.csv", "127.0.0.1"), "https://169.254.169.254/latest.csv"):
            with pytest.raises(NotAllowed, match="is not an address of the public internet"):
                lab.run("collect", name="t", source=source)
        assert web.asked == []
        open_lab = make_lab(allow_private=True)
        assert open_lab.run("collect", name="t", source=web.url("/wine.csv?token=secret"))["rows"] == 178
        assert open_lab.version("t").manifest.source == web.url("/wine.csv")
        with pytest.raises(ModelportError, match="has nothing there"):
            open_lab.run("collect", name="t", source=web.url("/gone.csv"))


def test_plain_http_is_read_as_https_is(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    with serving(tmp_path, plain=True) as web:
        web.pages["/wine.csv"] = wine_csv().encode()
        for source in (web.url("/wine.csv"), "http://169.254.169.254/latest.csv", "http://[fd00:ec2::254]/m.csv"):
            with pytest.raises(NotAllowed, match="MODELPORT_DATA_ALLOW_PRIVATE"):
                make_lab().run("collect", name="t", source=source)
        assert web.asked == []
        lab = make_lab(allow_private=True)
        assert lab.run("collect", name="t", source=web.url("/wine.csv?token=secret"))["rows"] == 178
        assert lab.version("t").manifest.source == web.url("/wine.csv")
        with pytest.raises(NotAllowed, match="the operator allows https://"):
            make_lab(allow=["https://"], allow_private=True).run("collect", name="t", source=web.url("/wine.csv"))
        with pytest.raises(TooLarge, match="MODELPORT_DATA_MAX_GB"):
            make_lab(allow_private=True, max_gb=1e-6).run("collect", job="small", name="t", source=web.url("/wine.csv"))


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")
@pytest.mark.long
def test_spark_is_a_source_and_its_frames_are_too(
    make_lab: Callable[..., Lab], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark writes ORC, which nothing else here reads."""
    # three machines that live for seconds: thorough compilation and a parallel collector would cost more than they save
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    code = (
        "import os, sys\n"
        "from pyspark.sql import SparkSession\n"
        "from modelport.sdk.datasets import _write_frame\n"
        "from pathlib import Path\n"
        "spark = SparkSession.builder.master('local[1]').config('spark.ui.enabled', 'false').getOrCreate()\n"
        "frame = spark.range(1000).selectExpr('id', 'id * 0.5D AS half', 'cast(id AS string) AS s')\n"
        f"frame.coalesce(1).write.orc('{(tmp_path / 'orc').as_uri()}')\n"
        f"_write_frame(frame.coalesce(1), Path('{tmp_path / 'frame'}'))\n"
        "spark.stop(); sys.stdout.flush(); os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lab = make_lab(allow=[(tmp_path / "orc").as_uri()])
    made = lab.run("collect", name="t", source=f"spark:orc:{(tmp_path / 'orc').as_uri()}")
    expected = {"id": list(range(1000)), "half": [i * 0.5 for i in range(1000)], "s": [str(i) for i in range(1000)]}
    assert lab.table("t").to_pydict() == expected
    frame = {path.name: path.read_bytes() for path in (tmp_path / "frame").glob("*.parquet")}
    assert lab.collect("u", frame)["digest"] == made["digest"]
    with pytest.raises(InvalidInput, match="Spark refuses it"):
        lab.run("collect", name="t", source=f"spark:nonsense:{(tmp_path / 'orc').as_uri()}")
    with pytest.raises(NotAllowed):
        lab.run("collect", name="t", source="spark:csv:file:///etc")
