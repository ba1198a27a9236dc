"""A network of texts as an ONNX file with its tokenizer beside it, proven on raw texts as a replica reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from modelport.engine.preprocessing.text import TextInput
from modelport.schemas.preprocessing import TextStep
from modelport.tensors import Array, Signature, TensorSpec
from modelport.training import onnx_export
from modelport.training.language.base import KEPT
from modelport.training.recipe import Trained

MODEL, TOKENIZER = "model.onnx", "tokenizer.json"
INPUTS = ("input_ids", "attention_mask")
PROVEN = 256
"""Texts that the export is compared on, at most."""
_AT_ONCE = 32
_TOLERANCE = 1e-3


def step(column: str, max_length: int) -> dict[str, Any]:
    """The version's preprocessing: texts of a column to ids."""
    found = TextStep(kind="text", name=column, tokenizer=TOKENIZER, max_length=max_length)
    return found.model_dump()


def save_tokenizer(tokenizer: Any, path: Path, pad: int, pad_token: str) -> None:
    """Keep a tokenizer that pads as training did; how many tokens are kept is said where it is used."""
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=pad, pad_token=pad_token)
    tokenizer.save(str(path))
    tokenizer.no_padding()


def write(network: torch.nn.Module, folder: Path, output: str, labels: Sequence[str] | None) -> None:
    """Write ``network(input_ids, attention_mask)`` with any number of rows and tokens; raises InvalidInput."""
    ids = torch.ones((2, 7), dtype=torch.int64)
    dynamic = {name: {0: "rows", 1: "tokens"} for name in INPUTS}
    inputs = {name: ids.clone() for name in INPUTS}  # one tensor twice would become one input
    onnx_export.export(network, inputs, [output], folder / MODEL, dynamic, labels)


def prove(
    network: torch.nn.Module, folder: Path, declared: Mapping[str, Any], texts: Sequence[str],
    same: Callable[[Array, Array, int], bool],
) -> dict[str, Any]:  # fmt: skip
    """Compare the file's answers for raw texts with the network's; raises InvalidInput when they differ.

    ``same`` says whether ids and mask of the rows from a number on are those that the network was judged by.
    """
    read = reader(folder, declared)
    batches, alike = [], True
    for row in range(0, min(len(texts), PROVEN), _AT_ONCE):
        ids, mask = read(texts[row : row + _AT_ONCE])
        alike = alike and same(ids, mask, row)
        feed = dict(zip(INPUTS, (torch.from_numpy(ids), torch.from_numpy(mask)), strict=True))
        with torch.inference_mode():
            batches.append((feed, (network(*feed.values()),)))
    return onnx_export.check_parity(folder / MODEL, batches, _TOLERANCE) | {"same_tokens": alike}


def serve_folder(folder: Path, trained: Trained, cause: str) -> None:
    """Let transformers serve what training goes on from, where there is no ONNX file."""
    for path in folder.glob(f"{MODEL}*"):
        path.unlink()
    for path in (folder / KEPT).iterdir():
        path.rename(folder / path.name)
    (folder / KEPT).rmdir()
    trained.preprocessing = []
    trained.warnings.append(f"the model is served by transformers, slower than as ONNX: {cause}")
    trained.report["parity"] = None


def reader(folder: Path, declared: Mapping[str, Any]) -> Callable[[Sequence[str]], tuple[Array, Array]]:
    """What makes ids and mask of texts in a replica: the declared step, with the files that are served."""
    specs = tuple(TensorSpec(name, "INT64", (-1, -1)) for name in INPUTS)
    text = TextInput(declared, Signature(specs, ()))
    text.open(folder)

    def read(texts: Sequence[str]) -> tuple[Array, Array]:
        found = text.apply([one.encode() for one in texts])
        return found[INPUTS[0]], found[INPUTS[1]]

    return read
