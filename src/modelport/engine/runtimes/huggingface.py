"""Runs Hugging Face encoders, text classifiers and cross-encoders: texts in, embeddings, probabilities or scores out.

Tokens by ``tokenizers``, the network by ONNX Runtime where the folder has an ONNX file, else by transformers on torch
from safetensors; pooling and normalisation as the folder declares them. Knows nothing of requests or processes.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np

from modelport.engine.formats.huggingface_folder import Recipe, read_json, read_recipe
from modelport.engine.pooling import pool, unit
from modelport.engine.runtime import CountsTokens, LoadOptions, Runtime
from modelport.engine.runtimes.messages import first_line
from modelport.engine.runtimes.texts import to_texts
from modelport.errors import ArtifactRefused, MissingExtra, ModelRejectedInput
from modelport.tensors import Array

try:
    from tokenizers import Tokenizer
except ImportError as error:
    raise MissingExtra("text", f"running a Hugging Face model ({first_line(error)})") from None

_REJECTIONS = (RuntimeError, ValueError, IndexError, TypeError)


class Network(ABC):
    """The model between tokens and what is made of them."""

    @abstractmethod
    def __call__(self, ids: Array, mask: Array, types: Array) -> Array:
        """Token ids, mask and types, INT64 [n, length], to token vectors [n, length, d] or logits [n, classes]."""


class HuggingFaceRuntime(Runtime, CountsTokens):
    """One tokenizer and one network."""

    name = "huggingface"
    platform = "huggingface_encoder"
    environment = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}  # noqa: RUF012

    def __init__(
        self, recipe: Recipe, tokenizer: Tokenizer, network: Network, inputs: tuple[str, ...], output: str
    ) -> None:
        self._recipe = recipe
        self._tokenizer = tokenizer
        self._network = network
        self._inputs, self._output = inputs, output
        self._counted: Array | None = None

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Load tokenizer and network; raises ArtifactRefused if they cannot be, MissingExtra without their library."""
        recipe = read_recipe(options.folder, options.files)
        network = (_OnnxNetwork if recipe.onnx else _TorchNetwork)(options, recipe)
        inputs, output = options.signature.inputs, options.signature.outputs[0].name
        tokenizer = _tokenizer(options.folder, options.files, recipe)
        return cls(recipe, tokenizer, network, tuple(spec.name for spec in inputs), output)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when a text is not UTF-8."""
        columns = [self._texts(name, inputs[name]) for name in self._inputs]
        if not columns[0]:
            self._counted = np.zeros(0, np.int32)
            return {self._output: np.empty((0, self._recipe.width), np.float32)}
        found = self._tokenizer.encode_batch(columns[0] if len(columns) == 1 else list(zip(*columns, strict=True)))
        ids, mask, types = (
            np.array([getattr(row, part) for row in found], np.int64) for part in ("ids", "attention_mask", "type_ids")
        )
        self._counted = mask.sum(1, dtype=np.int32)
        try:
            raw = self._network(ids, mask, types).astype(np.float32, copy=False)
        except _REJECTIONS as error:
            raise ModelRejectedInput(f"the model cannot run this input: {first_line(error)}") from None
        if self._recipe.task == "embed":
            return {self._output: pooled(raw, mask, self._recipe)}
        return {self._output: scores(raw, self._recipe)}

    def _texts(self, name: str, given: Array) -> list[str]:
        texts = [self._recipe.prompt + str(text) for text in to_texts(name, given).tolist()]
        if self._recipe.lower:
            texts = [text.lower() for text in texts]
        return [text.strip() for text in texts]

    @property
    def counted(self) -> Array | None:
        return self._counted


def pooled(vectors: Array, mask: Array, recipe: Recipe) -> Array:
    """Token vectors [n, length, d] to one vector a text [n, d × modes], as sentence-transformers defines the modes."""
    joined = np.concatenate([pool(vectors, mask, mode) for mode in recipe.pooling], axis=1)
    return (unit(joined) if recipe.normalise else joined).astype(np.float32, copy=False)


def scores(logits: Array, recipe: Recipe) -> Array:
    """Logits [n, classes] to probabilities: each class for itself, or all together; a score may stay as it is."""
    if recipe.independent:
        return (1 / (1 + np.exp(-logits))).astype(np.float32)
    if recipe.task == "rank":
        return logits
    raised = np.exp(logits - logits.max(1, keepdims=True))
    found: Array = (raised / raised.sum(1, keepdims=True)).astype(np.float32)
    return found


def _tokenizer(folder: Path, files: tuple[str, ...], recipe: Recipe) -> Tokenizer:
    """The folder's tokenizer, padding to the longest text and cutting at the model's limit."""
    place = recipe.model_folder
    try:
        tokenizer = Tokenizer.from_file(str(folder / f"{place}tokenizer.json"))
    except Exception as error:  # the library raises plain Exception
        raise ArtifactRefused(
            f"tokenizer.json cannot be read: {first_line(error)}; save it again with this release of tokenizers"
        ) from None
    about = read_json(folder, f"{place}tokenizer_config.json") if f"{place}tokenizer_config.json" in files else {}
    pad = about.get("pad_token") or "[PAD]"
    pad = pad["content"] if isinstance(pad, dict) else str(pad)
    number = tokenizer.token_to_id(pad)
    if number is None:
        pad, number = "", recipe.config.get("pad_token_id") or 0
    tokenizer.enable_truncation(recipe.max_length)
    tokenizer.enable_padding(direction=about.get("padding_side", "right"), pad_id=number, pad_token=pad)
    return tokenizer


class _OnnxNetwork(Network):
    """The folder's ONNX file."""

    def __init__(self, options: LoadOptions, recipe: Recipe) -> None:
        import onnxruntime as ort  # noqa: PLC0415  (one of two)

        from modelport.engine.runtimes.onnx import LOAD_ERRORS, clean_message, session_options  # noqa: PLC0415

        assert recipe.onnx is not None
        try:
            self._session = ort.InferenceSession(
                options.folder / recipe.onnx, session_options(options.threads), providers=["CPUExecutionProvider"]
            )
        except LOAD_ERRORS as error:
            raise ArtifactRefused(f"ONNX Runtime cannot load the model: {clean_message(error)}") from None
        self._takes = {found.name for found in self._session.get_inputs()}
        known = [found.name for found in self._session.get_outputs()]
        wanted = ("last_hidden_state", "token_embeddings") if recipe.task == "embed" else ("logits",)
        self._gives = next((name for name in wanted if name in known), known[0])

    def __call__(self, ids: Array, mask: Array, types: Array) -> Array:
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        found: Array = self._session.run([self._gives], {name: feed[name] for name in feed if name in self._takes})[0]
        return found


class _TorchNetwork(Network):
    """transformers' own class of the architecture, filled from safetensors."""

    def __init__(self, options: LoadOptions, recipe: Recipe) -> None:
        from modelport.engine.runtimes.torch import set_threads  # noqa: PLC0415  (one of two)

        try:
            import torch  # noqa: PLC0415
            import transformers  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtra("transformers", f"running a Hugging Face model ({first_line(error)})") from None
        set_threads(options.threads)
        transformers.logging.set_verbosity_error()
        head = transformers.AutoModel if recipe.task == "embed" else transformers.AutoModelForSequenceClassification
        try:
            self._model: Any = head.from_pretrained(
                str(options.folder / recipe.model_folder),
                trust_remote_code=False, use_safetensors=True, local_files_only=True,
            ).eval()  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise ArtifactRefused(
                f"transformers cannot load the model: {first_line(error)}; save it again with save_pretrained"
            ) from None
        self._torch = torch
        takes = inspect.signature(self._model.forward).parameters
        kinds = getattr(self._model.config, "type_vocab_size", 0)
        self._tells_types = "token_type_ids" in takes and (kinds or 0) > 1

    def __call__(self, ids: Array, mask: Array, types: Array) -> Array:
        torch = self._torch
        with torch.inference_mode():
            given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            if self._tells_types:
                given["token_type_ids"] = torch.from_numpy(types)
            found = self._model(**given)[0]
        array: Array = found.float().numpy()
        return array
