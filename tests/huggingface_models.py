"""Small Hugging Face folders: what save_pretrained writes, with random weights, made without any of its libraries."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "mat", "a"]
WIDTH = 6


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """The file format: a length, a JSON header, the bytes."""
    header, body = {}, b""
    for name, array in tensors.items():
        raw = array.astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def write(folder: Path, **files: Any) -> Path:
    """Write files; ``a__b_json`` becomes ``a/b.json``, and everything but bytes becomes JSON."""
    for name, content in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = folder / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def causal(folder: Path) -> Path:
    """A language model: configuration and a weight."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 10, "hidden_size": WIDTH}
    return write(folder, config_json=config, model_safetensors=safetensors({"w": np.ones((2, 3))}))


def tokenizer() -> dict[str, Any]:
    """A tokenizer.json that splits at blanks and puts [CLS] and [SEP] around."""
    special = [{"id": i, "content": WORDS[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True} for i in range(4)]  # fmt: skip
    pieces = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]  # fmt: skip
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing", "single": pieces, "pair": [*pieces, *second],
            "special_tokens": {name: {"id": name, "ids": [WORDS.index(name)], "tokens": [name]} for name in WORDS[2:4]},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }  # fmt: skip


def table() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(len(WORDS), WIDTH)).astype(np.float32)


def onnx_encoder(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """A sentence model whose network is an ONNX file (a table of vectors); returns what it ought to answer."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "encoder",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "l", WIDTH])],
        [numpy_helper.from_array(table(), "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    kinds = ("Transformer", "Pooling", "Normalize")
    paths = ("", "1_Pooling", "2_Normalize")
    modules = [{"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.models.{kind}"}
               for i, kind in enumerate(kinds)]  # fmt: skip
    write(
        folder, config_json={"architectures": ["BertModel"], "model_type": "bert", "hidden_size": WIDTH},
        tokenizer_json=tokenizer(), modules_json=modules, onnx__model_onnx=model.SerializeToString(),
    )  # fmt: skip
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))

    def expected(texts: list[str]) -> np.ndarray:
        ids = [[2, *(WORDS.index(word) for word in text.split()), 3] for text in texts]
        means = np.stack([table()[row].mean(0) for row in ids])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    return expected


def onnx_ranker(folder: Path, **config: Any) -> Callable[[str, list[str]], np.ndarray]:
    """A cross-encoder whose network is an ONNX file (a weight for each word in each of the two texts, summed);
    returns what its logits ought to be."""
    weights = np.random.default_rng(5).normal(size=(2 * len(WORDS), 1)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["token_type_ids", "words"], ["behind"]),
        helper.make_node("Add", ["input_ids", "behind"], ["place"]),
        helper.make_node("Gather", ["weights", "place"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["each", "column"], ["counted"]),
        helper.make_node("ReduceSum", ["counted", "first"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "ranker",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "l"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(len(WORDS)), "words"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "first"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    told = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "id2label": {"0": "LABEL_0"}}
    write(
        folder, config_json=told | config, tokenizer_json=tokenizer(),
        model_safetensors=safetensors({"w": weights}), model_onnx=model.SerializeToString(),
    )  # fmt: skip

    def expected(query: str, texts: list[str]) -> np.ndarray:
        first = weights[[2, *(WORDS.index(word) for word in query.split()), 3]].sum()
        behind = [[WORDS.index(word) + len(WORDS) for word in text.split()] + [3 + len(WORDS)] for text in texts]
        return np.array([first + weights[row].sum() for row in behind], np.float32)

    return expected
