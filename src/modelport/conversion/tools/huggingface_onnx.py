"""A Hugging Face encoder or text classifier as ONNX, with its tokenizer as preprocessing: texts in, answers out.

Pooling, normalisation, softmax or sigmoid become part of the graph, so that any ONNX runtime gives the same answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file, torch_graph
from modelport.engine.formats.huggingface_folder import Recipe, read_json, read_recipe
from modelport.errors import InvalidInput

TOKENIZER = "tokenizer.json"
_POOLS = ("mean", "cls", "max")


class Answering(torch.nn.Module):
    """Ids and mask [rows, tokens] to probabilities or embeddings [rows, width]."""

    def __init__(self, model: Any, recipe: Recipe) -> None:
        super().__init__()
        self.model, self._recipe = model, recipe

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        if self._recipe.task == "classify":
            return torch.sigmoid(found) if self._recipe.independent else torch.softmax(found, -1)
        mask = attention_mask[:, :, None].to(found.dtype)
        joined = torch.cat([_pooled(found, mask, mode) for mode in self._recipe.pooling], 1)
        return torch.nn.functional.normalize(joined, dim=1) if self._recipe.normalise else joined


def _pooled(vectors: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    if mode == "cls":
        return vectors[:, 0]
    if mode == "max":
        return (vectors - (1 - mask) * 1e9).amax(1)
    return (vectors * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """``model.onnx`` and ``tokenizer.json``."""
    folder, files = Path(request["folder"]), tuple(request["files"])
    recipe = read_recipe(folder, files)
    if recipe.task == "rank":
        raise InvalidInput("a cross-encoder reads pairs of texts, which a tokenizer step cannot; deploy it as it is")
    for what, there in (("a prompt", recipe.prompt), ("lower case by its settings", recipe.lower)):
        if there:
            raise InvalidInput(
                f"the folder asks for {what}, which ONNX with a tokenizer has no place for; deploy it as it is"
            )
    if unknown := set(recipe.pooling) - set(_POOLS):
        raise InvalidInput(f"the pooling {', '.join(unknown)} cannot be converted; deploy the folder as it is")
    if not any(name.endswith(".safetensors") for name in files):
        raise InvalidInput(
            "the folder has an ONNX file and no weights to convert; push that file with a tokenizer step"
        )
    transformers.logging.set_verbosity_error()
    head = transformers.AutoModel if recipe.task == "embed" else transformers.AutoModelForSequenceClassification
    place = str(folder / recipe.model_folder)
    try:
        model = head.from_pretrained(
            place, trust_remote_code=False, use_safetensors=True, local_files_only=True, attn_implementation="eager"
        ).eval()
    except Exception as error:
        raise InvalidInput(f"transformers {transformers.__version__} cannot load the model: {said(error)}") from None
    ids = torch.ones((2, 7), dtype=torch.int64)
    inputs = {"input_ids": ids, "attention_mask": ids.clone()}
    free = {name: {0: "rows", 1: "tokens"} for name in inputs}
    output = request["signature"]["outputs"][0]["name"]
    graph = torch_graph.to_onnx(Answering(model, recipe).eval(), inputs, [output], free, request["opset"])
    if recipe.labels:
        onnx_file.set_labels(graph, recipe.labels)
    onnx_file.write(graph, out)
    _write_tokenizer(folder, files, recipe, out)
    text = request["signature"]["inputs"][0]["name"]
    step = {"kind": "text", "name": text, "tokenizer": TOKENIZER, "max_length": recipe.max_length}
    return {
        "report": onnx_file.facts(graph), "preprocessing": [step],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip


def _write_tokenizer(folder: Path, files: tuple[str, ...], recipe: Recipe, out: Path) -> None:
    """Padding as the folder's settings say it; the step reads it from the file alone."""
    place = recipe.model_folder
    tokenizer = Tokenizer.from_file(str(folder / f"{place}{TOKENIZER}"))
    settings = f"{place}tokenizer_config.json"
    about = read_json(folder, settings) if settings in files else {}
    pad = about.get("pad_token") or "[PAD]"
    pad = pad["content"] if isinstance(pad, dict) else str(pad)
    number = tokenizer.token_to_id(pad)
    if number is None:
        pad, number = "", recipe.config.get("pad_token_id") or 0
    tokenizer.no_truncation()
    tokenizer.enable_padding(direction=about.get("padding_side", "right"), pad_id=number, pad_token=pad)
    tokenizer.save(str(out / TOKENIZER))
