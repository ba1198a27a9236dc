"""What is read from real ONNX models: signatures, dynamic dimensions, classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.formats.onnx_wire import likeness
from modelport.engine.inspect import artifact_files
from modelport.engine.runtime import Inspected, LoadOptions, Trust
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.errors import ArtifactRefused
from modelport.tensors import DATATYPES, TensorSpec
from tests import onnx_models


def look(folder: Path, model: bytes | onnx.ModelProto | None = None) -> Inspected:
    if model is not None:
        content = model if isinstance(model, bytes) else model.SerializeToString()
        (folder / "weights.dat").write_bytes(content)
    files = artifact_files(folder)
    found = OnnxFormat()
    assert found.recognises(folder, files)
    return found.inspect(folder, files, Trust())


@pytest.mark.parametrize("datatype", DATATYPES)
def test_datatypes(datatype: str, tmp_path: Path) -> None:
    found = look(tmp_path, onnx_models.identity(datatype, (-1, 3, -1))).signature
    assert found.inputs == (TensorSpec("input", datatype, (-1, 3, -1), ("batch", None, "dim2")),)
    assert found.outputs[0].datatype == datatype


def test_shapes(tmp_path: Path) -> None:
    assert look(tmp_path, onnx_models.scalar()).signature.inputs[0] == TensorSpec("input", "FP32", ())
    assert look(tmp_path, onnx_models.fixed_batch()).signature.outputs[0] == TensorSpec("output", "FP32", (2, 3))
    assert look(tmp_path, onnx_models.dynamic_dims()).signature.outputs == (
        TensorSpec("total", "FP32", (-1,), ("batch",)),
        TensorSpec("doubled", "FP32", (-1, -1), ("batch", "length")),
    )


def test_initializers_are_no_inputs(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_models.mlp())
    model.graph.input.append(onnx_models.value("w0", "FP32", (4, 8)))
    assert [spec.name for spec in look(tmp_path, model).signature.inputs] == ["input"]


def test_an_output_of_unknown_rank(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["input", "shape"], ["output"])
    inputs = [onnx_models.value("input", "FP32", (-1,)), onnx_models.value("shape", "INT64", (-1,))]
    model = onnx_models.model([node], inputs, [onnx_models.value("output", "FP32", None)])
    found = look(tmp_path, model).signature
    assert found.outputs == (TensorSpec("output", "FP32", (-1,), ("...",)),)
    runtime = OnnxRuntime.load(LoadOptions(tmp_path, ("weights.dat",), found, {}))
    answer = runtime.infer({"input": np.ones(6, np.float32), "shape": np.array([1, 2, 3])})
    assert answer["output"].shape == (1, 2, 3)


def test_an_output_whose_shape_can_be_inferred(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["input"], ["output"])
    model = onnx_models.model(
        [node], [onnx_models.value("input", "FP32", (-1, 5))], [onnx_models.value("output", "FP32", None)]
    )
    assert look(tmp_path, model).signature.outputs[0].shape == (-1, 5)


def test_external_data_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    onnx_models.with_external_data(tmp_path / "net")
    (tmp_path / "labels.txt").write_text("a\nb\n")
    found = look(tmp_path)
    assert found.details["model_file"] == "net/model.onnx"
    assert found.details["parameters"] == 64 * 32 + 32 + 32 * 10 + 10


def _classifier(estimator: Any, zipmap: bool, names: bool) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_iris

    iris = load_iris()
    target = iris.target_names[iris.target] if names else iris.target + 5
    options = {"zipmap": zipmap}
    types = [("X", FloatTensorType([None, 4]))]
    converted = convert_sklearn(estimator.fit(iris.data, target), initial_types=types, options=options, target_opset=18)
    return converted.SerializeToString()


def _estimators() -> list[Any]:
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    return [
        LogisticRegression(max_iter=300),
        RandomForestClassifier(5),
        GradientBoostingClassifier(n_estimators=3),
        GaussianNB(),
        MLPClassifier((4,), max_iter=5),
        make_pipeline(StandardScaler(), SVC(probability=True)),
        DecisionTreeClassifier(),
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", _estimators(), ids=lambda estimator: type(estimator).__name__)
def test_classes_of_converted_classifiers(estimator: Any, tmp_path: Path) -> None:
    for zipmap in (True, False):
        for names in (True, False):
            found = look(tmp_path, _classifier(estimator, zipmap, names))
            scores = found.signature.outputs[1]
            assert (scores.datatype, len(scores.shape)) == ("FP32", 2)
            assert found.labels == {scores.name: ["setosa", "versicolor", "virginica"] if names else ["5", "6", "7"]}


def test_classes_in_the_model_s_own_node(tmp_path: Path) -> None:
    assert look(tmp_path, onnx_models.string_labels()).labels == {"probabilities": ["ant", "bee", "cat"]}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'ant', 1: 'bee', 2: 'cat'}"),
        ("labels", json.dumps(["ant", "bee", "cat"])),
        ("classes", "ant, bee,cat"),
        ("class_names", json.dumps({"2": "cat", "0": "ant", "1": "bee"})),
    ],
)
def test_classes_in_the_metadata(key: str, text: str, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_models.mlp())
    model.metadata_props.add(key=key, value=text)
    assert look(tmp_path, model).labels == {"output": ["ant", "bee", "cat"]}


def test_classes_that_fit_no_output_are_details(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_models.mlp((4, 8, 5)))
    model.metadata_props.add(key="names", value="{0: 'ant', 1: 'bee'}")
    found = look(tmp_path, model)
    assert found.labels == {}
    assert found.details["classes"] == ["ant", "bee"]


@pytest.mark.parametrize("text", ["", "ant", "{'a': 1}", "7", "[" * 10_000, "__import__('os').getcwd()"])
def test_metadata_that_means_nothing(text: str, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_models.mlp())
    model.metadata_props.add(key="labels", value=text)
    assert look(tmp_path, model).labels == {}


@pytest.mark.parametrize("make", [onnx_models.mlp, onnx_models.scalar, onnx_models.string_labels])
def test_likeness_needs_the_whole_file(make: Callable[[], bytes], tmp_path: Path) -> None:
    model = make()
    path = tmp_path / "x"
    for end in range(len(model)):
        path.write_bytes(model[:end])
        if (
            likeness(path) == "model"
        ):  # cut between two fields: still a message, and then the parser says what is missing
            with pytest.raises(ArtifactRefused):
                look(tmp_path, model[:end])
    path.write_bytes(model)
    assert likeness(path) == "model"
