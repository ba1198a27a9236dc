"""What people type and keep in files, as data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.cli import inputs
from modelport.errors import InvalidInput, NotFound
from modelport.sdk.inference import ModelMetadata
from modelport.tensors import TensorSpec

MATRIX = (TensorSpec("x", "FP32", (-1, 2)),)
COLUMNS = (TensorSpec("age", "INT64", (-1, 1)), TensorSpec("city", "BYTES", (-1,)))


def test_pairs() -> None:
    assert inputs.pairs(["a=1", "b=x=y", "c="], "--label") == {"a": "1", "b": "x=y", "c": ""}
    assert inputs.numbers(["acc=0.5"], "--metric") == {"acc": 0.5}
    for bad in ("a", "=1"):
        with pytest.raises(InvalidInput, match="--label"):
            inputs.pairs([bad], "--label")
    with pytest.raises(InvalidInput, match="not a number"):
        inputs.numbers(["acc=high"], "--metric")


def test_variables_by_name_come_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "x=y\nz")
    assert inputs.variables(["HERE", "B=1", "C="]) == {"HERE": "x=y\nz", "B": "1", "C": ""}
    for bad in ("NOT_HERE", "", "=1"):
        with pytest.raises(InvalidInput, match="--env"):
            inputs.variables([bad])


def test_class_names(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("ant\n\n bee \n")
    assert inputs.class_names(str(tmp_path / "classes.txt")) == ["ant", "bee"]
    assert inputs.class_names("ant, bee") == ["ant", "bee"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("[[1, 2]]", [[1, 2]]), ('{"data": [1]}', [1]), ('{"instances": [1]}', [1]), ('{"a": [1]}', {"a": [1]}),
        ("3.5", 3.5), ("-3", -3), ('"text"', "text"), ('{"data": [1], "b": [2]}', {"data": [1], "b": [2]}),
    ],
)  # fmt: skip
def test_json_on_the_command_line(text: str, want: Any) -> None:
    assert inputs.load(text, lambda: MATRIX) == want


def test_the_body_of_a_v2_request() -> None:
    found = inputs.load('{"inputs": [{"name": "x", "datatype": "INT8", "shape": [2, 1], "data": [1, 2]}]}', tuple)
    assert found["x"].tolist() == [[1], [2]] and found["x"].dtype == np.int8
    with pytest.raises(InvalidInput, match="no V2 tensors"):
        inputs.load('{"inputs": [{"name": "x"}]}', tuple)


def test_files_are_told_apart_by_content(tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", x=array)
    (tmp_path / "c.json").write_text("[1, 2]")
    (tmp_path / "misnamed.json").write_bytes((tmp_path / "a.npy").read_bytes())
    assert inputs.load(str(tmp_path / "a.npy"), tuple).tolist() == array.tolist()
    assert inputs.load(str(tmp_path / "b.npz"), tuple)["x"].tolist() == array.tolist()
    assert inputs.load(str(tmp_path / "c.json"), tuple) == [1, 2]
    assert inputs.load(str(tmp_path / "misnamed.json"), tuple).dtype == np.float32


def test_a_pickle_inside_npy_is_not_run() -> None:
    raw = io.BytesIO()
    np.save(raw, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="allow_pickle"):
        inputs.parse(raw.getvalue(), "x.npy")


@pytest.mark.parametrize("raw", [b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff", b"PK\x03\x04", b"\x80\x04", b"", b"[1,"])
def test_damaged_files(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="the file"):
        inputs.parse(raw, "the file")


def test_what_is_neither_file_nor_json() -> None:
    for text in ("images.npy", "x", "a" * 5000):
        with pytest.raises(NotFound, match="neither a file nor JSON"):
            inputs.load(text, tuple)


@pytest.mark.parametrize(
    ("text", "specs", "want"),
    [
        ("1,2\n3,4\n", MATRIX, {"x": [[1, 2], [3, 4]]}),
        ("a,b\n1,2\n", MATRIX, {"x": [[1, 2]]}),
        ("\n1,2\n\n", MATRIX, {"x": [[1, 2]]}),
        ("city,age\nOslo,3\nRome,4\n", COLUMNS, {"age": [[3], [4]], "city": ["Oslo", "Rome"]}),
        ("city,age,more\nOslo,3,x\n", COLUMNS, {"age": [[3]], "city": ["Oslo"]}),
        ('"a,b",c\n', (TensorSpec("t", "BYTES", (-1, 2)),), {"t": [["a,b", "c"]]}),
        ("1\n2\n", (TensorSpec("x", "INT32", (-1,)),), {"x": [1, 2]}),
        ("true\n0\n", (TensorSpec("x", "BOOL", (-1,)),), {"x": [True, False]}),
    ],
)
def test_csv(text: str, specs: tuple[TensorSpec, ...], want: dict[str, Any]) -> None:
    assert inputs.parse_csv(text, specs) == want


@pytest.mark.parametrize(
    ("text", "specs", "message"),
    [
        ("", MATRIX, "no rows"),
        ("1,2\n3\n", MATRIX, "line 2 has 1 columns"),
        ("1,2\n3,x\n", MATRIX, "line 2: 'x' is no FP32"),
        ("a,b\n1,x\n", MATRIX, "line 2: 'x'"),
        ("age,city\n", COLUMNS, "no rows"),
        ("1,2\n", COLUMNS, "must name the model's inputs: age, city"),
        ("age,city\n1.5,Oslo\n", COLUMNS, "'1.5' is no INT64 for input 'age'"),
    ],
)
def test_csv_that_does_not_fit(text: str, specs: tuple[TensorSpec, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        inputs.parse_csv(text, specs)


def test_a_sample_must_name_its_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(InvalidInput, match="does not name its inputs"):
        inputs.sample_inputs(tmp_path / "a.npy")
    with pytest.raises(NotFound):
        inputs.sample_inputs(tmp_path / "none.npz")


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes("müde\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"'rows\.csv' is not UTF-8 \(byte 1\); save it as UTF-8"):
        inputs.load(str(file), lambda: ModelMetadata("m", (), "", (TensorSpec("x", "BYTES", (-1,)),), ()))
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        inputs.class_names(str(file))


def test_v2_data_that_their_type_cannot_hold() -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1], "data": [300]}]}'
    with pytest.raises(InvalidInput, match="no V2 tensors .*each has name, datatype, shape and data that agree"):
        inputs.parse(body, "the argument")


def test_one_class_name_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is no file; give one with a name per line, or the names: cat,dog"):
        inputs.class_names(str(tmp_path / "lables.txt"))


def test_columns_go_to_features_by_name_whatever_their_order() -> None:
    spec = (TensorSpec("input", "FP32", (-1, 3)),)
    assert inputs.parse_csv("c,a,b\n3,1,2\n", spec, ("a", "b", "c")) == {"input": [[1, 2, 3]]}
    assert inputs.parse_csv("x,y,z\n3,1,2\n", spec, ("a", "b", "c")) == {"input": [[3, 1, 2]]}
    assert inputs.parse_csv("3,1,2\n", spec, ("a", "b", "c")) == {"input": [[3, 1, 2]]}
    with pytest.raises(InvalidInput, match="lacks the column 'b'"):
        inputs.parse_csv("c,a,x\n3,1,2\n", spec, ("a", "b", "c"))


def test_amounts_and_options_of_an_engine() -> None:
    assert [inputs.amount(text, "--memory") for text in (None, "7", "512Mi", "2G")] == [None, 7, 512 << 20, 2 * 10**9]
    for wrong in ("much", "1X", "-1", "1.5Gi"):
        with pytest.raises(InvalidInput, match="--memory '.*' is no amount"):
            inputs.amount(wrong, "--memory")
    assert inputs.engine_options([]) is None
    found = inputs.engine_options(["max_model_len=512", "dtype=float32"])
    assert found is not None and found.asked == {"max_model_len": 512, "dtype": "float32"}
    for given, said in (("colour=red", "--engine colour: .*max_model_len"), ("max_model_len=1", "equal to 16"),
                        ("max_model_len", "not like KEY=VALUE")):  # fmt: skip
        with pytest.raises(InvalidInput, match=said):
            inputs.engine_options([given])
