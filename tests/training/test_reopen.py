"""Networks of versions, taken up again by their recipes: with their weights, their rows and their way to be served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from modelport.errors import InvalidInput
from modelport.training import outline, recipe
from modelport.training.batches import in_turn
from modelport.training.recipe import Start, Trained, TrainingData
from modelport.training.recipes.image import ImageRecipe
from modelport.training.recipes.module import ModuleRecipe
from modelport.training.reopen import Reopened, can_reopen, reopen
from modelport.training.trainer import Trainer
from tests.training.images import digit_files, parts, training_data
from tests.training.runs import new_run
from tests.training.test_modules import data_of, table

IMAGE = {"epochs": 2, "augment": "none", "batch_size": 64, "learning_rate": 3e-3}
NET = """
from torch import nn
from torch.nn import functional

class Net(nn.Module):
    def __init__(self, columns, classes):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(columns, 24), nn.BatchNorm1d(24), nn.Linear(24, classes)

    def forward(self, numbers):
        return self.last(self.norm(self.first(numbers)).relu())

def build(data):
    return Net(len(data.columns), len(data.classes)), functional.cross_entropy
"""


def written(out: Path, name: str, options: dict[str, Any]) -> Start:
    """The version as the job leaves it."""
    (out / "training" / "training.json").write_text(json.dumps({"recipe": name, "params": {"options": options}}))
    return Start(out, {}, {}, [])


Version = tuple[Start, TrainingData, Trained]

pytestmark = pytest.mark.xdist_group("reopen")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A version of the recipe image on 600 scans."""
    folder = tmp_path_factory.mktemp("digits")
    train, judged = (digit_files(rows) for rows in (slice(0, 600), slice(600, 900)))
    data = training_data(parts(folder / "t", *train), parts(folder / "v", *judged))
    image = ImageRecipe()
    trained = image.train(new_run(folder / "first")[0], data, recipe.options_of(image, IMAGE))
    return written(folder / "first" / "out", "image", IMAGE), data, trained


def opened(folder: Path, start: Start, data: TrainingData, **more: Any) -> tuple[Reopened, Any]:
    run, _ = new_run(folder, **more)
    return reopen(run, start, data), run


def narrowed(network: Any) -> None:
    """A third of the first channels of the small network is cut away by hand."""
    first, norm, second = network.features[0][0], network.features[0][1], network.features[0][3]
    first.weight = nn.Parameter(first.weight[:20].detach().clone())
    first.out_channels = 20
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name)[:20].detach().clone()))
    norm.running_mean, norm.running_var, norm.num_features = norm.running_mean[:20], norm.running_var[:20], 20
    second.weight = nn.Parameter(second.weight[:, :20].detach().clone())
    second.in_channels = 20


def test_a_network_of_images_is_taken_up_as_it_was_and_written_as_it_is_served(tmp_path: Path, digits: Version) -> None:
    start, data, trained = digits
    assert can_reopen(start.folder)
    again, run = opened(tmp_path / "again", start, data)
    last = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    with torch.no_grad():
        figures = again.figures(again.network)
        batch = next(in_turn(again.plain, 64))
        assert float(again.loss(again.network(*again.inputs(batch)), batch)) < 2.3
    assert figures["loss"] == pytest.approx(last["validation_loss"], rel=1e-5)
    assert (len(again.learning), len(again.judged), again.task) == (600, 300, "classification")
    made = again.write(again.network, run)
    assert (made.preprocessing, made.class_labels, made.sample) == (
        trained.preprocessing, trained.class_labels, trained.sample
    )  # fmt: skip
    for name in ("model.onnx", "training/weights.safetensors", "training/model.json"):
        assert (run.out / name).read_bytes() == (start.folder / name).read_bytes(), name
    assert not (run.out / "training" / "shape.json").exists()


def test_a_smaller_network_stays_trainable(tmp_path: Path, digits: Version) -> None:
    start, data, _ = digits
    again, run = opened(tmp_path / "again", start, data)
    narrowed(again.network)
    again.write(again.network, run)
    smaller = written(run.out, "image", IMAGE)
    third, run = opened(tmp_path / "third", smaller, data)
    first: Any = third.network.features[0][0]  # type: ignore[index]
    assert (first.out_channels, first.weight.shape[0]) == (20, 20)
    with torch.no_grad():
        before = third.figures(third.network)
        assert before == again.figures(again.network)
    loop = third.loop.model_copy(update={"epochs": 1})
    fit = Trainer(
        run, loop, third.network, lambda network, batch: third.loss(network(*third.inputs(batch)), batch),
        third.learning, third.figures,
    ).fit()  # fmt: skip
    assert fit.history[-1]["validation_loss"] < before["loss"]
    image, onwards = ImageRecipe(), new_run(tmp_path / "on", start=smaller)[0]
    more = image.train(onwards, data, recipe.options_of(image, IMAGE | {"epochs": 1}))
    assert more.report["parameters"] == sum(one.numel() for one in third.network.parameters())
    assert json.loads((onwards.out / "training" / "shape.json").read_text()) == json.loads(
        (smaller.folder / "training" / "shape.json").read_text()
    )


@pytest.mark.parametrize("model", ["small", "resnet18", "vgg16", "efficientnet-lite0"])
def test_there_are_smaller_sizes_of_each_network(model: str) -> None:
    from modelport.training.images import network as networks
    from modelport.training.images.network import Kept
    from modelport.training.images.pixels import Shape
    from modelport.training.recipes.image import ImageOptions

    kept = Kept(model, 32, 32, 3, [0.5], [0.2], ["a", "b"])
    whole = networks.drawn(ImageOptions(), model, Shape(32, 32, 3), 2)
    sizes = networks.sizes(ImageOptions(), kept, networks.parameters(whole)["parameters"])
    counts = [
        networks.parameters(networks.drawn(ImageOptions(), model, Shape(32, 32, 3), 2, **size))["parameters"]
        for size in sizes
    ]
    assert len(counts) >= 5
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] * 8 < networks.parameters(whole)["parameters"]


def test_a_network_of_another_size_keeps_its_size(tmp_path: Path, digits: Version) -> None:
    start, data, _ = digits
    again, run = opened(tmp_path / "again", start, data)
    student = again.build(again.sizes[-1])
    again.write(student, run)
    third, _ = opened(tmp_path / "third", written(run.out, "image", IMAGE), data)
    assert sum(p.numel() for p in third.network.parameters()) == sum(p.numel() for p in student.parameters())
    assert len(third.sizes) < len(again.sizes)


def test_a_network_of_the_callers_own_is_taken_up_with_its_code(tmp_path: Path) -> None:
    data = data_of(tmp_path, table("wine"), 40)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_net.py").write_text(NET)
    module, options = ModuleRecipe(), {"build": "own_net:build", "epochs": 20, "learning_rate": 0.01}
    run, _ = new_run(tmp_path / "first", code=tmp_path / "code")
    trained = module.train(run, data, recipe.options_of(module, options))
    start = written(run.out, "module", options)
    with pytest.raises(InvalidInput, match="give the files that it was trained with"):
        opened(tmp_path / "again", start, data)
    again, run = opened(tmp_path / "again", start, data, code=tmp_path / "code")
    last = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    with torch.no_grad():
        assert again.figures(again.network)["loss"] == pytest.approx(last["validation_loss"], rel=1e-5)
        batch = next(in_turn(again.judged, 8))
        expected = torch.softmax(again.network(*again.inputs(batch)), 1).numpy()
    again.write(again.network, run)
    session = ort.InferenceSession(run.out / "model.onnx")
    rows = table("wine").take(np.random.default_rng(0).permutation(178)[-40:][:8])
    given = {one.name: rows[one.name].to_numpy().astype(np.float32)[:, None] for one in session.get_inputs()}
    assert np.allclose(session.run(None, given)[0], expected, atol=1e-5)


def test_rows_of_a_class_that_the_version_does_not_know_are_told(tmp_path: Path, digits: Version) -> None:
    start, data, _ = digits
    files, labels = digit_files(slice(0, 300))
    other = parts(tmp_path / "o", files, [label if label else 10 for label in labels])
    with pytest.raises(InvalidInput, match="a class that the version does not know, '10'"):
        opened(tmp_path / "again", start, replace(data, train=(*data.train, *other)))


def test_a_kept_shape_only_makes_smaller_what_is_there() -> None:
    def new() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Sequential(nn.Linear(6, 6)), nn.Linear(6, 2))

    network = new()
    outline.leave_out(network, "2")
    found = outline.difference(outline.outline(new()), network)
    assert found is not None
    assert found.json() == {"left_out": ["2"], "facts": {}, "shapes": {}}
    again = new()
    outline.repeat(again, found.json())
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(torch.ones(1, 4)), network(torch.ones(1, 4)))
    assert outline.difference(outline.outline(new()), nn.Sequential(nn.Linear(4, 6), nn.ReLU())) is None
    assert outline.difference(outline.outline(new()), nn.Sequential(*[nn.Linear(8, 8)] * 4)) is None
    for wrong in (
        {"shapes": {"0.weight": [7, None]}}, {"shapes": {"0.weight": [0, None]}}, {"shapes": {"9.weight": [1]}},
        {"facts": {"0": {"forward": 1}}}, {"facts": {"0": {"in_features": "x"}}}, {"left_out": [""]}, {"more": 1},
    ):  # fmt: skip
        with pytest.raises(InvalidInput, match="does not fit"):
            outline.repeat(new(), wrong)
