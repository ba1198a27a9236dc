"""Folders of other products: what is read out of them, and what is refused with which words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from modelport.engine.imports.layout import as_name, parts_of
from modelport.engine.imports.triton_config import DATATYPES, parse
from modelport.engine.inspect import inspect
from modelport.engine.runtime import Inspected, Trust
from modelport.errors import ArtifactRefused
from tests import onnx_models
from tests.engine.imports.folders import CONFIG, bentoml, mlflow, triton


def seen(folder: Path) -> Inspected:
    return inspect(folder, Trust())


# Triton


def test_a_triton_model(tmp_path: Path) -> None:
    found = seen(triton(tmp_path / "mlp"))
    assert (found.format, found.runtime) == ("onnx", "onnx")
    assert found.labels == {"output": ["cat", "dog", "fox"]}
    assert found.details["max_batch"] == 8
    assert found.details["triton"] == {"name": "mlp", "version": 1, "backend": "onnxruntime"}


def test_every_field_is_where_tritons_own_message_has_it(tmp_path: Path) -> None:
    """tritonclient brings Triton's ModelConfig: what one writes, the other reads."""
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    theirs = pb2.ModelConfig(name="m", backend="onnxruntime", max_batch_size=4, default_model_filename="m.onnx")
    theirs.version_policy.specific.versions.extend([1, 3])
    for number in range(1, len(DATATYPES)):
        theirs.input.add(name=f"i{number}", data_type=number, dims=[number, -1])
    theirs.output.add(name="o", data_type=pb2.TYPE_STRING, dims=[1], label_filename="l.txt").reshape.shape.append(1)
    theirs.sequence_batching.max_sequence_idle_microseconds = 5
    ours = parse(str(theirs))
    assert [tensor.data_type for tensor in ours.input] == [tensor.data_type for tensor in theirs.input]
    for field in ours.DESCRIPTOR.fields:
        assert pb2.ModelConfig.DESCRIPTOR.fields_by_name[field.name].number == field.number
        if field.message_type is not None and field.message_type.name != "Skipped":
            other = pb2.ModelConfig.DESCRIPTOR.fields_by_name[field.name].message_type
            for inner in field.message_type.fields:
                assert other.fields_by_name[inner.name].number == inner.number, inner.full_name
    again = type(ours)()
    again.ParseFromString(theirs.SerializeToString())
    assert list(again.version_policy.specific.versions) == [1, 3]
    assert [tuple(tensor.dims) for tensor in again.input] == [tuple(tensor.dims) for tensor in theirs.input]


def change(old: str, new: str) -> str:
    assert old in CONFIG
    return CONFIG.replace(old, new)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(change('"input"', '"x"'), "names the input 'x', the model has input", id="name"),
        pytest.param(change("FP32 dims: [ 4 ]", "FP16 dims: [ 4 ]"), "'input' is FP16, the model has FP32", id="type"),
        pytest.param(change("dims: [ 4 ]", "dims: [ 5 ]"), "dims [-1, 5] with the batch dimension", id="dims"),
        pytest.param(change("dims: [ 4 ]", "dims: [ 1, 4 ]"), "dims [-1, 1, 4]", id="rank"),
        pytest.param(change("max_batch_size: 8", ""), "dims [4], the model [-1, 4]", id="batch"),
        pytest.param(change("dims: [ 4 ]", "dims: [ 4 ] reshape { shape: [ 2, 2 ] }"), "reshape", id="reshape"),
        pytest.param(change("labels.txt", "no.txt"), "names the label file 'no.txt'", id="labels-missing"),
        pytest.param(CONFIG + "sequence_batching {}", "keeps state between requests", id="sequence"),
        pytest.param('name: "e" platform: "ensemble" ensemble_scheduling { step [] }', "ensemble", id="ensemble"),
        pytest.param('backend: "python"', "Python predictor", id="python"),
        pytest.param("name: [", "cannot be read", id="syntax"),
        pytest.param("a {" * 5000, "cannot be read", id="deep"),
        pytest.param("input [ { data_type: TYPE_NONE } ]", "cannot be read", id="enum"),
    ],
)
def test_refused_triton_models(tmp_path: Path, config: str, expected: str) -> None:
    with pytest.raises(ArtifactRefused) as refused:
        seen(triton(tmp_path / "m", config))
    assert expected in refused.value.message


def test_a_backend_that_is_not_served(tmp_path: Path) -> None:
    folder = triton(tmp_path / "m", change("onnxruntime_onnx", "tensorrt_plan"))
    (folder / "1" / "model.onnx").rename(folder / "1" / "model.plan")
    (folder / "1" / "model.plan").write_bytes(b"ftrt" + bytes(100))
    with pytest.raises(ArtifactRefused, match="TensorRT plan, which fits one kind of GPU: push the ONNX file"):
        seen(folder)


def test_several_versions_are_pushed_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="has the versions 1, 2: push one version"):
        seen(triton(tmp_path / "m", versions=(1, 2)))


@pytest.mark.parametrize(
    ("policy", "want"),
    [
        ("", ["10"]),
        ("version_policy { all {} }", ["1", "2", "10"]),
        ("version_policy { latest { num_versions: 2 } }", ["2", "10"]),
        ("version_policy: { specific: { versions: [ 1, 2, 7 ] } }", ["1", "2"]),
    ],
)
def test_the_version_policy_says_what_is_pushed(tmp_path: Path, policy: str, want: list[str]) -> None:
    parts = parts_of(triton(tmp_path / "m", CONFIG + policy, versions=(1, 2, 10)))
    assert [part.labels["triton.version"] for part in parts] == want
    assert {part.name for part in parts} == {"mlp"}
    assert parts[-1].files == ("config.pbtxt", "labels.txt", f"{want[-1]}/model.onnx")


def test_a_repository_of_several_models(tmp_path: Path) -> None:
    triton(tmp_path / "mlp")
    triton(tmp_path / "bare net", None, versions=(3,))
    (tmp_path / "README.md").write_text("two models")
    found = [(part.name, part.files) for part in parts_of(tmp_path)]
    assert found == [("bare-net", ("3/model.onnx",)), ("mlp", ("config.pbtxt", "labels.txt", "1/model.onnx"))]


def test_no_version_of_the_policy_is_there(tmp_path: Path) -> None:
    folder = triton(tmp_path / "m", CONFIG + "version_policy { specific { versions: [ 5 ] } }")
    with pytest.raises(ArtifactRefused, match="none of the versions"):
        parts_of(folder)


def test_blocks_that_say_nothing_about_the_model_are_skipped(tmp_path: Path) -> None:
    blocks = """
        instance_group [ { count: 1 rate_limiter { resources [ { name: "R" count: 1 } ] priority: 2 } } ]
        optimization { graph { level: 1 } execution_accelerators { gpu_execution_accelerator : [ {
          name : "tensorrt" parameters { key: "precision_mode" value: "FP16" } } ] } }
        parameters [ { key: "a" value: { string_value: "1" } }, { key: "b" value: { string_value: "2" } } ]
        model_warmup [ { name: "w" batch_size: 1 inputs { key: "input" value: { data_type: TYPE_FP32 dims: 4 } } } ]
        response_cache { enable: true } a_field_of_the_future: [ 1, 2 ] another { x: -1.5 y: "z" }
    """
    assert seen(triton(tmp_path / "m", CONFIG.replace("instance_group [ { count: 2 kind: KIND_CPU } ]", blocks)))


# MLflow


@pytest.mark.parametrize(
    "example",
    [
        [[1.0, 2.0, 3.0, 4.0]],
        {"inputs": [[1.0, 2.0, 3.0, 4.0]]},
        {"inputs": {"input": [[1.0, 2.0, 3.0, 4.0]]}},
        {"instances": [[1.0, 2.0, 3.0, 4.0]]},
        {"columns": ["a", "b", "c", "d"], "data": [[1, 2, 3, 4]]},
        {"dataframe_split": {"columns": [0, 1, 2, 3], "data": [[1.0, 2.0, 3.0, 4.0]]}},
    ],
)
def test_an_mlflow_model_with_its_example(tmp_path: Path, example: Any) -> None:
    found = seen(mlflow(tmp_path, example))
    assert found.format == "onnx" and found.details["imported_from"] == "mlflow"
    assert found.details["mlflow"]["flavors"] == ["onnx", "python_function"]
    assert found.details["mlflow"]["inputs"][0]["tensor-spec"]["shape"] == [-1, 4]
    want = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}
    assert found.sample == {"inputs": [want]}


@pytest.mark.parametrize(
    "example",
    [
        [[1.0, 2.0]],
        "text",
        {"inputs": {"x": [1]}},
        [["a", "b", "c", "d"]],
        [[1, 2, 3, float("nan")]],
        None,
        {"data": 1},
        [],
    ],
)
def test_an_example_that_does_not_fit_is_left_out(tmp_path: Path, example: Any) -> None:
    assert seen(mlflow(tmp_path, example)).sample is None


def test_a_long_example_is_cut_to_one_row(tmp_path: Path) -> None:
    found = seen(mlflow(tmp_path, [[1.0, 2.0, 3.0, 4.0]] * 10_000))
    assert found.sample is not None and found.sample["inputs"][0]["shape"] == [1, 4]


@pytest.mark.parametrize(
    ("flavor", "expected"),
    [
        ("sklearn", "the flavor 'sklearn': its model is a pickle"),
        ("xgboost", "onnxmltools.convert_xgboost"),
        ("somebodys", "convert it to ONNX"),
    ],
)
def test_flavors_that_are_not_served(tmp_path: Path, flavor: str, expected: str) -> None:
    with pytest.raises(ArtifactRefused, match=expected):
        seen(mlflow(tmp_path, flavor=flavor, content=pickle.dumps({"a": 1})))


@pytest.mark.parametrize("text", ["", "- a", "flavors: {}", "flavors: [", "a: &a [1]\nb: {<<: *a}", "[" * 10_000])
def test_a_damaged_mlmodel(tmp_path: Path, text: str) -> None:
    mlflow(tmp_path)
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(ArtifactRefused, match="MLmodel"):
        seen(tmp_path)


# BentoML


def test_a_bentoml_model(tmp_path: Path) -> None:
    found = seen(bentoml(tmp_path / "3vl5"))
    assert found.format == "onnx" and found.details["bentoml"]["module"] == "bentoml.onnx"
    assert [part.name for part in parts_of(tmp_path / "3vl5")] == ["iris_clf"]


def test_another_model_yaml_is_none_of_our_business(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_text("a: 1")
    (tmp_path / "m.onnx").write_bytes(onnx_models.identity())
    assert "imported_from" not in seen(tmp_path).details


def test_names() -> None:
    assert [as_name(text) for text in ("a b/c", "..", "é", "ok-1.2_x", "x" * 200)] == [
        "a-b-c", "model", "model", "ok-1.2_x", "x" * 100,
    ]  # fmt: skip
