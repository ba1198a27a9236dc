"""The method prune on real digits: which weights go, when, and what a killed training makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file
from torch import nn

from modelport.compression.method import Model
from modelport.compression.methods.prune import Prune
from modelport.compression.pruning.masks import blocked, masks_below, masks_of, share_of_zeros
from modelport.compression.pruning.scores import scores, spread
from modelport.errors import InvalidInput
from modelport.training.checkpoint import Checkpoints
from modelport.training.recipe import TrainingData
from modelport.training.reopen import reopen
from tests.compression import versions
from tests.compression.digits import accuracy, work
from tests.training.runs import new_run

Version = tuple[Model, TrainingData]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, digits: Version) -> Model:
    """The same version as somebody would push it: nothing of its training."""
    folder = tmp_path_factory.mktemp("pushed")
    shutil.copyfile(digits[0].folder / "model.onnx", folder / "model.onnx")
    manifest = digits[0].manifest
    steps = [step.model_dump() for step in manifest.preprocessing]
    return versions.version_of(folder, None, preprocessing=steps, task="classification")


def zeros(path: Path) -> float:
    """Share of zeros among the weights of the served file."""
    tensors = [numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer if len(one.dims) > 1]
    return sum(int((one == 0).sum()) for one in tensors) / sum(one.size for one in tensors)


@pytest.mark.parametrize(
    "when", ["once", pytest.param("gradual", marks=pytest.mark.long), pytest.param("learned", marks=pytest.mark.long)]
)
def test_as_many_weights_as_were_asked_for_are_zero_in_the_served_file(
    tmp_path: Path, digits: Version, when: str
) -> None:
    model, data = digits
    made, out, _ = work(Prune(), tmp_path, model, data, ratio=0.8, when=when, epochs=2)
    report = made.report
    assert report["after"]["zero"] == pytest.approx(0.8, abs=0.001)
    assert zeros(out / "model.onnx") == pytest.approx(0.8, abs=0.005)
    assert report["after"]["zipped_bytes"] * 2 < report["before"]["zipped_bytes"]
    weights = load_file(out / "training" / "weights.safetensors")
    assert not [name for name in weights if "parametriz" in name or "pruning" in name]
    if when != "learned":  # which needs more epochs than a test has
        assert accuracy(out, made) > 0.75
    assert report["before"]["accuracy"] > report["pruned"]["accuracy"] or when == "gradual"


@pytest.mark.long
def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path: Path, digits: Version, monkeypatch: Any) -> None:
    """Masks, what they were learned by, and the count of steps are in the checkpoints."""
    model, data = digits
    options = {"ratio": 0.7, "when": "learned", "epochs": 2, "every": 3}
    whole = work(Prune(), tmp_path / "whole", model, data, **options)[1]
    keep, kept = Checkpoints.keep, []

    def dies(self: Checkpoints, step: int, value: Any) -> None:
        keep(self, step, value)
        kept.append(step)
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "keep", dies)
    with monkeypatch.context() as soon:
        soon.setattr("modelport.training.trainer.Trainer._is_due", lambda self, now: self._state.step == 11)
        with pytest.raises(KeyboardInterrupt):
            work(Prune(), tmp_path / "again", model, data, **options)
    assert kept == [11]
    monkeypatch.setattr(Checkpoints, "keep", keep)
    again = work(Prune(), tmp_path / "again", model, data, **options)[1]
    assert (again / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()


def test_each_way_to_tell_what_matters_is_better_than_chance(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    found = reopen(new_run(tmp_path)[0], model.start, data)
    layers: dict[str, Any] = {name: one for name, one in found.network.named_modules() if isinstance(one, nn.Conv2d)}
    torch.manual_seed(0)
    chance = {name: torch.rand_like(one.weight) for name, one in layers.items()}
    was = {name: one.weight.detach().clone() for name, one in layers.items()}

    def loss_with(matters: dict[str, torch.Tensor], by_row: bool = False) -> float:
        for name, mask in masks_of(matters, 0.4, by_layer=by_row, by_row=by_row).items():
            layers[name].weight.data = was[name] * mask
        with torch.no_grad():
            figures = found.figures(found.network)
        for name, one in was.items():
            layers[name].weight.data = one.clone()
        return figures["loss"]

    by_chance = loss_with(chance)
    for by in ("magnitude", "taylor", "activation", "uncertainty"):
        assert loss_with(scores(found, layers, by, 256), by == "activation") < by_chance / 2, by  # type: ignore[arg-type]


def test_layers_can_be_kept_and_weights_go_in_blocks(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    made, out, _ = work(
        Prune(), tmp_path, model, data, ratio=0.5, block=[4, 3], keep=["features.0"], scope="layer", epochs=0
    )
    assert set(made.report["layers"]) == {"features.1.0", "features.1.3", "fc"}
    weight = load_file(out / "training" / "weights.safetensors")["features.1.3.weight"]
    by_block = blocked((weight == 0).float(), (4, 3))
    assert set(by_block.unique().tolist()) == {0.0, 1.0}
    assert float(by_block.mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.long
def test_less_than_a_threshold_goes(tmp_path: Path, digits: Version) -> None:
    model, data = digits
    _, out, _ = work(Prune(), tmp_path, model, data, threshold=0.05, epochs=0)
    weights = load_file(out / "training" / "weights.safetensors")
    before = load_file(model.folder / "training" / "weights.safetensors")
    for name in ("features.0.3.weight", "features.1.0.weight", "fc.weight"):
        assert torch.equal(weights[name], before[name] * (before[name].abs() >= 0.05))


def test_a_pushed_file_is_pruned_by_size_and_by_what_it_is_given(tmp_path: Path, digits: Version, file: Model) -> None:
    data = digits[1]
    for name, options, rows in (("a", {}, None), ("b", {"by": "activation"}, data)):
        made, out, _ = work(Prune(), tmp_path / name, file, rows, ratio=0.4, **options)
        assert zeros(out / "model.onnx") == pytest.approx(0.4, abs=0.01)
        assert accuracy(out, made) > 0.8
        assert made.class_labels == [str(digit) for digit in range(10)]
        assert made.report["after"]["zipped_bytes"] < made.report["before"]["zipped_bytes"] * 0.8
    one, other = ((tmp_path / name / "out" / "model.onnx").read_bytes() for name in "ab")
    assert one != other


def test_norms_of_inputs_reach_the_weights_that_take_them() -> None:
    norms = torch.tensor([1.0, 2, 3, 4])
    assert torch.equal(spread(norms, nn.Linear(4, 3))[0], norms)
    grouped = spread(norms, nn.Conv2d(4, 6, 1, groups=2))
    assert grouped[:, :, 0, 0].tolist() == [[1, 2]] * 3 + [[3, 4]] * 3
    raised = spread(norms, nn.ConvTranspose2d(4, 2, 1))
    assert raised[:, :, 0, 0].tolist() == [[1, 1], [2, 2], [3, 3], [4, 4]]


def test_masks_take_exactly_the_share(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scores = {"a": torch.rand(6, 10), "b": torch.rand(4, 2, 3, 3) * 10}
    for share in (0.0, 0.25, 0.9):
        assert share_of_zeros(masks_of(scores, share)) == pytest.approx(share, abs=0.005)
    together = masks_of(scores, 0.4)
    assert float(together["a"].mean()) < 0.3  # where less matters, more goes
    each = masks_of(scores, 0.5, by_layer=True, by_row=True)
    assert set(each["a"].sum(1).tolist()) == {5.0}
    alike = {"a": torch.ones(10, 10)}
    assert share_of_zeros(masks_of(alike, 0.37)) == pytest.approx(0.37)
    above = sum(int((one >= 0.5).sum()) for one in scores.values())
    assert share_of_zeros(masks_below(scores, 0.5)) == pytest.approx(1 - above / 132)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ratio": 1.0}, r"options\.ratio"),
        ({"ratio": 0.5, "threshold": 0.1}, "two ways to say how much"),
        ({"threshold": 0.1, "when": "gradual"}, "a threshold says nothing of a curve"),
        ({"when": "learned", "epochs": 0}, "learned happens during training"),
        ({"keep": ["feature.1.0"]}, r"no layer 'feature.1.0'; did you mean 'features.1.0'"),
        ({"keep": ["features", "fc"]}, "no layer is left"),
        ({"by": "size"}, r"options\.by"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, digits: Version, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        work(Prune(), tmp_path, *digits, **options)
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_what_a_file_cannot_do_is_told(tmp_path: Path, digits: Version, file: Model) -> None:
    for options, told in (
        ({"by": "taylor"}, "options.by: this version has no network that can learn"),
        ({"when": "gradual"}, "options.when"),
        ({"epochs": 3}, "options.epochs"),
        ({"keep": ["node_conv"]}, "options.keep: the file has no node with weights named 'node_conv'"),
    ):
        with pytest.raises(InvalidInput, match=told):
            work(Prune(), tmp_path / "p", file, digits[1], **options)
    with pytest.raises(InvalidInput, match="activation looks at rows"):
        work(Prune(), tmp_path / "p", file, None, by="activation")
