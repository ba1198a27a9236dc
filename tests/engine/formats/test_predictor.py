"""Python predictors are recognised by reading alone, and what is wrong with them is said by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.engine.formats.predictor import find_class
from modelport.engine.formats.requirements import read_requirements
from modelport.engine.inspect import inspect, inspect_apart
from modelport.engine.runtime import Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec
from tests import onnx_models

ALLOWED = Trust(python_predictors=True)
SOURCE = "class Predictor:\n    def predict(self, inputs): ...\n"
DECLARED = """
inputs: [{name: text, datatype: BYTES, shape: [-1]}, {name: size, datatype: FP32, shape: [-1, 2]}]
outputs: [{name: score, datatype: FP32, shape: [-1, 2], labels: [bad, good]}]
"""


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return tmp_path


def test_what_is_declared_is_found(tmp_path: Path) -> None:
    sample = "sample: {text: [one, two], size: [[1, 2], [3, 4.5]]}\nbatching: false"
    where = folder(
        tmp_path, predictor_py=SOURCE, modelport_yaml=DECLARED + sample, requirements_txt="x==1 # why\n\n# y"
    )
    found = inspect_apart(where, ALLOWED)
    assert found == inspect(where, ALLOWED)
    assert (found.format, found.runtime) == ("predictor", "predictor")
    assert found.signature.inputs == (TensorSpec("text", "BYTES", (-1,)), TensorSpec("size", "FP32", (-1, 2)))
    assert found.labels == {"score": ["bad", "good"]}
    assert found.details == {"class": "Predictor", "batching": False, "requirements": ["x==1", "numpy"]}
    assert found.sample is not None
    assert found.sample["inputs"][1] == {"name": "size", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4.5]}


def test_it_may_hold_a_model_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(onnx_models.mlp())
    assert inspect(folder(tmp_path, predictor_py="print('a script')"), ALLOWED).format == "onnx"
    assert inspect(folder(tmp_path, predictor_py=SOURCE, modelport_yaml=DECLARED), ALLOWED).format == "predictor"
    with pytest.raises(ArtifactRefused, match="MODELPORT_TRUST_PYTHON_PREDICTORS=true"):
        inspect_apart(tmp_path, Trust())


def test_nothing_is_run(tmp_path: Path) -> None:
    source = f"open({str(tmp_path / 'ran')!r}, 'w')\n{SOURCE}"
    inspect(folder(tmp_path, predictor_py=source, modelport_yaml=DECLARED), ALLOWED)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (SOURCE, "Predictor"),
        ("class Mine:\n    async def predict(self, x): ...\nclass Other: ...", "Mine"),
        ("class A:\n    def predict(self, x): ...\nclass B:\n    def predict(self, x): ...", None),
        ("class A(Base): ...\nclass Predictor(A): ...", "Predictor"),
        ("def predict(x): ...", None),
    ],
)
def test_the_class_is_found(source: str, expected: str | None) -> None:
    assert find_class(source) == expected


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"predictor_py": "class Predictor:\n  def predict(self: pass", "modelport_yaml": DECLARED}, "line 2"),
        ({"predictor_py": SOURCE}, "modelport.yaml"),
        ({"predictor_py": SOURCE, "modelport_yaml": "inputs: ["}, "not YAML: line"),
        ({"predictor_py": SOURCE, "modelport_yaml": "inputs: []\noutputs: []"}, "inputs has to name"),
        ({"predictor_py": SOURCE, "modelport_yaml": "- 1"}, "Expected object"),
        ({"predictor_py": SOURCE, "modelport_yaml": DECLARED + "batch: 3"}, "batch"),
        ({"predictor_py": SOURCE, "modelport_yaml": DECLARED.replace("FP32", "FLOAT")}, "inputs[1].datatype: 'FLOAT'"),
        ({"predictor_py": SOURCE, "modelport_yaml": DECLARED.replace("size", "text")}, "inputs[1].name"),
        ({"predictor_py": SOURCE, "modelport_yaml": DECLARED.replace("-1, 2", "-2, 2")}, "inputs[1].shape"),
        (
            {"predictor_py": SOURCE, "modelport_yaml": DECLARED + "sample: {text: [a]}"},
            "sample: input 'size' is missing",
        ),
        ({"predictor_py": SOURCE, "modelport_yaml": DECLARED + "sample: {size: [x]}"}, "sample.size"),
        (
            {"predictor_py": SOURCE, "modelport_yaml": DECLARED + "sample: {text: [1], size: [[1, 2]]}"},
            "BYTES are texts",
        ),
        ({"predictor_py": SOURCE, "modelport_yaml": DECLARED, "requirements_txt": "-r other.txt"}, "options belong"),
        ({"predictor_py": "class Predictor: x = " + "(" * 5000, "modelport_yaml": DECLARED}, "predictor.py"),
    ],
)
def test_what_is_wrong_is_named(files: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused) as refused:
        inspect_apart(folder(tmp_path, **files), ALLOWED)
    assert said in refused.value.message
    assert str(tmp_path) not in refused.value.message


@pytest.mark.parametrize("line", ["-e .", "--index-url https://x", "./x.whl", "x @ file:///x", "x==", "x --hash=md5:1"])
def test_requirements_name_packages_only(line: str) -> None:
    with pytest.raises(ArtifactRefused, match=r"^requirements.txt: "):
        read_requirements(f"numpy\n{line}", "requirements.txt")


def test_requirements_keep_their_hashes() -> None:
    pinned = f"numpy==2.0 --hash=sha256:{'0' * 64}"
    assert read_requirements(pinned.replace(" --", " \\\n    --"), "r") == [pinned]
    with pytest.raises(ArtifactRefused, match="list numpy"):
        read_requirements(pinned.replace("numpy", "six"), "r")
    assert read_requirements('a[x]>=1; python_version > "3"\nNumPy<3', "r") == [
        'a[x]>=1; python_version > "3"',
        "NumPy<3",
    ]
