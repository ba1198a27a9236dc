"""Method quantize-aware on scanned digits: the file answers as the network that learnt with rounding, and as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from modelport.compression.method import Model, method_of
from modelport.compression.quantizing.rounding import RoundingNetwork
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, TrainingData, options_of
from tests.compression.digits_version import digits
from tests.compression.test_quantize import accuracy, quantized, size
from tests.compression.versions import version_of
from tests.training.runs import new_run


def learnt(folder: Path, model: Model, data: TrainingData, **options: Any) -> tuple[Model, Trained]:
    method = method_of("quantize-aware")
    settled = options_of(method, options)  # type: ignore[arg-type]
    method.check(model, data, settled)
    run, _ = new_run(folder)
    trained = method.compress(run, model, data, settled)
    return version_of(run.out, trained), trained


def test_the_file_answers_as_the_network_that_learnt_with_rounding(tmp_path: Path) -> None:
    model, data = digits()
    found, trained = learnt(tmp_path, model, data, epochs=2)
    report = trained.report
    assert report["mode"] == "static"
    assert report["parity"]["rows"] == 400
    assert report["parity"]["agreement"] >= 0.99
    assert report["parity"]["mean_difference"] < 0.005
    assert size(model) / size(found) > 3
    assert accuracy(found, data) >= accuracy(model, data) - 0.01
    assert accuracy(found, data) == pytest.approx(report["learnt"]["accuracy"], abs=0.01)
    assert found.manifest.labels == model.manifest.labels
    kinds = [node.op_type for node in onnx.load(found.folder / "model.onnx").graph.node]
    assert "QuantizeLinear" in kinds
    assert (found.folder / "training" / "weights.safetensors").exists()  # it can be trained on


@pytest.mark.long
def test_four_bits_are_learnt_around(tmp_path: Path) -> None:
    """What rounding to 4 bits costs at once is got back by learning."""
    model, data = digits()
    found, trained = learnt(tmp_path / "aware", model, data, bits=4, epochs=3)
    plain, _ = quantized(tmp_path / "plain", model, data, mode="weights", bits=4, group=256)
    report = trained.report
    assert report["parity"]["agreement"] == 1.0
    assert report["parity"]["max_difference"] < 1e-3
    assert report["learnt"]["loss"] < report["rounded"]["loss"]
    assert accuracy(found, data) >= accuracy(plain, data) - 0.005
    assert size(model) / size(found) > 4


def test_rounding_is_felt_and_gradients_go_through() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    rows = torch.randn(16, 4)
    plain = network(rows).detach()
    rounding = RoundingNetwork(network, 4, "static")
    rounding.look(iter([(rows,)]))
    found = rounding(rows)
    assert 0.001 < float((found - plain).detach().abs().max()) < 0.5
    found.square().sum().backward()
    assert all(float(one.grad.abs().sum()) > 0 for one in rounding.weights() if one.grad is not None)
    assert all(one.grad is not None for one in rounding.weights())
    settled = rounding.settle()
    for layer in (settled[0], settled[2]):  # type: ignore[index]
        steps = layer.weight / (layer.weight.abs().amax(1, keepdim=True) / 7)
        assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert not list(settled[0]._forward_pre_hooks)  # type: ignore[index]


def test_weights_stay_near_those_that_were(tmp_path: Path) -> None:
    """A stronger pull leaves less changed."""
    from safetensors.torch import load_file

    model, data = digits()
    begun = load_file(model.folder / "training" / "weights.safetensors")
    moved = []
    for name, stay in (("free", 0.0), ("held", 10.0)):
        found, _ = learnt(tmp_path / name, model, data, bits=4, epochs=1, stay=stay, weight_decay=0)
        now = load_file(found.folder / "training" / "weights.safetensors")
        moved.append(sum(float((now[key] - begun[key]).square().sum()) for key in begun if begun[key].ndim > 1))
    assert moved[1] < moved[0]


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    model, data = digits()
    with pytest.raises(InvalidInput, match="bits: mode static computes with 8 bits"):
        learnt(tmp_path, model, data, bits=4, mode="static")
    with pytest.raises(InvalidInput, match="needs rows to learn from"):
        learnt(tmp_path, model, None)  # type: ignore[arg-type]
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "model.onnx").write_bytes((model.folder / "model.onnx").read_bytes())
    steps = [step.model_dump() for step in model.manifest.preprocessing]
    with pytest.raises(InvalidInput, match="was not trained by Modelport"):
        learnt(tmp_path / "theirs", version_of(bare, preprocessing=steps), data)
    assert json.loads((model.folder / "training" / "training.json").read_text())["recipe"] == "image"
