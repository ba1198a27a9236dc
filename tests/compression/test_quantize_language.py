"""Method quantize-language: GGUF files of a small model of LLaMA's architecture, read again by transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelport.compression.method import Model, method_of
from modelport.errors import InvalidInput
from modelport.training.recipe import Trained, TrainingData, options_of
from tests.compression.versions import version_of
from tests.training.real_texts import as_data, topics
from tests.training.runs import new_run

pytest.importorskip("gguf")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, TrainingData]:
    """A few weights that have learnt a little of docstrings."""
    import transformers

    from tests.training import tiny_models

    folder = tmp_path_factory.mktemp("language")
    texts = [text for text, _ in topics(120)]
    tiny_models.llama(folder / "m", texts, width=64)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "m")
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    ids = torch.tensor(tokenizer(" ".join(texts[:60]))["input_ids"])[: 64 * 20].reshape(-1, 64)
    (folder / "learnt.json").write_text(json.dumps([tokenizer.decode(row) for row in ids]))
    for step in range(60):
        batch = ids[(step % 2) :: 2]
        network(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    network.save_pretrained(folder / "m")
    return version_of(folder / "m"), as_data(folder / "data", {"text": list(texts)}, None)


def quantized(folder: Path, model: Model, data: TrainingData | None, **options: Any) -> tuple[Model, Trained]:
    method = method_of("quantize-language")
    settled = options_of(method, options)  # type: ignore[arg-type]
    method.check(model, data, settled)
    run, _ = new_run(folder)
    trained = method.compress(run, model, data, settled)
    return version_of(run.out, trained), trained


@pytest.mark.long
def test_a_folder_becomes_the_same_model_in_one_file(tmp_path: Path, small: tuple[Model, TrainingData]) -> None:
    """In 16 bits it scores the same tokens alike, which it would not with a name, a head or a word in a wrong place."""
    import transformers

    model, data = small
    found, trained = quantized(tmp_path, model, data, type="f16")
    assert found.manifest.format == "gguf"
    assert found.manifest.details["architecture"] == "llama"
    assert trained.task == "language"
    assert trained.judged_itself
    read = transformers.AutoModelForCausalLM.from_pretrained(found.folder, gguf_file="model.gguf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(found.folder, gguf_file="model.gguf")
    theirs = transformers.AutoTokenizer.from_pretrained(model.folder)
    text = "Return the mean of 12 arrays, élève.\n  Parameters"
    assert tokenizer(text)["input_ids"] == theirs(text)["input_ids"]
    assert tokenizer.chat_template == theirs.chat_template
    plain = transformers.AutoModelForCausalLM.from_pretrained(model.folder).eval()
    ids = torch.tensor([theirs(text)["input_ids"]])
    with torch.no_grad():
        assert float((read(ids).logits.float() - plain(ids).logits).abs().max()) < 0.02
    report = trained.report
    assert abs(report["perplexity_rise"]) < 0.002
    assert trained.metrics["validation_perplexity"] == pytest.approx(report["after"]["perplexity"])


@pytest.mark.long
def test_fewer_bits_are_smaller_and_cost_little(tmp_path: Path, small: tuple[Model, TrainingData]) -> None:
    model, data = small
    rises, sizes = {}, {}
    for kind in ("q8_0", "q4_1", "q4_0"):
        _, trained = quantized(tmp_path / kind, model, data, type=kind)
        rises[kind], sizes[kind] = trained.report["perplexity_rise"], trained.report["after"]["model_bytes"]
        assert trained.report["importance"] is (kind != "q8_0")
    assert sizes["q4_0"] < sizes["q4_1"] < sizes["q8_0"]
    assert abs(rises["q8_0"]) < 0.005
    assert rises["q4_1"] < 0.1
    assert rises["q4_0"] < 0.15
    with pytest.raises(InvalidInput, match="max_rise: perplexity rose from"):
        rows = json.loads((model.folder.parent / "learnt.json").read_text())  # what it knows best, it loses first
        known = replace(data, validation=as_data(tmp_path / "learnt", {"text": rows}, None).train)
        quantized(tmp_path / "worse", model, known, type="q4_0", embedding="q4_0", max_rise=0.0001)


@pytest.mark.long
def test_a_gguf_file_is_quantized_again(tmp_path: Path, small: tuple[Model, TrainingData]) -> None:
    """What is known of the model and its words goes over; tensors that are not matrices stay as they are."""
    import gguf

    model, _ = small
    whole, _ = quantized(tmp_path / "whole", model, None, type="f16")
    again, trained = quantized(tmp_path / "again", whole, None, type="q8_0")
    before, after = (gguf.GGUFReader(each.folder / "model.gguf") for each in (whole, again))
    for name, field in before.fields.items():
        if not name.startswith(("GGUF.", "general.file_type")):
            assert after.fields[name].contents() == field.contents(), name
    kinds = {tensor.name: tensor.tensor_type.name for tensor in after.tensors}
    assert kinds["blk.0.attn_q.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert {tensor.name for tensor in before.tensors} == set(kinds)
    assert trained.metrics == {}
    assert not trained.judged_itself
    assert 1.5 < (whole.folder / "model.gguf").stat().st_size / (again.folder / "model.gguf").stat().st_size < 2


def test_blocks_leave_less_error_than_the_librarys() -> None:
    """And least where it matters; the library reads what is written."""
    import gguf

    from modelport.compression.quantizing.blocks import quantized as packed

    rng = np.random.default_rng(0)
    weights = (rng.standard_t(5, (64, 256)) * 0.05).astype(np.float32)
    matters = rng.uniform(0.01, 1, 256) ** 4
    for name in ("q4_0", "q4_1"):
        kind = gguf.GGMLQuantizationType[name.upper()]

        def error(raw: Any, counts: Any, kind: Any = kind) -> float:
            return float((counts * (gguf.dequantize(raw, kind) - weights) ** 2).mean())

        theirs = gguf.quantize(weights, kind)
        plain, weighted = packed(weights, name), packed(weights, name, matters)  # type: ignore[arg-type]
        assert plain.shape == theirs.shape
        assert plain.dtype == theirs.dtype
        assert error(plain, 1.0) < 0.95 * error(theirs, 1.0)
        assert error(weighted, matters) < 0.95 * error(plain, matters)
        exact = gguf.dequantize(theirs, kind)  # what has 16 levels already keeps them
        assert np.abs(gguf.dequantize(packed(exact, name), kind) - exact).max() < 2e-3 * np.abs(exact).max()  # type: ignore[arg-type]
    assert not packed(np.zeros((2, 32), np.float32), "q4_1").any()


def test_columns_behind_make_up_for_what_rounding_leaves() -> None:
    """Inputs that go together leave less of an error in what comes out than any rounding to the nearest level."""
    import gguf

    from modelport.compression.quantizing.blocks import quantized as packed

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((96, 128)).astype(np.float32)
    given = rng.standard_normal((2000, 24)) @ rng.standard_normal((24, 128)) + 0.1 * rng.standard_normal((2000, 128))
    learnt, unseen = given[:1000], given[1000:]
    together = (learnt.T @ learnt / len(learnt)).astype(np.float32)
    for name in ("q4_0", "q4_1"):
        kind = gguf.GGMLQuantizationType[name.upper()]

        def error(raw: Any, kind: Any = kind) -> float:
            return float((((gguf.dequantize(raw, kind) - weights) @ unseen.T) ** 2).mean())

        nearest = packed(weights, name, np.diagonal(together))  # type: ignore[arg-type]
        made_up = packed(weights, name, together)  # type: ignore[arg-type]
        assert made_up.shape == nearest.shape
        assert error(made_up) < 0.4 * error(nearest)
        exact = gguf.dequantize(gguf.quantize(weights, kind), kind)  # what has 16 levels already stays
        assert np.abs(gguf.dequantize(packed(exact, name, together), kind) - exact).max() < 5e-3 * np.abs(exact).max()  # type: ignore[arg-type]


@pytest.mark.long
def test_what_cannot_be_is_told(tmp_path: Path, small: tuple[Model, TrainingData]) -> None:
    model, data = small
    with pytest.raises(InvalidInput, match="embedding: type f16 keeps everything"):
        quantized(tmp_path, model, data, type="f16", embedding="q8_0")
    with pytest.raises(InvalidInput, match="max_rise: perplexity is measured on texts"):
        quantized(tmp_path, model, None, max_rise=0.1)
    other = tmp_path / "other"
    other.mkdir()
    for path in model.folder.iterdir():
        text = path.read_bytes()
        if path.name == "config.json":
            text = text.replace(b"LlamaForCausalLM", b"GPTNeoXForCausalLM")
        (other / path.name).write_bytes(text)
    with pytest.raises(InvalidInput, match="the model is a GPTNeoXForCausalLM; GGUF files are written of Llama"):
        quantized(tmp_path / "no", Model(other, model.manifest), None)
    assert not list((tmp_path / "no" / "out").glob("*"))
