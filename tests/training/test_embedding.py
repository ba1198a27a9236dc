"""Recipe ``embedding`` on real docstrings: beside a bare loop, served raw, and with bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from scipy import stats
from torch.nn import functional

from modelport.engine.formats.onnx import OnnxFormat
from modelport.engine.preprocessing import wrap
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.onnx import OnnxRuntime
from modelport.errors import InvalidInput
from modelport.tensors import Array
from modelport.training import randomness
from modelport.training.batches import Order
from modelport.training.language.nearest import judged
from modelport.training.recipe import Start, Trained, TrainingData
from modelport.training.recipes.embedding import EmbeddingRecipe
from modelport.training.schedules import factor
from tests.training import tiny_models
from tests.training.real_texts import as_data, pairs, topics
from tests.training.runs import new_run

pytest.importorskip("onnxscript")

pytestmark = pytest.mark.long
ROWS = 240
OPTIONS: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-3, "max_length": 32, "batch_size": 32}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert(tmp_path_factory.mktemp("bert"), [text for pair in pairs(ROWS) for text in pair], layers=1)


def pairs_data(folder: Path) -> TrainingData:
    rows = pairs(ROWS)
    return as_data(folder, {"name": [a for a, _ in rows], "summary": [b for _, b in rows]}, None)


def learn(folder: Path, data: TrainingData, options: dict[str, Any], **about: Any) -> tuple[Trained, Path]:
    run, _ = new_run(folder, **about)
    recipe = EmbeddingRecipe()
    found = recipe.Options.model_validate(options)
    recipe.check(data, found)
    return recipe.train(run, data, found), run.out


def served(folder: Path, trained: Trained, texts: list[str]) -> Array:
    """What the version answers for raw texts, loaded as a replica loads it."""
    files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    found = OnnxFormat().inspect(folder, files, Trust())
    options = LoadOptions(folder, files, found.signature, found.labels, details=found.details)
    runtime = wrap(OnnxRuntime.load(options), trained.preprocessing, found.signature, folder)
    name = trained.preprocessing[0]["name"]
    return runtime.infer({name: np.array([text.encode() for text in texts], object)})["embeddings"]


def test_pairs_find_one_another_as_in_a_bare_loop(tmp_path: Path, base: Path) -> None:
    """The same loss by hand, without the product: the same figures; raw texts are served as unit vectors."""
    trained, out = learn(tmp_path, pairs_data(tmp_path / "data"), OPTIONS, code=base)
    cut = round(ROWS * 0.75)
    rows = pairs(ROWS)
    loss, recall = bare(base, rows[:cut], rows[cut:])
    assert trained.report["loss"] == "ranking"
    best = trained.report["history"][int(trained.metrics["best_epoch"]) - 1]
    assert best["validation_loss"] == pytest.approx(loss, abs=1e-4)
    assert trained.metrics["validation_recall_at_1"] == pytest.approx(recall, abs=0.02)
    assert trained.metrics["validation_mrr"] > trained.metrics["mrr_before"]
    assert trained.report["parity"]["max_difference"] < 1e-4
    assert trained.report["parity"]["same_tokens"]
    names, summaries = (served(out, trained, [row[at] for row in rows[cut:]]) for at in (0, 1))
    assert np.allclose(np.linalg.norm(names, axis=1), 1, atol=1e-5)
    assert float(((names @ summaries.T).argmax(1) == np.arange(ROWS - cut)).mean()) == pytest.approx(recall, abs=0.02)
    again, _ = learn(
        tmp_path / "on", pairs_data(tmp_path / "data"), OPTIONS | {"epochs": 1, "learning_rate": 1e-6},
        start=Start(out, {}, {}, trained.preprocessing),
    )  # fmt: skip
    assert again.metrics["mrr_before"] == pytest.approx(trained.metrics["validation_mrr"], abs=1e-6)


def bare(base: Path, learning: list[tuple[str, str]], judging: list[tuple[str, str]]) -> tuple[float, float]:
    """Multiple-negatives ranking by transformers and torch alone; nothing of Modelport's but order and rates."""
    randomness.settle(0, 1)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"), pad_token="[PAD]")
    model = transformers.AutoModel.from_pretrained(base)

    def encode(texts: list[str]) -> torch.Tensor:
        rows = tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")
        found = model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).last_hidden_state
        mask = rows["attention_mask"].unsqueeze(-1).float()
        return functional.normalize((found * mask).sum(1) / mask.sum(1), dim=1)

    def loss(rows: list[tuple[str, str]]) -> torch.Tensor:
        scores = encode([a for a, _ in rows]) @ encode([b for _, b in rows]).T * 20
        return functional.cross_entropy(scores, torch.arange(len(rows)))

    groups = [
        {"params": [one for one in model.parameters() if one.dim() > 1], "weight_decay": 0.01},
        {"params": [one for one in model.parameters() if one.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    rates = EmbeddingRecipe().Options.model_validate(OPTIONS)
    order, step, found = Order(len(learning), 32, 0), 0, []
    for epoch in range(3):
        model.train()
        for numbers in order.of(epoch):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * factor(rates, step, 3 * order.batches, order.batches)
            loss([learning[number] for number in numbers.tolist()]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
        model.eval()
        with torch.no_grad():
            lots = [judging[at : at + 32] for at in range(0, len(judging), 32)]
            value = sum(float(loss(lot)) * len(lot) for lot in lots) / len(judging)
            near = encode([a for a, _ in judging]) @ encode([b for _, b in judging]).T
            found.append((value, float((near.argmax(1) == torch.arange(len(judging))).float().mean())))
    return min(found)


@pytest.mark.parametrize("loss", ["cosine", "triplet"])
def test_scores_and_classes_teach_too(tmp_path: Path, base: Path, loss: str) -> None:
    if loss == "triplet":
        rows = topics(ROWS)
        columns: dict[str, list[Any]] = {"text": [text for text, _ in rows], "library": [label for _, label in rows]}
        data, figure = as_data(tmp_path / "data", columns, "library"), "recall_at_1"
    else:
        names, texts = ([row[at] for row in pairs(ROWS)] for at in (0, 1))
        shifted = [text if row % 2 else texts[row - 1] for row, text in enumerate(texts)]
        alike = [5.0 * (row % 2) for row in range(ROWS)]
        columns = {"name": names, "summary": shifted, "alike": alike}
        data, figure = as_data(tmp_path / "data", columns, "alike"), "spearman"
    trained, out = learn(tmp_path, data, OPTIONS | {"epochs": 6, "learning_rate": 3e-3}, code=base)
    assert trained.report["loss"] == loss
    assert trained.metrics[f"validation_{figure}"] > trained.metrics[f"{figure}_before"]
    assert served(out, trained, ["Fit the model."]).shape == (1, 32)


def test_figures_are_the_known_ones() -> None:
    """Beside SciPy, and beside what can be counted by hand."""
    random = np.random.default_rng(0)
    one, other = (random.normal(size=(50, 4)) for _ in range(2))
    one, other = (found / np.linalg.norm(found, axis=1, keepdims=True) for found in (one, other))
    scores = random.integers(0, 5, 50).astype(float)
    found = judged("cosine", [one, other], scores, 100)
    assert found["spearman"] == pytest.approx(stats.spearmanr((one * other).sum(1), scores).statistic)
    turned = np.eye(4)[[1, 0, 2, 3]]
    assert judged("ranking", [np.eye(4), turned], np.arange(4.0), 100) == {
        "recall_at_1": 0.5, "recall_at_5": 1.0, "recall_at_10": 1.0, "mrr": 0.75,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "target", "options", "message"),
    [
        ({"a": [1, 2]}, None, {}, "which two .*none"),
        ({"a": ["x", "y"] * 4}, None, {}, "one text column and no target"),
        ({"a": ["x"] * 4, "b": ["y"] * 4, "c": ["z"] * 4}, None, {}, r"which two .*\(a, b, c\)"),
        ({"a": ["x"] * 4, "b": ["y"] * 4}, None, {"first": "aa", "second": "b"}, "did you mean 'a'"),
        ({"a": ["x"] * 8, "b": ["y"] * 8, "s": [1.0] * 8}, "s", {}, "has the score 1; there is nothing to learn"),
        (
            {"a": ["x"] * 4, "b": ["y"] * 4, "s": ["1"] * 4},
            None,
            {"first": "a", "second": "b", "score": "s"},
            "a number",
        ),
        ({"a": ["x"] * 4, "b": ["y"] * 4}, None, {"loss": "triplet"}, "takes one text column"),
        ({"a": ["", None] * 4, "b": ["y"] * 8}, None, {}, "0 training rows have a text in a and b"),
        ({"a": ["x"] * 4, "b": ["y"] * 4}, None, {"max_length": 99}, "say at most 64"),
    ],
)
def test_what_cannot_be_learnt(
    tmp_path: Path, base: Path, columns: dict[str, list[Any]], target: str | None, options: dict[str, Any], message: str
) -> None:
    data = as_data(tmp_path / "data", columns, target)
    with pytest.raises(InvalidInput, match=message):
        learn(tmp_path, data, OPTIONS | options, code=base)
