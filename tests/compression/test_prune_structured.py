"""The method prune-structured on real digits and on small transformers: what is gone is gone from the served file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

from modelport.compression.method import Model
from modelport.compression.methods.prune_structured import PruneStructured, PruneStructuredOptions
from modelport.compression.pruning.layers import skippable
from modelport.compression.pruning.opened import counted, example
from modelport.compression.pruning.structured import prune
from modelport.errors import InvalidInput
from modelport.training import recipe
from modelport.training.images.architectures import ARCHITECTURES
from modelport.training.recipe import Start, TrainingData
from modelport.training.recipes.image import ImageRecipe
from modelport.training.reopen import reopen
from tests.compression.digits import OPTIONS, accuracy, version, version_of, work
from tests.training.runs import new_run

Version = tuple[Model, TrainingData]


def weights_in(path: Path) -> int:
    return sum(
        int(torch.tensor(one.dims).prod())
        for one in onnx.load(path).graph.initializer
        if one.data_type == onnx.TensorProto.FLOAT
    )


def test_half_the_multiplications_are_gone_from_the_served_file(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    made, out, told = work(PruneStructured(), tmp_path, model, data, macs=2, epochs=2)
    report = made.report
    assert 2 <= report["times_fewer_macs"] < 2.4
    assert weights_in(out / "model.onnx") * 1.7 < weights_in(model.folder / "model.onnx")
    before = version_of(model.folder, made)
    assert accuracy(out, made) >= accuracy(before.folder, made) - 0.02
    assert report["after"]["accuracy"] > report["pruned"]["accuracy"]
    assert report["layers"]["fc"]["after"][0] == 10
    assert any(entry["before"] != entry["after"] for entry in report["layers"].values())
    assert any("taking out" in text for _, _, text, _ in told.progress)
    assert (made.class_labels, made.task) == ([str(digit) for digit in range(10)], "classification")


@pytest.mark.long
def test_what_was_pruned_can_be_pruned_again_and_trained_on(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    made, out, _ = work(PruneStructured(), tmp_path / "1", model, data, ratio=0.3, epochs=1, importance="magnitude")
    once = version_of(out, made)
    again, out, _ = work(PruneStructured(), tmp_path / "2", once, data, macs=2, epochs=1, scope="layer")
    assert again.report["before"]["macs"] == made.report["after"]["macs"]
    assert again.report["times_fewer_macs"] >= 2
    twice = version_of(out, again)
    image, run = ImageRecipe(), new_run(tmp_path / "3", start=Start(twice.folder, {}, {}, []))[0]
    onwards = image.train(run, data, recipe.options_of(image, OPTIONS | {"epochs": 1}))
    assert onwards.report["parameters"] == again.report["after"]["parameters"]
    assert accuracy(run.out, onwards) >= accuracy(twice.folder, again) - 0.02


def test_layers_have_shares_of_their_own(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    shares = {"features.0": 0.0, "features.1.0": 0.75}
    made, _, _ = work(PruneStructured(), tmp_path, model, data, layers=shares, epochs=0, steps=1)
    shapes = {name: (one["before"][0], one["after"][0]) for name, one in made.report["layers"].items()}
    assert shapes["features.0.0"] == (32, 32)
    assert shapes["features.0.3"] == (32, 32)
    assert shapes["features.1.0"] == (64, 16)
    assert shapes["features.1.3"] == (64, 64)
    assert made.report["history"] == []


@pytest.mark.long
def test_the_same_seed_prunes_alike(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    one, two = (
        work(PruneStructured(), tmp_path / name, model, data, macs=2, epochs=1)[1] / "model.onnx" for name in "ab"
    )
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.long
def test_each_image_network_is_pruned(tmp_path: Path) -> None:
    """The graphs of all of them are understood, with depthwise layers, ways around and layers that flatten."""
    model, data = version(tmp_path, size=32, epochs=1)
    run = new_run(tmp_path / "p")[0]
    opened = reopen(run, model.start, data)
    options = PruneStructuredOptions(macs=2, rows=64)
    for name in ("resnet18", "vgg16", "efficientnet-lite0"):
        torch.manual_seed(0)
        network = ARCHITECTURES[name].build(1, (32, 32), 10, 0.0, 0.5, 1.0)
        found = replace(opened, network=network)
        inputs = example(found)
        macs = counted(network, inputs)["macs"]
        prune(run, found, inputs, options, macs, 1)
        assert macs / 3 < counted(network, inputs)["macs"] <= macs / 2, name
        assert network(*inputs).shape == (2, 10)


def test_blocks_that_repeat_can_be_left_out(tmp_path: Path, digits: Version) -> None:
    network = ARCHITECTURES["resnet18"].build(1, (32, 32), 10, 0.0, 1.0, 1.0).eval()
    inputs = (torch.rand(2, 1, 32, 32),)
    found = skippable(network, inputs)
    assert {"layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"} == set(found)
    model, data = digits
    with pytest.raises(InvalidInput, match=r"drop_layers: 0 of this network's layers can be left out"):
        work(PruneStructured(), tmp_path, model, data, drop_layers=1)


@pytest.mark.long
def test_a_block_that_was_left_out_stays_out(tmp_path: Path) -> None:
    model, data = version(tmp_path, model="resnet18", size=32, epochs=2)
    made, out, _ = work(PruneStructured(), tmp_path / "p", model, data, drop_layers=2, epochs=1, rows=128)
    names = [one["layer"] for one in made.report["left_out"]]
    assert len(names) == 2
    assert made.report["times_fewer_macs"] > 1.1
    again = reopen(
        new_run(tmp_path / "again")[0], version_of(out, made, OPTIONS | {"model": "resnet18", "size": 32}).start, data
    )
    kept = {name for name, _ in again.network.named_parameters()}
    assert not any(name.startswith(f"{gone}.") for gone in names for name in kept)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layers": {"features.0.1O": 0.5}}, r"no layer 'features.0.1O'; did you mean 'features.0.1'"),
        ({"macs": 900, "epochs": 0}, r"900 times fewer multiplications cannot be reached"),
        ({"ratio": 1.0}, r"options\.ratio"),
        ({"ratio": -0.1}, r"options\.ratio"),
        ({"ratio": 0.5, "macs": 2}, r"two ways to say how much"),
        ({"macs": 1}, r"options\.macs"),
        ({"importanc": "taylor"}, r"did you mean 'importance'"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, digits: Version, options: dict[str, Any], told: str) -> None:
    model, data = digits
    with pytest.raises(InvalidInput, match=told):
        work(PruneStructured(), tmp_path, model, data, **options)
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_version_without_a_network_is_told(tmp_path: Path, digits: Version) -> None:
    _, data = digits
    manifest: Any = digits[0].manifest
    with pytest.raises(InvalidInput, match="was not trained by Modelport"):
        work(PruneStructured(), tmp_path / "p", Model(tmp_path, manifest), data)
    with pytest.raises(InvalidInput, match="give a dataset"):
        work(PruneStructured(), tmp_path / "q", digits[0], None)


def test_multiplications_are_counted() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    found = counted(network, (torch.rand(2, 3, 4, 4),))
    assert found["macs"] == 16 * 8 * 27 + 8 * 16 * 5
    assert found["parameters"] == 8 * 27 + 8 + 8 * 16 * 5 + 5
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert counted(depthwise, (torch.rand(1, 8, 4, 4),))["macs"] == 16 * 8 * 9
    raised = nn.ConvTranspose2d(4, 6, 2, stride=2)
    assert counted(raised, (torch.rand(1, 4, 3, 3),))["macs"] == 9 * 4 * 6 * 4
