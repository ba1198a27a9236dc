"""Sources and requests that are refused: each with its cause, before anything is made."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from modelport.errors import ModelportError
from tests.data.lab import Lab, png
from tests.data.test_collect import ROWS, parquet_of

GOOD = "a,b\n1,x\n"
PNG = png(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize(
    ("files", "params", "message"),
    [
        ({"a.csv": ""}, {}, "'a.csv' is empty"),
        ({"a.csv": "a,b\n"}, {}, "no row that can be read"),
        ({"a.csv": "a,a\n1,2\n"}, {}, "column 'a' is there twice"),
        ({"a.csv": "a,\n1,2\n"}, {}, "column name ''"),
        ({"a.csv": b"a\n\xff\xfe\n"}, {}, "--encoding"),
        ({"a.csv": GOOD}, {"encoding": "klingon"}, "cannot be read"),
        ({"a.csv": "a,b\n1\n"}, {}, "row 2: has 1 fields"),
        ({"a.csv": GOOD}, {"types": {"q": "int64"}}, "there is no column 'q'"),
        ({"a.csv": GOOD}, {"types": {"b": "int64"}}, "'x' in column 'b' is no int64"),
        ({"a.csv": GOOD}, {"types": {"b": "complex"}}, "types"),
        ({"a.csv": GOOD}, {"format": "excel"}, "format"),
        ({"a.csv": GOOD}, {"delimiter": "::"}, "delimiter"),
        ({"a.csv": GOOD}, {"on_error": "ignore"}, "on_error"),
        ({"a.csv": GOOD}, {"surprise": 1}, "surprise"),
        ({"a.csv": GOOD}, {"incremental": "q"}, "incremental: there is no column 'q'"),
        ({"a.csv": "a,b\ntrue,1\n"}, {"incremental": "a"}, "cannot grow"),
        ({"a.csv": GOOD}, {"query": "SELECT 1"}, "only a sql:// source takes one"),
        ({"a.csv": GOOD}, {"source": "https://a.test/b.csv"}, "give one of source and files"),
        ({"a.csv": GOOD}, {"label": "q"}, "label"),
        ({"a.xyz": GOOD}, {}, "is not known by its ending"),
        ({"a.csv": GOOD, "b.jsonl": '{"a":1}'}, {}, "several formats"),
        ({"a.jsonl": "[1, 2]"}, {}, "holds one array"),
        ({"a.jsonl": "hello"}, {}, "has no JSON object"),
        ({"a.jsonl": '{"a":1}\n{"a":2\n'}, {}, "row 2: is no JSON object"),
        ({"a.jsonl": '{"a":1}\n3\n'}, {}, "row 2: is no JSON object"),
        ({"a.jsonl": '{"a\\u0000":1}'}, {}, "NUL"),
        ({"a.parquet": b"PAR1 nonsense"}, {}, "cannot be read"),
        ({"a.parquet": parquet_of(ROWS)[:-20]}, {}, "cannot be read"),
        ({"a.parquet": parquet_of(ROWS)[:40] + b"x" * 200 + parquet_of(ROWS)[240:]}, {}, "cannot be read"),
        ({"a.csv.gz": b"no gzip"}, {}, "cannot be read"),
        ({"a.csv.gz": gzip.compress(GOOD.encode() * 9)[:-12]}, {}, "cannot be read"),
        ({"a.zip": b"PK\x03\x04 nonsense"}, {}, "a.zip"),
        ({"a.png": b"no image"}, {}, "is no image that can be read"),
        ({"a.png": PNG[:45]}, {}, "is no image that can be read"),
        ({"a/1.txt": b"\xff"}, {}, "is not utf-8"),
        ({"a.txt": b"ok\n\xff\n"}, {}, "row 2: is not utf-8"),
        ({"a.txt": b""}, {}, "no row that can be read"),
        ({"../a.csv": GOOD}, {}, "'../a.csv'"),
        ({"/a.csv": GOOD}, {}, "'/a.csv'"),
    ],
)
def test_bad_sources_are_refused_with_their_cause(
    lab: Lab, files: dict[str, bytes | str], params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelportError) as error:
        lab.run("collect", **{"name": "t", "files": lab.send(files), **params})
    assert message in error.value.message
    assert 400 <= error.value.status < 500
    assert str(lab.folder) not in error.value.message, "no path of the server is told"
    assert lab.services.datasets.list(lab.actor) == []


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"source": "relative/path.csv"}, "the server reads no path of its own"),
        ({"source": "/etc/passwd"}, "the server reads no path of its own"),
        ({"source": "ftp://host/a.csv"}, "the operator allows"),
        ({"source": "spark:text:https://169.254.169.254/a"}, "not the web"),
        ({"source": "s3://other/a.csv"}, "the operator allows"),
        ({"source": "sql://user:secret@host/db", "query": "SELECT 1"}, "give sql://NAME"),
        ({"source": "sql://shop", "query": "SELECT 1"}, "no database 'shop'; there are lost, none"),
        ({"source": "sql://none"}, "query: a sql:// source needs one"),
        ({"source": "sql://none", "query": "DROP TABLE x"}, "only reads are run"),
        ({"source": "sql://none", "query": "SELECT 1", "incremental": "files"}, "a query has no files"),
        ({"source": "sql://lost", "query": "SELECT 1"}, "environment does not say"),
        ({"source": "spark:orc"}, "give spark:FORMAT:URL"),
        ({"files": [{"path": "a.csv", "size": 1, "sha256": "0" * 64}]}, "its content is not uploaded"),
        ({"name": "../up", "source": "https://a.test/a.csv"}, "name"),
        ({}, "give one of source and files"),
    ],
)
def test_bad_requests_are_refused_before_the_work(
    make_lab: Callable[..., Lab], params: dict[str, Any], message: str
) -> None:
    lab = make_lab(databases={"none": "sqlite:///nowhere/x.db", "lost": "env:MODELPORT_TEST_NOWHERE"})
    with pytest.raises(ModelportError) as error:
        lab.run("collect", **{"name": "t", **params})
    assert message in error.value.message
    assert "secret" not in error.value.message
    assert not (lab.folder / "jobs").exists() or not any((lab.folder / "jobs").glob("*/*"))
