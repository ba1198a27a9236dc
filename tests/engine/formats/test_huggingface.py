"""Hugging Face folders: what is read of them, and that code and pickles are refused. Needs none of their libraries."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.engine.inspect import inspect_apart
from modelport.engine.runtime import Inspected, Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec
from tests import huggingface_models
from tests.huggingface_models import WIDTH, safetensors, tokenizer, write

ENCODER = {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": WIDTH, "vocab_size": 10}
WEIGHTS = safetensors({"w": np.ones((2, 3))})


def look(folder: Path) -> Inspected:
    return inspect_apart(folder, Trust())


def encoder(folder: Path, **changes: Any) -> Path:
    config = {**ENCODER, **changes}
    return write(folder, config_json=config, model_safetensors=WEIGHTS, tokenizer_json=tokenizer())


def test_an_encoder(tmp_path: Path) -> None:
    found = look(encoder(tmp_path, max_position_embeddings=128))
    assert (found.format, found.runtime) == ("huggingface", "huggingface")
    assert found.signature.inputs == (TensorSpec("text", "BYTES", (-1,)),)
    assert found.signature.outputs == (TensorSpec("embeddings", "FP32", (-1, WIDTH)),)
    assert found.details["parameters"] == 6
    assert found.details["max_tokens"] == 128


def test_a_classifier_shows_its_classes(tmp_path: Path) -> None:
    labels = {str(number): f"class {number}" for number in range(12)}
    found = look(encoder(tmp_path, architectures=["BertForSequenceClassification"], id2label=labels))
    assert found.signature.outputs == (TensorSpec("probabilities", "FP32", (-1, 12)),)
    assert found.labels == {"probabilities": [f"class {number}" for number in range(12)]}


@pytest.mark.parametrize(
    ("architecture", "why"),
    [("T5ForConditionalGeneration", "has an encoder"), ("ViTForX", "encoders")],
)
def test_what_is_kept_but_not_served(tmp_path: Path, architecture: str, why: str) -> None:
    found = look(encoder(tmp_path, architectures=[architecture]))
    assert found.runtime == ""
    assert why in found.details["not_served"]


def test_a_language_model(tmp_path: Path) -> None:
    found = look(encoder(tmp_path, architectures=["GPT2LMHeadModel"], n_positions=64))
    assert (found.format, found.runtime) == ("huggingface", "transformers")
    assert found.signature.inputs == (TensorSpec("text_input", "BYTES", (-1,)),)
    assert found.signature.outputs == (TensorSpec("text_output", "BYTES", (-1,)),)
    assert (found.details["task"], found.details["max_tokens"]) == ("generate", 64)


def test_an_onnx_file_is_inspected_as_one(tmp_path: Path) -> None:
    huggingface_models.onnx_encoder(tmp_path)
    assert look(tmp_path).details["runs_on"] == "onnxruntime"
    raw = (tmp_path / "onnx" / "model.onnx").read_bytes()
    (tmp_path / "onnx" / "model.onnx").write_bytes(raw.replace(b"Gather", b"Gatxer"))
    with pytest.raises(ArtifactRefused, match="Gatxer"):
        look(tmp_path)


def test_a_folder_of_config_and_onnx_alone_stays_onnx(tmp_path: Path) -> None:
    huggingface_models.onnx_encoder(tmp_path)
    (tmp_path / "modules.json").unlink()
    assert look(tmp_path).format == "onnx"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "custom code": ({"config_json": {**ENCODER, "auto_map": {"AutoModel": "m.M"}}}, "auto_map"),
    "custom code, nested": ({"config_json": {**ENCODER, "text": {"auto_map": {"AutoModel": "m.M"}}}}, "auto_map"),
    "custom code of the tokenizer": ({"tokenizer_config_json": {"auto_map": {"AutoTokenizer": ["m.T"]}}}, "auto_map"),
    "a Python file": ({"modeling_own_py": b"print(1)"}, "is code"),
    "a kernel from the hub": ({"config_json": {**ENCODER, "_attn_implementation": "who/what"}}, "kernel"),
    "a quantiser": ({"config_json": {**ENCODER, "quantization_config": {"quant_method": "x"}}}, "library"),
    "pickled weights too": ({"pytorch_model_bin": pickle.dumps({"w": np.ones(2)})}, "leave it out"),
    "pickled arguments": ({"training_args_bin": pickle.dumps({"w": np.ones(2)})}, "is a pickle"),
    "a damaged header": ({"model_safetensors": WEIGHTS[:20]}, "not a whole safetensors"),
    "a missing tail": ({"model_safetensors": WEIGHTS[:-4]}, "not a whole safetensors"),
    "a git pointer": ({"model_safetensors": b"version https://git-lfs.github.com/spec/v1"}, "git lfs pull"),
    "no fast tokenizer": ({"tokenizer_json": None}, "no tokenizer.json"),
    "an unknown chain": ({"modules_json": [{"type": "a.Transformer"}, {"type": "b.Dense"}]}, "Transformer → Dense"),
    "a chain that is none": ({"modules_json": {"a": 1}}, "not a list"),
    "modules that are not JSON": ({"modules_json": b"{"}, "not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_code_pickles_and_puzzles_are_refused(tmp_path: Path, name: str) -> None:
    changes, words = REFUSED[name]
    encoder(tmp_path)
    for file, content in changes.items():
        if content is None:
            (tmp_path / file.replace("_json", ".json")).unlink()
        else:
            write(tmp_path, **{file: content})
    with pytest.raises(ArtifactRefused, match=words):
        look(tmp_path)


def test_pickled_weights_alone_are_refused(tmp_path: Path) -> None:
    write(tmp_path, config_json=ENCODER, pytorch_model_bin=pickle.dumps({"w": np.ones(2)}))
    with pytest.raises(ArtifactRefused, match="save the model as safetensors"):
        look(tmp_path)


def test_absurd_values_are_refused_not_believed(tmp_path: Path) -> None:
    for changes in ({"hidden_size": -1}, {"hidden_size": 10**12}, {"architectures": []}, {"architectures": [7]}):
        folder = encoder(tmp_path, **changes)
        try:
            assert look(folder).runtime == ""
        except ArtifactRefused as error:
            assert len(error.message) < 500
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**15]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ArtifactRefused, match="not a whole safetensors"):
        look(tmp_path)
