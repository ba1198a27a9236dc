"""Method quantize on real versions: sizes, answers beside the model's own, what is kept, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from modelport.compression.feeding import Feeder
from modelport.compression.method import Model, method_of
from modelport.compression.quantizing import graph
from modelport.compression.quantizing.judged import Judged
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, TrainingData, options_of
from tests.compression.digits_version import digits
from tests.compression.versions import version_of
from tests.training.runs import new_run


def quantized(folder: Path, model: Model, data: TrainingData | None, **options: Any) -> tuple[Model, Trained]:
    """Checked, then quantized, as the job does."""
    method = method_of("quantize")
    settled = options_of(method, options)  # type: ignore[arg-type]
    warnings = method.check(model, data, settled)
    run, told = new_run(folder)
    trained = method.compress(run, model, data, settled)
    assert told.progress
    trained.warnings += warnings
    return version_of(run.out, trained), trained


def accuracy(model: Model, data: TrainingData) -> float:
    judged = Judged(model, Feeder(model, data).batches(data.validation), 1)
    return judged.figures(judged.answers(model.folder / "model.onnx"))["accuracy"]


def size(model: Model) -> int:
    return (model.folder / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("options", "smaller", "lost"),
    [
        ({"mode": "static"}, 3.0, 0.01),
        ({"mode": "static", "calibration": "entropy", "per": "tensor", "rows": 64}, 3.0, 0.02),
        ({"mode": "static", "calibration": "percentile", "percentile": 99.9, "rows": 64}, 3.0, 0.02),
        ({"mode": "float16"}, 1.8, 0.003),
        ({"mode": "bfloat16"}, 1.8, 0.005),
        ({"mode": "weights"}, 3.0, 0.005),
        ({"mode": "weights", "bits": 4}, 4.0, 0.05),
        ({"mode": "weights", "levels": "codebook"}, 2.8, 0.005),
        ({"mode": "weights", "levels": "codebook", "bits": 4, "per": "tensor"}, 4.0, 0.03),
        ({"mode": "weights", "levels": "normal-float"}, 4.0, 0.03),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_network_of_digits_becomes_smaller(
    tmp_path: Path, options: dict[str, Any], smaller: float, lost: float
) -> None:
    model, data = digits()
    found, trained = quantized(tmp_path, model, data, **options)
    assert size(model) / size(found) > smaller, size(model) / size(found)
    assert accuracy(found, data) >= accuracy(model, data) - lost
    assert found.manifest.signature == model.manifest.signature
    assert found.manifest.model_signature == model.manifest.model_signature
    assert found.manifest.labels == model.manifest.labels
    assert trained.report["answers"]["agreement"] >= 1 - 2 * lost - 0.01
    assert trained.report["answers"]["rows"] == 256
    assert trained.report["after"]["model_bytes"] == size(found)
    assert all(layer["quantized"] for layer in trained.report["layers"])
    assert str(tmp_path) not in (found.folder / "model.onnx").read_bytes().decode("latin-1")


def test_static_computes_with_integers(tmp_path: Path) -> None:
    """Between all layers activations are integers, and the answer comes as floats of full width."""
    model, data = digits()
    found, _ = quantized(tmp_path, model, data)  # static, for it takes images and there are rows
    made = onnx.load(found.folder / "model.onnx")
    kinds = [node.op_type for node in made.graph.node]
    assert "QuantizeLinear" in kinds
    stored = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    layers = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    producers = {name: node for node in made.graph.node for name in node.output}
    assert layers
    for node in layers:
        weights = producers[node.input[1]]
        assert weights.op_type == "DequantizeLinear"
        assert stored[weights.input[0]] == onnx.TensorProto.INT8
        assert producers[node.input[0]].op_type == "DequantizeLinear"
    consumers = [node for node in made.graph.node if layers[-1].output[0] in node.input]
    assert [node.op_type for node in consumers] == ["Softmax"]
    session = ort.InferenceSession(found.folder / "model.onnx")
    pixels = next(Feeder(found, data).batches(data.validation, size=7)).inputs
    chances, label = session.run(["probabilities", "label"], pixels)
    assert chances.shape == (7, 10)
    assert chances.dtype == np.float32
    assert label.tolist() == [str(code) for code in chances.argmax(1)]


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    model, data = digits()
    files = [
        (quantized(tmp_path / name, model, data, mode=mode, rows=32)[0].folder / "model.onnx").read_bytes()
        for name, mode in (("a", "static"), ("b", "static"))
    ]
    assert files[0] == files[1]


def fragile(folder: Path, model: Model) -> tuple[Model, str]:
    """The same answers by a last layer whose weights are so different that one scale for all loses most of them."""
    made = onnx.load(model.folder / "model.onnx")
    last = graph.layers(made)[-1]
    tensor = next(one for one in made.graph.initializer if one.name == graph.weights_of(last))
    weights = onnx.numpy_helper.to_array(tensor)
    spread = np.geomspace(1, 1e5, weights.shape[1]).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights * spread, tensor.name))
    made.graph.initializer.append(onnx.numpy_helper.from_array(1 / spread, "back"))
    at = list(made.graph.node).index(last)
    made.graph.node.insert(at, onnx.helper.make_node("Mul", [last.input[0], "back"], ["scaled"], "scaled"))
    last.input[0] = "scaled"
    folder.mkdir()
    onnx.save(made, folder / "model.onnx")
    steps = [step.model_dump() for step in model.manifest.preprocessing]
    return version_of(folder, preprocessing=steps, task="classification"), last.name


def test_layers_that_hurt_are_turned_back(tmp_path: Path) -> None:
    model, data = digits()
    made, last = fragile(tmp_path / "fragile", model)
    assert accuracy(made, data) == accuracy(model, data)
    plain, _ = quantized(tmp_path / "plain", made, data, mode="weights", per="tensor")
    assert accuracy(plain, data) < accuracy(made, data) - 0.02
    kept, trained = quantized(tmp_path / "kept", made, data, mode="weights", per="tensor", max_drop=0.01)
    assert accuracy(kept, data) >= 0.99 * accuracy(made, data)
    report = trained.report
    assert report["reverted"] == [last]
    assert report["drop"] <= 0.01 < report["drop_of_all"]
    assert report["figure_before"] == pytest.approx(accuracy(made, data))
    assert {layer["name"]: layer["quantized"] for layer in report["layers"]}[last] is False
    assert size(kept) < size(made) / 2.5


def test_a_layer_is_left_out(tmp_path: Path) -> None:
    model, data = digits()
    names = [node.name for node in graph.layers(onnx.load(model.folder / "model.onnx"))]
    found, trained = quantized(tmp_path, model, data, mode="weights", exclude=[names[0]])
    assert trained.report["left_out"] == [names[0]]
    kept = {one.name: one.data_type for one in onnx.load(found.folder / "model.onnx").graph.initializer}
    first = graph.weights_of(graph.layers(onnx.load(model.folder / "model.onnx"))[0])
    assert kept[first] == onnx.TensorProto.FLOAT
    with pytest.raises(InvalidInput, match="exclude: there is no layer 'node_conv'; did you mean"):
        quantized(tmp_path / "wrong", model, data, mode="weights", exclude=["node_conv"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "dynamic", "bits": 4}, "bits: mode dynamic computes with 8 bits; 4 are for mode weights"),
        ({"mode": "float16", "bits": 8}, "settles the bits itself"),
        ({"levels": "normal-float", "bits": 8}, "normal-float has 4 bits"),
        ({"mode": "static", "group": 32}, "group: scales for groups"),
        ({"mode": "dynamic", "calibration": "minmax"}, "calibration: it is for mode static"),
        ({"percentile": 99}, "percentile: it is for calibration percentile"),
        ({"mode": "table"}, r"a few numbers in a row; input 'pixels' is FP32\[-1, 1, 8, 8\]"),
        ({"mode": "static", "exclude": ["*"]}, "no layer is left"),
        ({"mode": "dynamic", "include": ["node_Conv*"]}, "this model has none .Conv"),
    ],
)
def test_contradictions_are_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    model, data = digits()
    with pytest.raises(InvalidInput, match=message):
        quantized(tmp_path, model, data, **options)
    assert not any((tmp_path / "out").glob("*"))


def test_rows_that_do_not_fit_are_told(tmp_path: Path) -> None:
    model, data = digits()
    with pytest.raises(InvalidInput, match="data: mode static learns the ranges of activations from rows"):
        quantized(tmp_path, model, None, mode="static")
    with pytest.raises(InvalidInput, match="max_drop: .*give a dataset with one"):
        quantized(tmp_path, model, None, max_drop=0.01)
    with pytest.raises(InvalidInput, match="no column has its name"):
        quantized(tmp_path, model, TrainingData(data.train, (), {"length": "double"}, None, None, data.facts))
    empty = TrainingData((), (), data.features, None, None, data.facts)
    with pytest.raises(InvalidInput, match="no rows to calibrate with"):
        quantized(tmp_path / "empty", model, empty, mode="static")
