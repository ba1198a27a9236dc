"""Method quantize on what is no network of images: texts, a stranger's file, models of few numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest
import torch

from modelport.compression.feeding import Feeder
from modelport.compression.method import Model
from modelport.compression.quantizing.judged import Judged
from modelport.errors import InvalidInput
from modelport.training import onnx_export
from modelport.training.recipe import TrainingData
from modelport.training.recipes.tabular import Tabular
from modelport.training.recipes.text import TextRecipe
from tests.compression.test_quantize import accuracy, quantized, size
from tests.compression.versions import version_of
from tests.training import tables
from tests.training.real_texts import as_data, topics
from tests.training.runs import new_run


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, TrainingData]:
    """A small encoder that tells what docstrings are about."""
    folder = tmp_path_factory.mktemp("texts")
    rows = topics(240)
    data = as_data(folder / "data", {"text": [a for a, _ in rows], "library": [b for _, b in rows]}, "library")
    run, _ = new_run(folder)
    options = TextRecipe.Options.model_validate({"model": "small", "layers": 1, "epochs": 4, "learning_rate": 5e-3})
    return version_of(run.out, TextRecipe().train(run, data, options)), data


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "smaller", "lost"),
    [({}, 3.3, 0.03), ({"mode": "weights", "bits": 4}, 4.5, 0.1), ({"mode": "weights", "bits": 8}, 3.3, 0.03)],
    ids=["dynamic", "weights-4", "weights-8"],
)
def test_texts(
    tmp_path: Path, texts: tuple[Model, TrainingData], options: dict[str, Any], smaller: float, lost: float
) -> None:
    """Words are looked up in integers too, the tokenizer stays, any number of rows and tokens goes through."""
    model, data = texts
    found, trained = quantized(tmp_path, model, data, **options)
    assert trained.report["mode"] == options.get("mode", "dynamic")
    assert size(model) / size(found) > smaller, size(model) / size(found)
    assert accuracy(found, data) >= accuracy(model, data) - lost
    assert (found.folder / "tokenizer.json").read_bytes() == (model.folder / "tokenizer.json").read_bytes()
    assert not (found.folder / "training").exists()
    assert found.manifest.preprocessing == model.manifest.preprocessing
    assert found.manifest.model_signature == model.manifest.model_signature
    session = ort.InferenceSession(found.folder / "model.onnx")
    ids = np.ones((3, 5), np.int64)
    assert session.run(["probabilities"], {"input_ids": ids, "attention_mask": ids})[0].shape == (3, 4)


def stranger(folder: Path) -> Model:
    """A file that somebody else exported: numbers in, numbers out, nothing known of rows."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(32, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
    folder.mkdir()
    onnx_export.export(network, {"x": torch.zeros(2, 32)}, ["y"], folder / "theirs.onnx")
    return version_of(folder)


def test_a_strangers_file_needs_no_rows(tmp_path: Path) -> None:
    model = stranger(tmp_path / "theirs")
    for mode, smaller in (("dynamic", 2.0), ("weights", 2.0), ("float16", 1.6)):
        found, trained = quantized(tmp_path / mode, model, None, mode=mode)
        assert trained.task == "other"
        x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
        ours = ort.InferenceSession(found.folder / "model.onnx").run(None, {"x": x})[0]
        theirs = ort.InferenceSession(model.folder / "theirs.onnx").run(None, {"x": x})[0]
        assert np.abs(ours - theirs).max() < 0.02
        assert (model.folder / "theirs.onnx").stat().st_size / size(found) > smaller


def test_words_are_looked_up_as_integers(tmp_path: Path) -> None:
    """A table of words is most of a small text model; only the rows that are asked for are widened."""

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.table, self.out = torch.nn.Embedding(500, 32), torch.nn.Linear(32, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.out(self.table(ids).mean(1)), 1)

    (tmp_path / "m").mkdir()
    ids = torch.randint(0, 500, (2, 7))
    onnx_export.export(Words(), {"ids": ids}, ["p"], tmp_path / "m" / "model.onnx", {"ids": {0: "rows", 1: "tokens"}})
    model = version_of(tmp_path / "m")
    asked = np.random.default_rng(0).integers(0, 500, (9, 11))
    wanted = ort.InferenceSession(model.folder / "model.onnx").run(None, {"ids": asked})[0]
    for options in ({"mode": "dynamic"}, {"mode": "weights"}, {"mode": "weights", "per": "tensor"},
                    {"mode": "weights", "bits": 4}, {"mode": "weights", "levels": "codebook", "bits": 4}):  # fmt: skip
        name = "-".join(map(str, options.values()))
        found, _ = quantized(tmp_path / name, model, None, **options)
        answers = ort.InferenceSession(found.folder / "model.onnx").run(None, {"ids": asked})[0]
        assert np.abs(answers - wanted).max() < (0.002 if options.get("bits") != 4 else 0.03), name
        assert size(model) / size(found) > (3 if options.get("bits") != 4 else 4.5), name
        stored = onnx.load(found.folder / "model.onnx").graph.initializer
        assert not [one for one in stored if one.data_type == onnx.TensorProto.FLOAT and one.dims[:1] == [500]
                    and one.dims[-1] == 32]  # fmt: skip


def forest(folder: Path, columns: list[str]) -> tuple[Model, TrainingData]:
    """A forest that tells species of iris from a few measures."""
    table, target = tables.sklearn_table("iris")
    case = tables.case(folder, table.select([*columns, target]), target)
    trained, _ = case.train(Tabular(), model="forest")
    return version_of(folder / "run" / "out", trained), case.data()


def test_a_model_of_two_numbers_becomes_a_table(tmp_path: Path) -> None:
    model, data = forest(tmp_path, ["petal length (cm)", "petal width (cm)"])
    found, trained = quantized(tmp_path / "table", model, data, mode="table", points=80, between="nearest")
    assert trained.report["cells"] == 81**2
    judged = Judged(model, Feeder(model, data).batches(data.validation), 1)
    before = judged.answers(next(model.folder.glob("*.onnx")))
    after = judged.answers(found.folder / "model.onnx")
    assert judged.differences(before, after).agreement >= 0.97
    assert judged.figures(after)["accuracy"] >= judged.figures(before)["accuracy"] - 0.03
    assert found.manifest.labels == model.manifest.labels
    assert found.manifest.signature.inputs == model.manifest.signature.inputs
    assert {node.op_type for node in onnx.load(found.folder / "model.onnx").graph.node}.isdisjoint(
        {"TreeEnsemble", "TreeEnsembleClassifier"}
    )


def test_between_points_a_table_is_linear(tmp_path: Path) -> None:
    """A function that is linear in each of its two numbers comes out as it is, outside the rows as at their border."""

    class Twisted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (2 * x[:, :1] - 3 * x[:, 1:] + 0.5 * x[:, :1] * x[:, 1:]).repeat(1, 2)

    (tmp_path / "m").mkdir()
    onnx_export.export(Twisted(), {"x": torch.zeros(2, 2)}, ["y"], tmp_path / "m" / "model.onnx")
    model = version_of(tmp_path / "m")
    draws = np.random.default_rng(0).uniform(-1, 2, (200, 2))
    rows = pa.table({"x": pa.array(draws.tolist(), pa.list_(pa.float64())), "t": draws[:, 0]})
    case = tables.case(tmp_path / "rows", rows, "t")
    found, trained = quantized(tmp_path / "table", model, case.data(), mode="table", points=7)
    low, high = (np.array([axis[name] for axis in trained.report["inputs"]]) for name in ("low", "high"))
    asked = np.random.default_rng(1).uniform(-2, 3, (50, 2)).astype(np.float32)
    inside = np.clip(asked, low, high)
    wanted = 2 * inside[:, 0] - 3 * inside[:, 1] + 0.5 * inside[:, 0] * inside[:, 1]
    session = ort.InferenceSession(found.folder / "model.onnx")
    assert np.allclose(session.run(None, {"x": asked})[0], wanted[:, None].repeat(2, 1), atol=1e-5)
    gone = session.run(None, {"x": np.array([[np.nan, 1.0]], np.float32)})[0]
    assert np.isnan(gone).all()  # as the model itself answers


def test_a_table_that_is_too_large_says_how_large(tmp_path: Path) -> None:
    model, data = forest(tmp_path, ["petal length (cm)", "petal width (cm)", "sepal width (cm)"])
    with pytest.raises(InvalidInput, match=r"a table of 2000 points for each of 3 inputs would take [0-9,]+ MB"):
        quantized(tmp_path / "table", model, data, mode="table", points=2000)
    four = ["petal length (cm)", "petal width (cm)", "sepal width (cm)", "sepal length (cm)"]
    whole, rows = forest(tmp_path / "whole", four)
    with pytest.raises(InvalidInput, match=r"64\^4 = 1.68e\+07 answers"):
        quantized(tmp_path / "four", whole, rows, mode="table")
    with pytest.raises(InvalidInput, match="no layer whose weights could be quantized.*TreeEnsemble"):
        quantized(tmp_path / "trees", whole, rows, mode="weights")


def test_layers_that_cannot_be_quantized_are_named(tmp_path: Path) -> None:
    """An LSTM stays as it is, and the warning says so."""

    class Remembers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.lstm, self.out = torch.nn.LSTM(8, 16, batch_first=True), torch.nn.Linear(16, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.lstm(x)[0][:, -1])

    (tmp_path / "m").mkdir()
    onnx_export.export(Remembers(), {"x": torch.zeros(2, 5, 8)}, ["y"], tmp_path / "m" / "model.onnx")
    model = version_of(tmp_path / "m")
    found, trained = quantized(tmp_path / "q", model, None, mode="dynamic")
    assert "these layers stay as they are, for mode dynamic does not quantize them: LSTM" in trained.warnings[0]
    kinds = [node.op_type for node in onnx.load(found.folder / "model.onnx").graph.node]
    assert "LSTM" in kinds
    assert "MatMulInteger" in kinds
