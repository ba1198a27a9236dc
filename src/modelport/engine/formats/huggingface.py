"""Hugging Face: a folder with config.json, safetensors and a tokenizer.

Encoders (sentence embeddings, BERT and its kin), text classifiers and cross-encoders (rerankers: a query and a text
to one score) are served: text in, numbers out. So are language models: text in, text out. Nothing of the folder runs
here but, where there is one, the check of its ONNX file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from modelport.engine.formats.huggingface_folder import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    Recipe,
    model_folder,
    read_adapter,
    read_recipe,
    vocabulary_of,
)
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.engine.texts import SIGNATURE
from modelport.errors import ArtifactRefused
from modelport.tensors import Signature, TensorSpec

TEXT, EMBEDDINGS, PROBABILITIES = "text", "embeddings", "probabilities"
QUERY, SCORE = "query", "score"
_LARGEST_HEADER = 100 << 20
_NO_TOKENIZER = "the folder has no tokenizer.json: save the fast tokenizer with tokenizer.save_pretrained(folder)"
_NOT_SERVED = {
    "translate": "of models that generate, those that go on with a text are (ForCausalLM), and this has an encoder",
    "adapter": "it is an adapter of a language model, and runs on a deployment of that (modelport deploy NAME --base)",
    "other": "of Hugging Face folders, encoders and text classifiers are; export other models to ONNX",
}


class HuggingFaceFormat(Format):
    """A folder as ``save_pretrained`` or sentence-transformers writes it."""

    name = "huggingface"
    precedence = 10

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether there is a config.json that names an architecture, and weights beside it; or an adapter."""
        return model_folder(folder, files) is not None or {ADAPTER, ADAPTER_WEIGHTS} <= set(files)

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read what the folder says of itself; raises ArtifactRefused with the cause and the next step."""
        if model_folder(folder, files) is None:
            return _adapter(folder, files)
        recipe = read_recipe(folder, files)
        place, config = recipe.model_folder, recipe.config
        parameters = sum(_parameters(folder, name) for name in files if name.endswith(".safetensors"))
        if not parameters and recipe.onnx is None:
            raise ArtifactRefused("the folder holds no weights: save the model as safetensors")
        details: dict[str, Any] = {
            "architecture": str((config.get("architectures") or ["unknown"])[0])[:200],
            "model_type": str(config.get("model_type", ""))[:100],
            "task": recipe.task,
            "parameters": parameters,
        }
        has_tokenizer = f"{place}tokenizer.json" in files
        why = _NOT_SERVED.get(recipe.task) or (recipe.task == "generate" and not has_tokenizer and _NO_TOKENIZER)
        if why:
            details |= {"max_tokens": recipe.max_length, "not_served": why}
            return Inspected(self.name, "", Signature((), ()), {}, details)
        if not has_tokenizer:
            raise ArtifactRefused(_NO_TOKENIZER)
        if recipe.task == "generate":
            details |= {"max_tokens": recipe.max_length, "runs_on": "transformers"}
            details |= vocabulary_of(folder, f"{place}tokenizer.json")
            return Inspected(self.name, "transformers", SIGNATURE, {}, details)
        if not 0 < recipe.width < 1 << 20:
            raise ArtifactRefused(
                "config.json does not say how long an embedding is, or which classes there are: "
                "set hidden_size, or id2label"
            )
        details |= {"max_tokens": recipe.max_length, "runs_on": "onnxruntime" if recipe.onnx else "transformers"}
        if recipe.onnx is not None:
            _check_onnx(folder, files, recipe.onnx, trust)
        return Inspected(self.name, "huggingface", _signature(recipe), _labels(recipe), details)


def _adapter(folder: Path, files: tuple[str, ...]) -> Inspected:
    """LoRA's matrices without their base: kept with what peft needs to put them on it."""
    about = read_adapter(folder, files)
    base = str(about.get("base_model_name_or_path") or "")[:300]
    details = {
        "task": "adapter",
        "parameters": _parameters(folder, ADAPTER_WEIGHTS),
        "adapter": str(about.get("peft_type", ""))[:50],
        "rank": about.get("r"),
        "alpha": about.get("lora_alpha"),
        "targets": about.get("target_modules"),
        "not_served": _NOT_SERVED["adapter"],
    }
    if base and not base.startswith(("/", "\\")):
        details["base"] = base
    return Inspected("huggingface", "", Signature((), ()), {}, details)


def _signature(recipe: Recipe) -> Signature:
    if recipe.task == "rank":
        texts = tuple(TensorSpec(name, "BYTES", (-1,)) for name in (QUERY, TEXT))
        return Signature(texts, (TensorSpec(SCORE, "FP32", (-1, 1)),))
    name = EMBEDDINGS if recipe.task == "embed" else PROBABILITIES
    return Signature((TensorSpec(TEXT, "BYTES", (-1,)),), (TensorSpec(name, "FP32", (-1, recipe.width)),))


def _labels(recipe: Recipe) -> dict[str, list[str]]:
    return {PROBABILITIES: list(recipe.labels)} if recipe.labels else {}


def _check_onnx(folder: Path, files: tuple[str, ...], name: str, trust: Trust) -> None:
    """Hold the ONNX file to what is asked of every ONNX model."""
    from modelport.engine.formats.onnx import OnnxFormat  # noqa: PLC0415  (heavy, and most folders have none)

    inside = name.rpartition("/")[0]
    beside = [other for other in files if other.rpartition("/")[0] == inside and not other.endswith(".onnx")]
    OnnxFormat().inspect(folder, (name, *beside), trust)


def _parameters(folder: Path, name: str) -> int:
    """The number of elements in a safetensors file; raises ArtifactRefused unless its header fits its size."""
    path = folder / name
    size, total = path.stat().st_size, 0
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(_LARGEST_HEADER, size - 8):
            raise _damaged(name)
        raw = file.read(length)
    try:
        header = json.loads(raw)
        for tensor, about in header.items():
            if tensor == "__metadata__":
                continue
            begin, end = about["data_offsets"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise _damaged(name)
            total += math.prod(about["shape"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise _damaged(name) from None
    return total


def _damaged(name: str) -> ArtifactRefused:
    return ArtifactRefused(f"{name[:120]!r} is not a whole safetensors file: copy or save it again (git lfs pull?)")
