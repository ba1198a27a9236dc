"""Students of real networks (scans of digits): plain, robust and without data; what cannot be is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelport.compression.asking import Asked, Judge, model_file
from modelport.compression.distilling import attack, data_free, student
from modelport.compression.distilling.learn import softened
from modelport.compression.distilling.matching import Watched, matching
from modelport.compression.method import Model, method_of
from modelport.compression.methods.distil import Distil, DistilOptions
from modelport.errors import InvalidInput
from modelport.evaluation.score import score
from modelport.training.recipe import Trained, TrainingData, options_of
from modelport.training.recipes.image import ImageRecipe
from modelport.training.reopen import Reopened, reopen
from tests.compression.versions import version_of
from tests.training.images import digit_files, parts, training_data
from tests.training.runs import new_run

pytest.importorskip("onnxscript")
OPTIONS = {"epochs": 6, "augment": "none", "batch_size": 64, "learning_rate": 5e-3}


@dataclass
class Lab:
    """A version, its rows, and rows that nobody has seen."""

    model: Model
    data: TrainingData
    unseen: tuple[Path, ...]

    def make(
        self, folder: Path, method: str, data: TrainingData | None = None, **options: Any
    ) -> tuple[Model, Trained]:
        """By a method, as the job asks it."""
        found, run = method_of(method), new_run(folder)[0]
        checked = options_of(found, options)  # type: ignore[arg-type]
        given = data or self.data
        found.check(self.model, given, checked)
        trained = found.compress(replace(run, score=score), self.model, given, checked)
        return version_of(run.out, trained), trained

    def accuracy(self, folder: Path, model: Model) -> float:
        """On the unseen rows, by the file that is served."""
        run = replace(new_run(folder / "judge")[0], score=score)
        return Judge(run, model, Asked(model, self.data, self.unseen)).figures(model_file(model))["accuracy"]

    def reopened(self, folder: Path) -> Reopened:
        return reopen(new_run(folder / "again")[0], self.model.start, self.data)


def parameters(trained: Trained) -> tuple[int, int]:
    return trained.report["before"]["parameters"], trained.report["after"]["parameters"]


pytestmark = pytest.mark.xdist_group("distil")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("digits")
    train, judged, unseen = (digit_files(rows) for rows in (slice(0, 800), slice(800, 1000), slice(1000, 1300)))
    data = training_data(parts(folder / "t", *train), parts(folder / "v", *judged))
    run, _ = new_run(folder / "first")
    trained = ImageRecipe().train(run, data, options_of(ImageRecipe(), OPTIONS))
    story = {"recipe": "image", "params": {"options": OPTIONS}}
    (run.out / "training" / "training.json").write_text(json.dumps(story))
    return Lab(version_of(run.out, trained), data, parts(folder / "u", *unseen))


def test_a_student_learns_from_its_teacher_alone(lab: Lab, tmp_path: Path) -> None:
    """The labels that it is given are wrong, and count nothing with alpha 1."""
    files, labels = digit_files(slice(0, 800))
    wrong = parts(tmp_path / "wrong", files, [(label + 3) % 10 for label in labels])
    data = replace(lab.data, train=wrong)
    model, trained = lab.make(tmp_path, "distil", data, ratio=4, alpha=1)
    before, after = parameters(trained)
    assert before / after >= 4
    assert trained.report["copied"] > 0.9
    assert lab.accuracy(tmp_path, model) > 0.85
    assert model.manifest.labels == lab.model.manifest.labels
    assert model.manifest.preprocessing == lab.model.manifest.preprocessing
    assert model.manifest.model_signature == lab.model.manifest.model_signature
    again = reopen(new_run(tmp_path / "again")[0], lab_start(model, lab), lab.data)
    assert student.parameters(again.network) == after  # it can be trained on


def lab_start(model: Model, lab: Lab) -> Any:
    """As the job leaves it: it says how it was trained."""
    text = (lab.model.folder / "training" / "training.json").read_text()
    (model.folder / "training" / "training.json").write_text(text)
    return model.start


def test_teachers_are_averaged_and_have_to_tell_the_same_classes_apart(lab: Lab, tmp_path: Path) -> None:
    two = replace(lab, model=replace(lab.model, others={"twin:2": lab.model}))
    wanted = DistilOptions(teachers=("self", "twin:2"))
    assert Distil().consulted(wanted) == ["twin:2"]
    _, trained = two.make(tmp_path / "a", "distil", ratio=2, epochs=1, teachers=["self", "twin:2"])
    assert trained.report["teachers"] == ["self", "twin:2"]
    files, _ = digit_files(slice(0, 40))
    odd = [number % 2 for number in range(40)]
    few = training_data(parts(tmp_path / "t", files, odd), parts(tmp_path / "v", files, odd))
    run, _ = new_run(tmp_path / "other")
    other = ImageRecipe().train(run, few, options_of(ImageRecipe(), OPTIONS | {"epochs": 1}))
    strange = replace(lab, model=replace(lab.model, others={"odd": version_of(run.out, other)}))
    with pytest.raises(InvalidInput, match="odd tells other classes apart"):
        strange.make(tmp_path / "b", "distil", teachers=["odd"])


@pytest.mark.long
@pytest.mark.parametrize("match", ["features", "attention"])
def test_layers_are_matched(lab: Lab, tmp_path: Path, match: str) -> None:
    model, trained = lab.make(tmp_path, "distil", ratio=4, weights="new", match=match, epochs=12)
    assert lab.accuracy(tmp_path, model) > 0.8
    assert trained.report["match"] == match


@pytest.mark.long
def test_born_again(lab: Lab, tmp_path: Path) -> None:
    model, trained = lab.make(tmp_path, "distil", student="same", epochs=8)
    before, after = parameters(trained)
    assert before == after
    assert lab.accuracy(tmp_path, model) > 0.93


def test_matching_is_nothing_between_twins_and_falls_as_a_student_learns(lab: Lab, tmp_path: Path) -> None:
    opened = lab.reopened(tmp_path)
    inputs = opened.inputs(opened.plain.batch(torch.arange(64), 0))
    pupil = opened.build({"width": 0.5})
    for how in ("features", "attention"):
        losses = []
        for network in (opened.network, pupil):
            found = matching(how, opened.network, network, inputs)  # type: ignore[arg-type]
            watched = Watched(opened.network), Watched(network)
            learns = torch.optim.Adam([*network.parameters(), *found.parameters()], lr=1e-2)
            for _ in range(1 if network is opened.network else 15):
                for one in watched:
                    one.begin()
                with torch.no_grad():
                    opened.network.eval()(*inputs)
                theirs = watched[0].end()
                if network is opened.network:
                    losses.append(float(found(theirs, theirs)))
                    continue
                network(*inputs)
                loss = found(watched[1].end(), theirs)
                learns.zero_grad()
                loss.backward()
                learns.step()
                losses.append(float(loss.detach()))
            for one in watched:
                one.close()
        assert losses[0] < 1e-6 < losses[-1] < losses[1] * 0.8, how


class Deep(nn.Module):
    """Layers of a width."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(10, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))


def test_every_second_layer_is_copied() -> None:
    torch.manual_seed(0)
    teacher, pupil, narrow = Deep(6, 8), Deep(3, 8), Deep(6, 4)
    assert student.copy_from(pupil, teacher) == 1.0
    for mine, theirs in zip(pupil.layers, (1, 3, 5), strict=True):
        assert torch.equal(mine.weight, teacher.layers[theirs].weight)  # type: ignore[union-attr,arg-type]
    student.copy_from(narrow, teacher)
    assert torch.equal(narrow.layers[2].weight, teacher.layers[2].weight[:4, :4])  # type: ignore[union-attr,index]
    few = Deep(2, 8)
    few.words = nn.Embedding(3, 8)
    wrapped = nn.Module()
    wrapped.core, wrapped.kept = few, [0, 4, 9]  # type: ignore[assignment]
    student.copy_from(wrapped, teacher)
    assert torch.equal(few.words.weight, teacher.words.weight[[0, 4, 9]])


def test_soft_labels_are_those_of_hinton() -> None:
    one, other = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.0, 1.0, 0.5]])
    p, q = (np.exp(x / 3) / np.exp(x / 3).sum() for x in (other.numpy()[0], one.numpy()[0]))
    assert float(softened(one, other, 3.0)) == pytest.approx(9 * float((p * np.log(p / q)).sum()), rel=1e-5)
    assert float(softened(one, one, 3.0)) == pytest.approx(0, abs=1e-6)


def test_an_attack_stays_near_and_does_more_than_noise(lab: Lab, tmp_path: Path) -> None:
    opened = lab.reopened(tmp_path)
    bounds = attack.limits(opened, 0.1)
    limit = bounds[0]
    assert limit is not None
    batch = opened.plain.batch(torch.arange(100), 0)
    inputs = opened.inputs(batch)

    def loss(given: attack.Inputs) -> torch.Tensor:
        return opened.loss(opened.network(*given), batch)

    found, noise = (attack.attacked(inputs, bounds, steps, loss, torch.Generator().manual_seed(0)) for steps in (10, 0))
    moved = (found[0] - inputs[0]).abs()
    assert float(moved.max()) <= float(limit.eps.max()) * 1.0001
    assert float(found[0].min()) >= float(limit.low.min())
    assert float(found[0].max()) <= float(limit.high.max())
    with torch.no_grad():
        plain, random, worst = (float(loss(one)) for one in (inputs, noise, found))
    assert worst > 3 * random > plain


@pytest.mark.long
def test_a_robust_student_withstands_more_than_a_plain_one(lab: Lab, tmp_path: Path) -> None:
    model, trained = lab.make(tmp_path, "distil-robust", ratio=2, eps=0.1, epochs=8, steps=3, attack_steps=10)
    told = trained.report["attack"]
    assert told["robust"]["pgd_accuracy"] > told["plain"]["pgd_accuracy"] + 0.03
    assert told["robust"]["accuracy"] > 0.85
    assert told["plain"]["accuracy"] > told["plain"]["pgd_accuracy"]
    assert trained.metrics["validation_pgd_accuracy"] == told["robust"]["pgd_accuracy"]
    before, after = parameters(trained)
    assert before / after >= 2
    assert lab.accuracy(tmp_path, model) > 0.85


def test_without_data_nothing_but_the_example_is_read(lab: Lab, tmp_path: Path) -> None:
    found = method_of("distil-data-free")
    checked = options_of(found, {"sets": 2, "rounds": 3, "rows": 200, "epochs": 1})  # type: ignore[arg-type]
    run, told = new_run(tmp_path / "none")
    found.check(lab.model, None, checked)
    trained = found.compress(replace(run, score=score), lab.model, None, checked)
    assert version_of(run.out, trained).manifest.labels == lab.model.manifest.labels
    assert len(trained.report["agreement"]) == 2
    assert trained.metrics["agreement"] == max(trained.report["agreement"])
    assert any("set 2 of 2" in message for _, _, message, _ in told.progress)
    gone = replace(lab.data, train=(tmp_path / "not there.parquet",))
    data_free_of = lab.make(tmp_path / "gone", "distil-data-free", gone, sets=1, rounds=1, rows=100, epochs=1)[1]
    assert data_free_of.report["before"]["accuracy"] > 0.9  # told of validation rows


@pytest.mark.long
def test_a_student_without_data_tells_digits_apart(lab: Lab, tmp_path: Path) -> None:
    model, _ = lab.make(tmp_path, "distil-data-free", sets=1, rounds=150, rows=2000, weights="new", epochs=6)
    assert lab.accuracy(tmp_path, model) > 0.75


@pytest.mark.long
def test_a_game_that_was_killed_ends_the_same(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_free, "_KEPT_EVERY", 0.0)
    options = {"sets": 1, "rounds": 12, "rows": 200, "epochs": 1}
    whole, _ = lab.make(tmp_path / "whole", "distil-data-free", **options)
    found = method_of("distil-data-free")
    run, _ = new_run(tmp_path / "killed")

    def stop(done: float, total: float | None, message: str, unit: str) -> None:
        if unit == "rounds" and done == 5:
            raise KeyboardInterrupt

    checked = options_of(found, options)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        found.compress(replace(run, score=score, progress=stop), lab.model, lab.data, checked)
    again, _ = lab.make(tmp_path / "killed", "distil-data-free", **options)
    assert model_file(again).read_bytes() == model_file(whole).read_bytes()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("distil", {"ratio": 9000}, "no student is so small: the smallest .* quantize it afterwards"),
        ("distil", {"size": {"width": 1.0}}, "say a smaller one, or student=same"),
        ("distil", {"student": "same", "ratio": 2}, "options.ratio: a student that is the same"),
        ("distil", {"size": {"width": 0.5}, "max_bytes": 5000}, "options.size: it says how large"),
        ("distil", {"teachers": ["self", "self"]}, "name each once"),
        ("distil", {"teachers": []}, "options.teachers"),
        ("distil-robust", {"eps": 2}, "options.eps"),
    ],
)  # fmt: skip
def test_bad_input(lab: Lab, tmp_path: Path, method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        lab.make(tmp_path, method, **options)
