"""The method early-exit on real digits: who leaves, what it costs, and a file that computes the rest where needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from modelport.compression.exits.graph import divide
from modelport.compression.exits.head import Head, WithExit, place_at, places
from modelport.compression.method import Model
from modelport.compression.methods.early_exit import EarlyExit
from modelport.compression.pruning.opened import counted
from modelport.errors import InvalidInput
from modelport.training import onnx_export
from modelport.training.images.architectures import ARCHITECTURES
from modelport.training.recipe import Trained, TrainingData
from modelport.training.reopen import reopen
from tests.compression.digits import TEST, accuracy, answers, version_of, work
from tests.training.images import digit_files
from tests.training.runs import new_run

Version = tuple[Model, TrainingData]
Made = tuple[Trained, Path]

pytestmark = pytest.mark.xdist_group("early-exit")


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, digits: Version) -> Made:
    """A version with a way out."""
    made, out, _ = work(EarlyExit(), tmp_path_factory.mktemp("left"), *digits, at="features.0", epochs=6, max_drop=0.01)
    return made, out


def test_sure_rows_leave_and_little_is_lost(left: Made, digits: Version) -> None:
    made, out = left
    report = made.report
    assert 0.2 < report["left_early"] <= 1
    assert report["after"]["accuracy"] >= report["before"]["accuracy"] - 0.01
    assert 1 < report["times_fewer_macs"] < 1 / report["before_exit"]
    assert report["exit_parity"]["max_difference"] < 1e-4
    assert accuracy(out, made) >= accuracy(digits[0].folder, made) - 0.04
    version = version_of(out, made)
    assert [one.name for one in version.manifest.signature.outputs] == ["probabilities", "label", "left_early"]
    assert version.manifest.labels == {"probabilities": [str(digit) for digit in range(10)]}


def test_who_stays_is_answered_as_before(left: Made, digits: Version) -> None:
    made, out = left
    files, _ = digit_files(TEST)
    found, gone = answers(out, made, files, ["probabilities", "left_early"])
    before = answers(digits[0].folder, made, files, ["probabilities"])[0]
    assert gone.dtype == bool
    assert 0.1 < gone.mean() < 1
    assert np.allclose(found[~gone], before[~gone], atol=1e-5)
    assert not np.allclose(found[gone], before[gone], atol=1e-5)
    alone = np.concatenate([answers(out, made, [one], ["probabilities"])[0] for one in files[:40]])
    assert np.allclose(alone, found[:40], atol=1e-5), "rows do not depend on their neighbours"


def test_what_comes_after_lies_in_a_branch(left: Made, digits: Version) -> None:
    graph = onnx.load(left[1] / "model.onnx").graph
    (choice,) = [node for node in graph.node if node.op_type == "If"]
    branches = {one.name: one.g for one in choice.attribute}
    inside = [node.op_type for node in branches["else_branch"].node]
    outside = [node.op_type for node in graph.node]
    before = [node.op_type for node in onnx.load(digits[0].folder / "model.onnx").graph.node]
    assert (inside + outside).count("Conv") == before.count("Conv")
    assert inside.count("Conv") == 2
    assert [node.op_type for node in branches["then_branch"].node] == ["Identity"]
    assert len(branches["else_branch"].initializer) >= 3


def test_a_version_with_a_way_out_stays_trainable(left: Made, digits: Version, tmp_path: Path) -> None:
    again = reopen(new_run(tmp_path)[0], version_of(left[1], left[0]).start, digits[1])
    first = reopen(new_run(tmp_path / "first")[0], digits[0].start, digits[1])
    with torch.no_grad():
        assert again.figures(again.network) == first.figures(first.network)
    assert left[0].warnings == []


@pytest.mark.long
def test_every_row_sure_and_none(tmp_path: Path) -> None:
    """The same network with ways out that all take, some, and none; with ways around that lead past it."""
    torch.manual_seed(0)
    rows = torch.randn(9, 1, 32, 32)
    network = ARCHITECTURES["resnet18"].build(1, (32, 32), 3, 0.0, 0.25, 1.0).eval()
    place = next(one for one in all_places(network, rows) if one.name == "layer2.0.conv2")
    head = Head(place.features, 8, 3).eval()
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        network.get_submodule(place.name).register_forward_hook(lambda module, given, output: seen.append(output))
        network(rows)
        surest = torch.softmax(head(seen[0]), 1).amax(1)
    network.get_submodule(place.name)._forward_hooks.clear()
    for threshold, leaving in ((0.0, 9), (float(surest.sort().values[5]), 4), (0.9999, 0)):
        both = WithExit(network, place.name, head, threshold).eval()
        path = tmp_path / "both.onnx"
        onnx_export.export(both, {"image": rows[:2]}, ["scores"], path)
        network.get_submodule(place.name)._forward_hooks.clear()
        expected = ort.InferenceSession(path).run(None, {"image": rows.numpy()})[0]
        proto = onnx.load(path)
        divide(proto)
        scores, gone = ort.InferenceSession(proto.SerializeToString()).run(None, {"image": rows.numpy()})
        assert int(gone.sum()) == leaving
        assert np.allclose(scores, expected, atol=1e-5)


def all_places(network: nn.Module, rows: torch.Tensor) -> Any:
    macs = {name: one["macs"] for name, one in counted(network, (rows[:2],))["layers"].items()}
    return places(network, (rows[:2],), macs)


def test_the_way_out_is_a_block_about_where_it_was_asked_for() -> None:
    network = ARCHITECTURES["resnet18"].build(1, (32, 32), 3, 0.0, 0.5, 1.0).eval()
    found = all_places(network, torch.rand(2, 1, 32, 32))
    assert [place_at(found, None, share).name for share in (0.25, 0.5, 0.75)] == ["layer1", "layer2", "layer3"]
    assert place_at(found, "layer3.0.conv1", 0.1).name == "layer3.0.conv1"
    with pytest.raises(InvalidInput, match=r"cannot be left after 'fc'; it can after .*layer1"):
        place_at(found, "fc", 0.5)


def test_where_nobody_may_leave_is_told(tmp_path: Path, digits: Version) -> None:
    with pytest.raises(InvalidInput, match="no validation row may leave"):
        work(EarlyExit(), tmp_path, *digits, at="features.0", epochs=1, threshold=0.999999)
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_other_tasks_are_told(tmp_path: Path, digits: Version) -> None:
    shutil.copytree(digits[0].folder, tmp_path / "other")
    numbers = Model(tmp_path / "other", digits[0].manifest.model_copy(update={"task": "regression"}))
    with pytest.raises(InvalidInput, match="this version is for regression"):
        work(EarlyExit(), tmp_path, numbers, digits[1])
