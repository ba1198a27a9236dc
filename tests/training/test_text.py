"""Recipe ``text`` on real docstrings: beside scikit-learn, beside a bare loop, served raw, and with bad input."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from modelport.engine.formats.huggingface import HuggingFaceFormat
from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.preprocessing import wrap
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import randomness
from modelport.training.batches import Order
from modelport.training.language import classify, export
from modelport.training.recipe import Start, Trained, TrainingData
from modelport.training.recipes.text import TextRecipe
from modelport.training.schedules import factor
from tests.training import tiny_models
from tests.training.real_texts import as_data, topics
from tests.training.runs import Told, new_run

pytest.importorskip("onnxscript")
ROWS = 400
SMALL = {"model": "small", "layers": 0, "epochs": 8, "learning_rate": 5e-3}


def data_of(folder: Path, rows: list[tuple[str, str]], **options: Any) -> TrainingData:
    return as_data(folder, {"text": [a for a, _ in rows], "library": [b for _, b in rows]}, "library", **options)


def learn(folder: Path, data: TrainingData, options: dict[str, Any], **about: Any) -> tuple[Trained, Path, Told]:
    run, told = new_run(folder, **about)
    recipe = TextRecipe()
    found = recipe.Options.model_validate(options)
    recipe.check(data, found)
    return recipe.train(run, data, found), run.out, told


def served(folder: Path, trained: Trained, texts: list[str]) -> Array:
    """What the version answers for raw texts, loaded as a replica loads it."""
    files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    assert OnnxFormat().recognises(folder, files)
    found = OnnxFormat().inspect(folder, files, Trust())
    assert found.labels == {"probabilities": trained.class_labels}
    options = LoadOptions(folder, files, found.signature, found.labels, details=found.details)
    runtime = wrap(OnnxRuntime.load(options), trained.preprocessing, found.signature, folder)
    answers = runtime.infer({"text": np.array([text.encode() for text in texts], object)})
    return answers["probabilities"]


def accuracy(answers: Array, trained: Trained, labels: list[str]) -> float:
    assert trained.class_labels is not None
    return float(
        np.mean([trained.class_labels[code] == label for code, label in zip(answers.argmax(1), labels, strict=True)])
    )


@pytest.mark.long
def test_small_learns_as_well_as_a_bag_of_words(tmp_path: Path) -> None:
    """Beside TF-IDF and a logistic regression on the same split; served, raw texts get the same answers."""
    rows = topics(ROWS)
    trained, out, told = learn(tmp_path, data_of(tmp_path / "data", rows), SMALL)
    cut = round(ROWS * 0.75)
    texts, labels = [a for a, _ in rows[cut:]], [b for _, b in rows[cut:]]
    beside = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    beside.fit([a for a, _ in rows[:cut]], [b for _, b in rows[:cut]])
    answers = served(out, trained, texts)
    found, wanted = accuracy(answers, trained, labels), float(beside.score(texts, labels))
    assert found >= wanted - 0.03, (found, wanted)
    assert trained.class_labels == ["aiohttp", "numpy", "sklearn", "sqlalchemy"]
    assert trained.report["parity"]["max_difference"] < 1e-4
    assert trained.report["parity"]["same_tokens"]
    best = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    assert best["validation_accuracy"] == pytest.approx(found)
    assert {"loss", "validation_accuracy"} <= {name for name, _, _ in told.metrics}
    assert np.allclose(served(out, trained, ["", "é" * 5000]).sum(1), 1, atol=1e-5)


BASE = {"epochs": 3, "learning_rate": 2e-3, "max_length": 32, "freeze": 1, "unfreeze_epoch": 2, "layer_decay": 0.5}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("bert"), [text for text, _ in topics(ROWS)], layers=2)


def test_a_base_model_learns_as_in_a_bare_loop_and_goes_on(tmp_path: Path, base: Path) -> None:
    """Beside transformers alone, its lower layers frozen for an epoch; then a class more, from the version before."""
    rows = topics(ROWS)
    cut = round(ROWS * 0.75)
    trained, out, _ = learn(tmp_path, data_of(tmp_path / "data", rows), BASE, code=base)
    wanted = bare(base, rows[:cut], rows[cut:])
    assert [entry["validation_loss"] for entry in trained.report["history"]] == pytest.approx(wanted, abs=1e-4)
    answers = served(out, trained, [text for text, _ in rows[cut:]])
    best = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    assert accuracy(answers, trained, [label for _, label in rows[cut:]]) == best["validation_accuracy"]

    more = [*rows[:cut:3], *((text, "a fifth") for text, _ in rows[1:cut:3]), *rows[cut:]]
    data = data_of(tmp_path / "more", more, validation=(ROWS - cut) / len(more))
    start = Start(out, {}, {"probabilities": list(trained.class_labels or [])}, trained.preprocessing)
    options = BASE | {"epochs": 1, "freeze": 0, "learning_rate": 1e-7, "unfreeze_epoch": None}
    again, other, _ = learn(tmp_path / "on", data, options, start=start)
    assert again.class_labels == [*(trained.class_labels or []), "a fifth"]
    found = served(other, again, [text for text, _ in rows[cut:]])
    assert np.allclose(found[:, :4] / found[:, :4].sum(1, keepdims=True), answers, atol=1e-3)


def bare(base: Path, learning: list[tuple[str, str]], judging: list[tuple[str, str]]) -> list[float]:
    """transformers' own classifier and loss; nothing of Modelport's but the order of the rows and the rates."""
    randomness.settle(0, 1)
    names = sorted({label for _, label in learning})
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"), pad_token="[PAD]")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(names))
    below = [model.bert.embeddings, model.bert.encoder.layer[0]]
    above = [model.bert.encoder.layer[1]]
    frozen = {one for module in below for one in module.parameters()}
    middle = {one for module in above for one in module.parameters()}
    rates = {one: 2e-3 for one in model.parameters() if one not in frozen | middle}
    rates |= dict.fromkeys(middle, 2e-3)
    rates |= dict.fromkeys(below[1].parameters(), 1e-3) | dict.fromkeys(below[0].parameters(), 0.5e-3)
    optimizer = torch.optim.AdamW(
        [{"params": [one], "base": rate, "weight_decay": 0.01 * (one.dim() > 1)} for one, rate in rates.items()]
    )

    def loss(rows: list[tuple[str, str]]) -> torch.Tensor:
        found = tokenizer([text for text, _ in rows], padding=True, truncation=True, max_length=32, return_tensors="pt")
        codes = torch.tensor([names.index(label) for _, label in rows])
        return model(input_ids=found["input_ids"], attention_mask=found["attention_mask"], labels=codes).loss

    randomness.settle(0, 1)
    order, step, losses = Order(len(learning), 16, 0), 0, []
    options = TextRecipe().Options.model_validate(BASE)
    for epoch in range(3):
        model.train()
        for one in frozen:
            one.requires_grad_(epoch >= 1)
        if epoch < 1:
            for module in below:
                module.eval()
        for numbers in order.of(epoch):
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * factor(options, step, 3 * order.batches, order.batches)
            loss([learning[number] for number in numbers.tolist()]).backward()
            torch.nn.utils.clip_grad_norm_([one for one in model.parameters() if one.requires_grad], 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        model.eval()
        with torch.no_grad():
            lots = [judging[at : at + 32] for at in range(0, len(judging), 32)]
            losses.append(sum(float(loss(lot)) * len(lot) for lot in lots) / len(judging))
    return losses


def test_older_rows_are_mixed_in(tmp_path: Path) -> None:
    rows = topics(120)
    replay = {"text": [text for text, _ in rows[:60]], "library": [label for _, label in rows[:60]]}
    data = data_of(tmp_path / "data", rows[60:], replay=replay)
    run, _ = new_run(tmp_path)
    options = TextRecipe.Options.model_validate(SMALL | {"epochs": 1, "replay_share": 0.5})
    old, new = classify._read(run, data, options, "text", ["aiohttp", "numpy", "sklearn", "sqlalchemy"])
    assert (len(old.texts), len(new.texts)) == (45 + 22, 15)
    assert set(old.texts[45:]) <= set(replay["text"])


def test_a_model_that_has_no_onnx_form_is_served_by_transformers(tmp_path: Path, base: Path) -> None:
    """The Hugging Face folder becomes the version, and a warning says so."""
    trained = Trained("classification")
    (tmp_path / "training").mkdir()
    shutil.copytree(base, tmp_path / "training", dirs_exist_ok=True)
    export.serve_folder(tmp_path, trained, "no such operator")
    files = tuple(sorted(path.name for path in tmp_path.iterdir()))
    assert HuggingFaceFormat().inspect(tmp_path, files, Trust()).runtime == "huggingface"
    assert "slower" in trained.warnings[0]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": ["a b"] * 20, "library": ["x"] * 20}, {}, "one class"),
        ({"text": ["a b"] * 20, "library": ["x", None] * 10}, {}, "lacks 10 of 20 values"),
        ({"text": ["a b"] * 20, "library": [0.5, 1.5] * 10}, {}, "holds no classes"),
        ({"text": ["a b"] * 40, "library": [str(i) for i in range(40)]}, {}, "is it the column of the classes"),
        ({"n": [1, 2] * 10, "library": ["x", "y"] * 10}, {}, "no text column among the features"),
        ({"text": [None, ""] * 10, "library": ["x", "y"] * 10}, {}, "no training row has a text"),
        ({"text": [None] * 20, "library": ["x", "y"] * 10}, {}, "no text column|all 20 rows are null"),
        ({"a": ["a"] * 20, "b": ["b"] * 20, "library": ["x", "y"] * 10}, {}, r"2 text columns \(a, b\)"),
        ({"text": ["a b"] * 20, "library": ["x"] * 15 + ["y"] * 5}, {}, "one class"),
        ({"text": ["a b"] * 20, "library": ["x"] * 14 + ["y"] + ["x"] * 5}, {}, "fewer than 2 training rows"),
        ({"text": ["a b"] * 20, "library": ["x", "y"] * 10}, {"model": "base"}, "there is no base model"),
        ({"text": ["a b"] * 20, "library": ["x", "y"] * 10}, {"text": "txt"}, "did you mean 'text'"),
    ],
)
def test_rows_that_cannot_be_learnt(
    tmp_path: Path, columns: dict[str, list[Any]], options: dict[str, Any], message: str
) -> None:
    data = as_data(tmp_path / "data", columns, "library")
    with pytest.raises(InvalidInput, match=message):
        learn(tmp_path, data, SMALL | ({"model": "auto"} | options), code=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 65}, "say at most 64"),
        ({"freeze": 9}, "has 2 layers, not 9"),
        ({"class_weights": {"pandas": 2.0}}, "there is no class 'pandas'"),
    ],
)
def test_options_that_do_not_fit_the_base(tmp_path: Path, base: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        learn(tmp_path, data_of(tmp_path / "data", topics(60)), BASE | options, code=base)
