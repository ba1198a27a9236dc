"""Batch inference as a job's process runs it: real replicas, real models, rows out for rows in."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sql

from modelport.control.jobs.run import params_of
from modelport.control.work.predict import Predict
from modelport.data.statistics import describe
from modelport.data.writing import write_parts
from modelport.errors import Conflict, InvalidInput, ModelportError, NotAllowed
from tests.data.digits import digits_onnx, digits_table
from tests.data.lab import Lab, csv_of, png
from tests.onnx_models import CRASHING_INPUT, add_sub, crasher, fails_on, fixed_batch, mlp, sklearn_classifier_onnx
from tests.services.s3 import S3

PIXELS = [f"p{index}" for index in range(64)]


def parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=500)
    return sink.getvalue().to_pybytes()


def numbers(lab: Lab, name: str, values: list[Any]) -> None:
    lab.collect(name, {"t.csv": csv_of({"key": [f"k{n}" for n in range(len(values))], "input": values})})


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("part-*.parquet")}


def test_digits_are_those_of_the_process(lab: Lab) -> None:
    model, table = digits_onnx(), digits_table()
    lab.push("digits", model)
    lab.collect("digits", {"digits.parquet": parquet(table)})
    result = lab.run(
        "predict", model="digits", data="digits", inputs={"X": ["p*"]}, keep=["label"], shard_rows=400, workers=2,
        probabilities=True,
    )  # fmt: skip
    assert (result["rows"], result["failed_rows"], result["shards"]) == (1797, 0, 5)
    assert result["dataset"] == "digits-predictions:1" and result["model"] == "digits:1"
    images = np.stack([table.column(name).to_numpy() for name in PIXELS], axis=1).astype(np.float32)
    labels, probabilities = onnxruntime.InferenceSession(model).run(None, {"X": images})
    found = lab.table("digits-predictions")
    assert found.column("row").to_pylist() == list(range(1797))
    assert found.column("label").to_pylist() == table.column("label").to_pylist(), "what is kept keeps its name"
    assert found.column("predicted_label").to_pylist() == labels.tolist()
    np.testing.assert_allclose(np.stack(found.column("probabilities").to_pylist()), probabilities, rtol=1e-5)
    np.testing.assert_allclose(found.column("score").to_numpy(), probabilities.max(axis=1), rtol=1e-5)
    version = lab.version("digits-predictions")
    assert version.manifest.parents == ["digits:1", "model:digits:1"]
    assert lab.said[-1][0] >= 0 and (1797.0, 1797.0) in {said[:2] for said in lab.said}


def test_an_attempt_goes_on_and_ends_with_the_same_bytes(make_lab: Callable[..., Lab], tmp_path: Path) -> None:
    out = tmp_path / "out"
    lab = make_lab(results=[out.as_uri()])
    lab.push("digits", digits_onnx())
    lab.collect("digits", {"digits.parquet": parquet(digits_table())})
    told = {"model": "digits", "data": "digits", "inputs": {"X": ["p*"]}, "shard_rows": 300}
    lab.run("predict", job="whole", to=f"{out.as_uri()}/whole", **told)
    wanted = hashes(out / "whole")
    assert len(wanted) == 6

    def stop(message: dict[str, Any]) -> None:
        if message.get("progress", {}).get("done", 0) > 1000:
            raise KeyboardInterrupt

    work, run = Predict(), lab.job("cut")
    params = params_of(work, {**told, "to": f"{out.as_uri()}/cut"})
    run.report = stop
    with pytest.raises(KeyboardInterrupt):
        work.run(run, params)
    there = hashes(out / "cut")
    assert 0 < len(there) < 6 and not (out / "cut" / "_manifest.json").exists()
    times = {name: (out / "cut" / name).stat().st_mtime_ns for name in there}
    lab.push("digits", mlp((64, 8, 10)))  # what "digits" means has changed since; the job's meaning has not
    result = work.run(lab.job("cut"), params)
    assert (result["rows"], result["model"]) == (1797, "digits:1")
    assert hashes(out / "cut") == wanted
    assert {name: (out / "cut" / name).stat().st_mtime_ns for name in there} == times, "a finished shard was run again"
    manifest = json.loads((out / "cut" / "_manifest.json").read_text())
    assert manifest["rows"] == 1797 and [shard["sha256"] for shard in manifest["shards"]] == list(
        dict(sorted(wanted.items())).values()
    )
    assert not (out / "cut" / "_unfinished.json").exists()
    assert work.run(lab.job("cut"), params) == result, "an attempt after the end changes nothing"


def test_a_refused_row_is_named(lab: Lab) -> None:
    lab.push("thirteen", fails_on(13))
    numbers(lab, "numbers", [*range(10), 13, *range(20, 300)])
    with pytest.raises(InvalidInput, match=r"row 10 \(key 'k10'\): .*--on-error record"):
        lab.run("predict", model="thirteen", data="numbers", id=["key"])
    result = lab.run("predict", model="thirteen", data="numbers", id=["key"], on_error="record", batch=32)
    assert (result["rows"], result["failed_rows"]) == (291, 1)
    rows = lab.rows("numbers-predictions")
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(291)]
    assert [row["output"] for row in rows] == [*range(10), None, *range(20, 300)]
    assert [n for n, row in enumerate(rows) if row["error"]] == [10]


def test_a_row_that_kills_its_replica_costs_only_itself(lab: Lab) -> None:
    lab.push("crasher", crasher())
    numbers(lab, "numbers", [1, 2, CRASHING_INPUT, 4, 5])
    result = lab.run("predict", model="crasher", data="numbers", on_error="record", batch=2)
    assert (result["rows"], result["failed_rows"]) == (5, 1)
    rows = lab.rows("numbers-predictions")
    assert [row["output"] for row in rows] == [-1, -2, None, -4, -5]
    assert "died" in rows[2]["error"] and rows[2]["row"] == 2


def test_all_rows_refused_are_all_written(lab: Lab) -> None:
    lab.push("thirteen", fails_on(13))
    numbers(lab, "numbers", [13, 13, 13])
    result = lab.run("predict", model="thirteen", data="numbers", on_error="record", shard_rows=2)
    assert (result["rows"], result["failed_rows"]) == (3, 3)


def test_nulls_are_refused_or_not_a_number(lab: Lab) -> None:
    lab.push("iris", sklearn_classifier_onnx())
    table = {"a": [1.0, None, 3.0], "b": [1, 2, 3], "c": [1, 2, 3], "d": [1, 2, 3]}
    lab.collect("flowers", {"t.csv": csv_of(table)})
    told = {"model": "iris", "data": "flowers", "inputs": {"X": ["a", "b", "c", "d"]}}
    with pytest.raises(InvalidInput, match="row 1: column 'a' is null"):
        lab.run("predict", **told)
    lab.run("predict", **told, on_error="record")
    assert [row["error"] for row in lab.rows("flowers-predictions")] == [None, "column 'a' is null", None]
    lab.run("predict", **told, nulls="nan")
    assert math.isnan(lab.rows("flowers-predictions:2")[1]["score"])


def test_dates_go_in_as_texts_and_missing_texts_as_empty_ones(lab: Lab) -> None:
    text = onnx.TensorProto.STRING
    inputs = [onnx.helper.make_tensor_value_info(name, text, ["rows", 1]) for name in ("day", "at", "word")]
    nodes = [onnx.helper.make_node("StringConcat", ["day", "at"], ["both"]),
             onnx.helper.make_node("StringConcat", ["both", "word"], ["all"])]  # fmt: skip
    outputs = [onnx.helper.make_tensor_value_info("all", text, ["rows", 1])]
    graph = onnx.helper.make_graph(nodes, "joined", inputs, outputs)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    lab.push("joined", made.SerializeToString())
    hours = pa.array([0, 3_661_500_000], pa.timestamp("us", "Europe/Berlin"))
    table = pa.table({"day": pa.array([0, None], pa.date32()), "at": hours, "word": ["!", None]})
    lab.collect("days", {"t.parquet": parquet(table)})
    with pytest.raises(InvalidInput, match="row 1: column '(day|word)' is null"):
        lab.run("predict", model="joined", data="days")
    lab.run("predict", model="joined", data="days", nulls="nan")
    assert [row["all"] for row in lab.rows("days-predictions")] == [
        "1970-01-011970-01-01T00:00:00!",
        "1970-01-01T01:01:01",
    ]


def test_lists_are_rows_and_a_row_of_another_length_is_refused(lab: Lab) -> None:
    lab.push("mlp", mlp((4, 8, 3)))
    rows = [[1.0, 2, 3, 4], [5.0, 6, 7], [1.0, 2, 3, 4]]
    lab.collect("lists", {"t.parquet": parquet(pa.table({"features": rows}))})
    lab.run("predict", model="mlp", data="lists", on_error="record")
    found = lab.rows("lists-predictions")
    assert found[0]["output"] == found[2]["output"] and len(found[0]["output"]) == 3
    assert found[1]["output"] is None and "has [3] values, the input takes [4]" in found[1]["error"]


def test_several_inputs_by_name(lab: Lab) -> None:
    lab.push("sum", add_sub(width=4))
    table = pa.table({"INPUT0": [[1.0, 2, 3, 4]] * 70, "INPUT1": [[1.0, 1, 1, 1]] * 70})
    lab.collect("pairs", {"t.parquet": parquet(table)})
    names = [spec.name for spec in lab.services.registry.version(lab.actor, "sum").manifest.signature.inputs]
    columns = dict(zip(names, (["INPUT0"], ["INPUT1"]), strict=True))
    lab.run("predict", model="sum", data="pairs", inputs=columns)
    first = lab.rows("pairs-predictions")[69]
    assert [2.0, 3.0, 4.0, 5.0] in first.values() and [0.0, 1.0, 2.0, 3.0] in first.values()


def test_a_model_that_cannot_batch_is_run_row_by_row(lab: Lab) -> None:
    lab.push("fixed", fixed_batch(1, 3))
    lab.collect("lists", {"t.parquet": parquet(pa.table({"x": [[float(n), 2.0, 3.0] for n in range(9)]}))})
    lab.run("predict", model="fixed", data="lists", workers=2)
    assert [row["output"] for row in lab.rows("lists-predictions")] == [[2.0 * n, 4.0, 6.0] for n in range(9)]


def test_images_go_through_the_versions_preprocessing(lab: Lab) -> None:
    step = {"kind": "image", "input": "input", "size": 2, "channels": "L"}
    lab.push("pictures", mlp((4, 8, 3)), preprocessing=[step])
    files = {f"a/{n}.png": png(np.full((2, 2), n * 50, np.uint8)) for n in range(3)}
    lab.collect("pictures", files)
    assert lab.run("predict", model="pictures", data="pictures", id=["path"])["rows"] == 3


def test_on_a_store(make_lab: Callable[..., Lab], s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket("predictions")
    lab = make_lab(results=[f"s3://{bucket}", "s3://missing-bucket"])
    lab.push("thirteen", fails_on(13))
    numbers(lab, "numbers", list(range(20, 50)))
    told = {"model": "thirteen", "data": "numbers", "to": f"s3://{bucket}/deep/er", "shard_rows": 10}
    result = lab.run("predict", job="one", **told)
    assert (result["rows"], result["to"]) == (30, f"s3://{bucket}/deep/er")
    assert sorted(s3.keys(bucket)) == ["deep/er/_manifest.json", *(f"deep/er/part-{n:05}.parquet" for n in range(3))]
    with pytest.raises(Conflict, match="holds results of job one; .*--overwrite"):
        lab.run("predict", **told)
    assert lab.run("predict", **{**told, "shard_rows": 30}, overwrite=True)["shards"] == 1
    assert sorted(s3.keys(bucket)) == ["deep/er/_manifest.json", "deep/er/part-00000.parquet"]
    with pytest.raises(ModelportError, match="no such bucket") as caught:
        lab.run("predict", **{**told, "to": "s3://missing-bucket/x"})
    assert caught.value.status < 500


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_in_a_table(make_lab: Callable[..., Lab], tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    if kind == "postgresql":
        server = request.getfixturevalue("postgres")
        url = server.get_uri(database="postgres", driver="psycopg")
    lab = make_lab(results=["sql://warehouse"], databases={"warehouse": url})
    lab.push("iris", sklearn_classifier_onnx())
    table = {"k": [f"k{n}" for n in range(95)], **{c: [n + 0.5 for n in range(95)] for c in "abcd"}}
    lab.collect("flowers", {"t.csv": csv_of(table)})
    told: dict[str, Any] = {
        "model": "iris", "data": "flowers", "inputs": {"X": list("abcd")}, "id": ["k"], "to": "sql://warehouse/scores",
        "shard_rows": 30,
    }  # fmt: skip
    work = Predict()
    params = params_of(work, told)
    work.check(lab.services, lab.actor, params)
    run = lab.job("one")

    def stop(message: dict[str, Any]) -> None:
        if message.get("progress", {}).get("done", 0) > 70:
            raise KeyboardInterrupt

    run.report = stop
    with pytest.raises(KeyboardInterrupt):
        work.run(run, params)
    (run.folder / "shards" / "00000.json").unlink()  # as if killed between the transaction and the note
    assert work.run(lab.job("one"), params)["rows"] == 95
    engine = sql.create_engine(url)
    with engine.connect() as connection:
        keys = [row[0] for row in connection.execute(sql.text("SELECT k FROM scores"))]
        assert sorted(keys) == sorted(table["k"])
        assert connection.execute(sql.text("SELECT count(*) FROM modelport_results WHERE shard >= 0")).scalar() == 4
    with pytest.raises(Conflict, match="table 'scores' exists"):
        lab.run("predict", **told)
    assert lab.run("predict", **told, overwrite=True)["rows"] == 95
    with engine.connect() as connection:
        assert connection.execute(sql.text("SELECT count(*) FROM scores")).scalar() == 95
    engine.dispose()


BAD: list[tuple[str, dict[str, Any], type[ModelportError], str]] = [
    ("no model", {"model": "nothing"}, ModelportError, "there is no model 'nothing'"),
    ("no version", {"model": "mlp:9"}, ModelportError, "no version or alias '9'"),
    ("no alias", {"model": "mlp@best"}, ModelportError, "no version or alias 'best'"),
    ("version 0", {"model": "mlp:0"}, InvalidInput, "is no version"),
    ("alias as number", {"model": "mlp@1"}, ModelportError, "no alias '1'"),
    ("model as path", {"model": "../x"}, InvalidInput, "params.model"),
    ("no data", {"data": "nothing"}, ModelportError, "there is no dataset"),
    ("no part", {"data": "rows/train"}, ModelportError, "has no part 'train'"),
    ("empty data", {"data": "empty"}, InvalidInput, "has no rows"),
    ("no such id", {"id": ["nope"]}, ModelportError, "has no column 'nope'"),
    ("no such keep", {"keep": ["nope"]}, ModelportError, "has no column 'nope'"),
    ("no such input", {"inputs": {"y": ["a"]}}, InvalidInput, "no input 'y'; inputs: input FP32"),
    ("no such column", {"inputs": {"input": ["a", "nope"]}}, ModelportError, "no column 'nope'; it has a double"),
    ("nothing like it", {"inputs": {"input": ["zz*"]}}, ModelportError, "no column 'zz*'"),
    ("too few columns", {"inputs": {"input": ["a", "b"]}}, InvalidInput, "which is not 2 columns"),
    ("text", {"inputs": {"input": ["a", "b", "c", "t"]}}, InvalidInput, "column 't' is string"),
    ("names do not tell", {"inputs": {}}, InvalidInput, "say which with --input input="),
    ("no classifier", {"probabilities": True}, InvalidInput, "no classifier"),
    ("workers 0", {"workers": 0}, InvalidInput, "params.workers"),
    ("batch 0", {"batch": 0}, InvalidInput, "params.batch"),
    ("on error", {"on_error": "skip"}, InvalidInput, "params.on_error"),
    ("unknown", {"speed": 1}, InvalidInput, "params.speed"),
    ("path", {"to": "/srv/out"}, InvalidInput, "give dataset:NAME, a URL"),
    ("dataset name", {"to": "dataset:../x"}, InvalidInput, "is no name of a dataset"),
    ("not allowed", {"to": "s3://other/x"}, NotAllowed, "MODELPORT_DATA_RESULTS"),
    ("out of it", {"to": "{allowed}/../x"}, NotAllowed, "MODELPORT_DATA_RESULTS"),
    ("out of it, escaped", {"to": "{allowed}/%2e%2E/x"}, NotAllowed, "MODELPORT_DATA_RESULTS"),
    ("out of it, in one", {"to": "{allowed}/..%2fx"}, NotAllowed, "MODELPORT_DATA_RESULTS"),
    ("no database", {"to": "sql://nowhere/t"}, ModelportError, "no database 'nowhere'"),
    ("no table", {"to": "sql://nowhere/t;drop"}, InvalidInput, "TABLE of letters"),
    ("a file there", {"to": "{allowed}/file"}, ModelportError, "a file is where a folder should be"),
    ("full folder", {"to": "{allowed}/full"}, Conflict, "--overwrite"),
]


@pytest.mark.parametrize(("change", "kind", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input(
    make_lab: Callable[..., Lab], tmp_path: Path, change: dict[str, Any], kind: type[ModelportError], words: str
) -> None:
    allowed = tmp_path / "allowed"
    (allowed / "full").mkdir(parents=True)
    (allowed / "full" / "mine.txt").write_text("mine")
    (allowed / "file").write_text("mine")
    lab = make_lab(results=[allowed.as_uri(), "sql://nowhere"])
    lab.push("mlp", mlp((4, 8, 3)))
    lab.collect("rows", {"t.csv": csv_of({**{c: [1.5, 2.5] for c in "abcd"}, "t": ["x", "y"]})})
    parts = write_parts(tmp_path / "empty", pa.schema([(c, pa.float64()) for c in "abcd"]), [])
    lab.services.datasets.register(lab.actor, "empty", tmp_path / "empty", describe(parts, None))
    told = {"model": "mlp", "data": "rows", "inputs": {"input": list("abcd")}, **change}
    if "to" in told:
        told["to"] = told["to"].format(allowed=allowed.as_uri())
    with pytest.raises(kind) as caught:
        lab.run("predict", **told)
    assert words in caught.value.message and caught.value.status < 500
    assert str(tmp_path) not in caught.value.message.replace(allowed.as_uri(), "")
