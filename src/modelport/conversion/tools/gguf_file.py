"""A language model as a GGUF file: read tensor by tensor from another one, or from a Hugging Face folder; written.

Names, places of tensors and tokenizers are the library gguf's. Architectures are those that are LLaMA but for their
names; tokenizers are byte-level BPE. Others are refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from modelport.engine.formats.safetensors_file import opened
from modelport.errors import InvalidInput
from modelport.storage.disk import told_of_disk
from modelport.tensors import Array

_TYPES = {
    "f16": gguf.GGMLQuantizationType.F16, "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "q4_0": gguf.GGMLQuantizationType.Q4_0, "q4_1": gguf.GGMLQuantizationType.Q4_1,
}  # fmt: skip
_FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "q4_1": gguf.LlamaFileType.MOSTLY_Q4_1,
}  # fmt: skip
_WRITTEN = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")
"""Keys that the writer settles itself."""
_ENDS = ("token_embd.weight", "output.weight")
_TURNED = ("llama",)
"""Architectures whose queries and keys GGUF has in another order."""
_BLOCK = 32
"""Weights that share a scale."""
Pack = Callable[[str, Array, str], Array]
"""Bytes of a tensor: its name in GGUF, FP32 values [rows, columns], one of the types."""
_ARCHITECTURES = {
    "LlamaForCausalLM": (gguf.MODEL_ARCH.LLAMA, "llama"),
    "MistralForCausalLM": (gguf.MODEL_ARCH.LLAMA, "llama"),
    "Qwen2ForCausalLM": (gguf.MODEL_ARCH.QWEN2, "qwen2"),
}


@dataclass(slots=True)
class Source:
    """A model as GGUF has it, whatever it is read from."""

    architecture: str
    describe: Callable[[gguf.GGUFWriter], None]
    """Writes what is known of the model, and its tokenizer."""
    tensors: Callable[[], Iterator[tuple[str, Array]]]
    """Name and FP32 values of each, one at a time."""
    names: dict[str, str] = field(default_factory=dict)
    """A tensor's name in a transformers network by that in GGUF."""
    bytes: int = 0
    parameters: int = 0


@dataclass(slots=True)
class Written:
    """What became of the tensors."""

    parameters: int = 0
    types: dict[str, int] = field(default_factory=dict)
    """Weights by type."""
    errors: dict[str, float] = field(default_factory=dict)
    """By tensor: the root of the mean squared change, as a share of the weights' own."""


def from_gguf(path: Path) -> Source:
    """A file's model; raises InvalidInput when it cannot be read."""
    try:
        reader = gguf.GGUFReader(path)
        architecture = str(reader.fields["general.architecture"].contents())
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise InvalidInput(f"the GGUF file cannot be read ({str(error)[:200]}); copy it again") from None

    def describe(writer: gguf.GGUFWriter) -> None:
        for name, known in reader.fields.items():
            if name.startswith(_WRITTEN):
                continue
            kind = known.types[0]
            inner = known.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, known.contents(), kind, inner)

    def tensors() -> Iterator[tuple[str, Array]]:
        for tensor in reader.tensors:
            try:
                yield tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
            except NotImplementedError:
                kind = tensor.tensor_type.name
                raise InvalidInput(f"tensor {tensor.name!r} is {kind}, which cannot be read as numbers here") from None

    arch = next((found for found, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture), None)
    count = _layers(reader.fields[f"{architecture}.block_count"].contents())
    names = _network_names(arch, count, {tensor.name for tensor in reader.tensors}) if arch is not None else {}
    return Source(
        architecture, describe, tensors, names, path.stat().st_size, sum(int(t.n_elements) for t in reader.tensors)
    )


def _layers(value: Any) -> int:
    return int(value)


def _network_names(arch: gguf.MODEL_ARCH, layers: int, known: set[str]) -> dict[str, str]:
    """GGUF's names to those of transformers, for tensors of layers."""
    table = gguf.get_tensor_name_map(arch, layers)
    found = {}
    for layer in range(layers):
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                     "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"):  # fmt: skip
            theirs = f"model.layers.{layer}.{part}"
            ours = table.get_name(theirs)
            if ours is not None and f"{ours}.weight" in known:
                found[f"{ours}.weight"] = theirs
    return found


def from_folder(folder: Path) -> Source:
    """A Hugging Face folder's model; raises InvalidInput, naming it, for an architecture that GGUF has otherwise."""
    config = json.loads((folder / "config.json").read_text())
    title = str((config.get("architectures") or ["unknown"])[0])
    if title not in _ARCHITECTURES:
        raise InvalidInput(
            f"the model is a {title[:100]}; GGUF files are written of {', '.join(_ARCHITECTURES)}: convert it with "
            "llama.cpp's convert_hf_to_gguf.py and push the file"
        )
    arch, name = _ARCHITECTURES[title]
    layers = int(config["num_hidden_layers"])
    table = gguf.get_tensor_name_map(arch, layers)
    files = sorted(folder.glob("*.safetensors"))

    def describe(writer: gguf.GGUFWriter) -> None:
        _describe(writer, config)
        _add_tokenizer(writer, folder, config)

    def tensors() -> Iterator[tuple[str, Array]]:
        tied = bool(config.get("tie_word_embeddings"))
        for path in files:
            with opened(path) as file:
                for theirs in sorted(file.keys()):
                    if tied and theirs == "lm_head.weight":
                        continue
                    ours = table.get_name(theirs, (".weight", ".bias"))
                    if ours is None:
                        raise InvalidInput(f"tensor {theirs[:100]!r} has no place in a GGUF file of {name}")
                    yield ours, _turned(file.get_tensor(theirs).to(torch.float32), theirs, config, name).numpy()

    known = {ours for theirs in _names(files) if (ours := table.get_name(theirs, (".weight", ".bias")))}
    size = sum(path.stat().st_size for path in files)
    return Source(name, describe, tensors, _network_names(arch, layers, known), size)


def _names(files: list[Path]) -> Iterator[str]:
    for path in files:
        with opened(path) as file:
            yield from file.keys()


def _turned(weights: torch.Tensor, name: str, config: dict[str, Any], architecture: str) -> torch.Tensor:
    """Queries and keys with the two halves of a head's positions side by side, as LLaMA's own code has them."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    key = next((key for part, key in heads.items() if f".{part}." in name), None)
    if key is None or architecture not in _TURNED:
        return weights
    count = int(config.get(key) or config["num_attention_heads"])
    halves = weights.reshape(count, 2, weights.shape[0] // count // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _describe(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) not in ("default", None):
        raise InvalidInput(
            f"the model stretches its positions ({rope.get('rope_type')}), which is not written to GGUF here"
        )
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config.get("max_position_embeddings") or 2048))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps") or 1e-6))
    writer.add_rope_dimension_count(int(config.get("head_dim") or width // heads))
    writer.add_vocab_size(int(config["vocab_size"]))


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    found = json.loads((folder / "tokenizer.json").read_text())
    model = found["model"]
    if model.get("type") != "BPE" or "ByteLevel" not in json.dumps(found.get("pre_tokenizer")):
        raise InvalidInput(
            f"the tokenizer is {str(model.get('type'))[:40]!r}; GGUF files are written with byte-level BPE alone: "
            "convert the model with llama.cpp's convert_hf_to_gguf.py and push the file"
        )
    size = max(int(config["vocab_size"]), len(model["vocab"]))
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [gguf.TokenType.UNUSED] * size
    for token, number in model["vocab"].items():
        tokens[number], kinds[number] = token, gguf.TokenType.NORMAL
    for added in found.get("added_tokens") or []:
        kind = gguf.TokenType.CONTROL if added.get("special") else gguf.TokenType.USER_DEFINED
        if added["id"] < size:
            tokens[added["id"]], kinds[added["id"]] = added["content"], kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pieces(json.dumps(found["pre_tokenizer"])))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    special = gguf.SpecialVocab(folder, load_merges=True, n_vocab=size)
    special.merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    special.add_to_gguf(writer, quiet=True)


def _pieces(rule: str) -> str:
    """GGUF's name of the rule by which a text is cut before words are looked up."""
    if "Digits" in rule:
        return "smollm"
    if "{1,3}" in rule:
        return "llama-bpe"
    return "qwen2" if "Split" in rule else "gpt-2"


def packed(name: str, values: Array, kind: str) -> Array:
    """As the library packs it."""
    return np.asarray(gguf.quantize(values, _TYPES[kind]))


def write(
    path: Path, source: Source, kind: str, embedding: str, told: Callable[[int, str], None] = lambda number, name: None,
    pack: Pack = packed,
) -> Written:  # fmt: skip
    """The file; tensors that are no matrices stay in 32 bits."""
    writer = gguf.GGUFWriter(path, source.architecture)
    source.describe(writer)
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    found = Written()
    for number, (name, values) in enumerate(source.tensors()):
        told(number, name)
        wanted = embedding if name in _ENDS else kind
        if values.ndim < 2 or (wanted != "f16" and values.shape[-1] % _BLOCK):
            writer.add_tensor(name, values.astype(np.float32))
            wanted = "f32"
        else:
            made = pack(name, values, wanted)
            writer.add_tensor(name, made, raw_dtype=_TYPES[wanted])
            again = gguf.dequantize(made, _TYPES[wanted]).reshape(values.shape)
            found.errors[name] = float(np.sqrt(((again - values) ** 2).mean() / max(float((values**2).mean()), 1e-30)))
        found.parameters += values.size
        found.types[wanted] = found.types.get(wanted, 0) + values.size
    with told_of_disk():
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    writer.close()
    return found
