"""Small language models that learn from larger ones, on real docstrings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from modelport.compression.distilling import language
from modelport.compression.method import Model, method_of
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, TrainingData, options_of
from modelport.training.recipes.language_model import LanguageModelRecipe
from tests.compression.versions import version_of
from tests.training import tiny_models
from tests.training.real_texts import as_data, pairs
from tests.training.runs import new_run

pytest.importorskip("peft")
FAST: dict[str, Any] = {"epochs": 2, "batch_size": 8, "max_length": 48, "learning_rate": 5e-3}


@cache
def texts() -> list[object]:
    return [text for _, text in pairs(160)]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, TrainingData]:
    """A model of four layers that has learnt the docstrings a little."""
    folder = tmp_path_factory.mktemp("writer")
    base = tiny_models.llama(folder / "base", [str(text) for text in texts()], layers=4)
    data = as_data(folder / "data", {"text": texts()}, None)
    run, _ = new_run(folder, code=base)
    options = {"method": "full", "epochs": 4, "batch_size": 8, "max_length": 48, "learning_rate": 1e-2}
    trained = LanguageModelRecipe().train(run, data, options_of(LanguageModelRecipe(), options))
    return version_of(run.out, trained), data


def distilled(folder: Path, writer: tuple[Model, TrainingData], **options: Any) -> tuple[Path, Trained]:
    method, (model, data), (run, _) = method_of("distil-language"), writer, new_run(folder)
    checked = options_of(method, FAST | options)  # type: ignore[arg-type]
    method.check(model, data, checked)
    trained = method.compress(run, model, data, checked)
    version_of(run.out, trained)
    return run.out, trained


@pytest.mark.parametrize(
    "mode", ["rows", pytest.param("sequence", marks=pytest.mark.long), pytest.param("reverse", marks=pytest.mark.long)]
)
def test_half_the_layers_write_nearly_as_well(writer: tuple[Model, TrainingData], tmp_path: Path, mode: str) -> None:
    out, trained = distilled(tmp_path, writer, layers=2, mode=mode, written=12, alpha=0.9, learning_rate=2e-3)
    report = trained.report
    assert report["copied"] == 1.0
    assert report["after"]["parameters"] < report["before"]["parameters"]
    assert report["after"]["perplexity"] < report["begun"]["perplexity"]
    assert report["parity"]["difference"] < 1e-3
    if mode == "rows":
        assert report["after"]["perplexity"] < 1.5 * report["before"]["perplexity"]
    found = transformers.AutoModelForCausalLM.from_pretrained(str(out), local_files_only=True)
    assert found.config.num_hidden_layers == 2
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(out), local_files_only=True)
    begins = torch.tensor([tokenizer("Return the")["input_ids"]])
    assert language.go_on(found, begins, 5, sample=False).shape == (1, begins.shape[1] + 5)


@pytest.mark.long
def test_the_same_seed_writes_the_same(writer: tuple[Model, TrainingData], tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        out, _ = distilled(tmp_path / name, writer, layers=1, mode="reverse", epochs=1, written=8)
        files.append((out / "model.safetensors").read_bytes())
    assert files[0] == files[1]


def test_kl_is_nothing_of_the_same_and_not_symmetric() -> None:
    one, other = torch.tensor([[3.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    assert float(language._apart(one, one, 2.0)) == pytest.approx(0, abs=1e-6)
    assert float(language._apart(one, other, 1.0)) > 0.1
    assert float(language._apart(one, other, 1.0)) != pytest.approx(float(language._apart(other, one, 1.0)), rel=1e-2)


def test_bad_input(writer: tuple[Model, TrainingData], tmp_path: Path) -> None:
    for options, message in (
        ({"layers": 4}, "the version has 4 layers; say fewer"),
        ({"ratio": 900}, "times fewer weights, no more: its words take the rest"),
        ({"ratio": 2, "layers": 1}, "layers already say"),
        ({"text": "texts"}, "did you mean 'text'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            distilled(tmp_path / str(len(message)), writer, **options)
