"""A Hugging Face folder as its JSON files describe it: what the model is for, and how its token vectors become one.

Everything that would be code or a pickle is refused: ``auto_map``, Python files, ``pytorch_model.bin``, kernels and
quantisers that a configuration names. Needs only the standard library, so that replicas read with it too.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelport.engine.formats.refused import is_pickle
from modelport.errors import ArtifactRefused

_LARGEST_JSON = 64 << 20
_PEEK = 64 << 10
#: Where an ONNX file of the encoder may lie, the likelier first.
_ONNX = ("onnx/model.onnx", "model.onnx")
#: What peft writes of an adapter.
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: Pooling modes by their flag in 1_Pooling/config.json, in the order in which the library joins them.
POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a text becomes an answer."""

    task: str
    """``embed``, ``classify``, ``rank`` (a pair of texts to one score), ``generate``; ``translate`` and ``other`` are
    stored, not served."""
    model_folder: str = ""
    """Where config.json and the weights are, relative to the folder; empty or ending with a slash."""
    onnx: str | None = None
    """The ONNX file that does the work, when the folder has one."""
    pooling: tuple[str, ...] = ("mean",)
    normalise: bool = False
    max_length: int = 512
    """Tokens; the rest of a text is cut off."""
    lower: bool = False
    prompt: str = ""
    """What is put before every text."""
    width: int = 0
    """Length of an answer: of the embedding, or the number of classes."""
    labels: tuple[str, ...] = ()
    independent: bool = False
    """Whether classes exclude each other not (sigmoid), or do (softmax); of a score, whether it is a probability
    (sigmoid), or stays as it is."""
    config: dict[str, Any] = field(default_factory=dict)


def read_json(folder: Path, name: str) -> Any:
    """The content of a JSON file; raises ArtifactRefused when it is none."""
    try:
        if (folder / name).stat().st_size > _LARGEST_JSON:
            raise ValueError
        return json.loads((folder / name).read_bytes())
    except (ValueError, RecursionError):
        raise ArtifactRefused(f"{name!r} is not JSON, or is too large: save the model again") from None


def vocabulary_of(folder: Path, name: str) -> dict[str, str]:
    """The fact that tells one tokenizer's words from another's; nothing where the file is of another form."""
    found = read_json(folder, name)
    try:
        words = found["model"]["vocab"]
        numbered = words.items() if isinstance(words, dict) else ((word[0], at) for at, word in enumerate(words))
        added = ((token["content"], token["id"]) for token in found.get("added_tokens") or ())
        ordered = sorted({(int(at), str(word)) for word, at in (*numbered, *added)})
    except (KeyError, TypeError, IndexError, AttributeError, ValueError):
        return {}
    return {"vocabulary": hashlib.sha256(json.dumps(ordered).encode()).hexdigest()[:16]}


def model_folder(folder: Path, files: tuple[str, ...]) -> str | None:
    """Where the model's own config.json is; None when this is no Hugging Face folder."""
    for place in ("", "0_Transformer/"):
        if f"{place}config.json" not in files:
            continue
        weights = [name for name in files if name.startswith(place) and name.endswith((".safetensors", ".bin"))]
        if not weights and "modules.json" not in files:
            return None
        try:
            config = read_json(folder, f"{place}config.json")
        except ArtifactRefused:
            return None
        return place if isinstance(config, dict) and {"model_type", "architectures"} & set(config) else None
    return None


def read_config(folder: Path, files: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """Of a folder whose weights are another library's: config.json and the most tokens of a text.

    Raises ArtifactRefused for code.
    """
    _refuse_code(folder, tuple(name for name in files if name != "openvino_config.json"))
    config = read_json(folder, "config.json")
    if not isinstance(config, dict):
        raise ArtifactRefused("'config.json' is no object: export the model again")
    return config, _max_length(folder, files, "", config)


def read_recipe(folder: Path, files: tuple[str, ...]) -> Recipe:
    """What the folder says of itself; raises ArtifactRefused for code, pickles and what is not understood."""
    place = model_folder(folder, files)
    if place is None:
        raise ArtifactRefused("there is no Hugging Face model among the version's files")
    config = read_json(folder, f"{place}config.json")
    _refuse_code(folder, files)
    _refuse_pickles(folder, files)
    architecture = str((config.get("architectures") or [""])[0])
    onnx = next((f"{place}{name}" for name in _ONNX if f"{place}{name}" in files), None)
    common: dict[str, Any] = {"model_folder": place, "onnx": onnx, "config": config}
    common |= {"max_length": _max_length(folder, files, place, config)}
    if "modules.json" in files:
        return _sentence_recipe(folder, files, common)
    if architecture.endswith("ForConditionalGeneration") or config.get("is_encoder_decoder"):
        return Recipe("translate", **common)
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return Recipe("generate", **common)
    if architecture.endswith("ForSequenceClassification"):
        names = config.get("id2label") or {}
        labels = tuple(str(names[key])[:300] for key in sorted(names, key=int))
        if len(labels) == 1 and config.get("problem_type") != "regression":
            return Recipe("rank", width=1, independent=not _stays_as_it_is(config), **common)
        independent = config.get("problem_type") == "multi_label_classification"
        return Recipe("classify", width=len(labels), labels=labels, independent=independent, **common)
    if architecture.endswith("Model") and not config.get("is_encoder_decoder") and "vocab_size" in config:
        return Recipe("embed", width=int(config.get("hidden_size") or config.get("dim") or 0), **common)
    return Recipe("other", **common)


def _stays_as_it_is(config: dict[str, Any]) -> bool:
    """Whether a cross-encoder's score is its logit, by what sentence-transformers (of either form) has written."""
    about = config.get("sentence_transformers")
    named = (
        about.get("activation_fn") if isinstance(about, dict) else config.get("sbert_ce_default_activation_function")
    )
    return str(named).endswith(".Identity")


def read_adapter(folder: Path, files: tuple[str, ...]) -> dict[str, Any]:
    """The configuration of an adapter that peft wrote; raises ArtifactRefused for code, pickles and what is none."""
    _refuse_code(folder, files)
    _refuse_pickles(folder, files)
    about = read_json(folder, ADAPTER)
    if not isinstance(about, dict) or not isinstance(about.get("peft_type"), str):
        raise ArtifactRefused(f"{ADAPTER} does not say peft_type: save the adapter again with save_pretrained")
    return about


def _sentence_recipe(folder: Path, files: tuple[str, ...], common: dict[str, Any]) -> Recipe:
    """The chain of modules.json, as sentence-transformers writes it."""
    modules = read_json(folder, "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ArtifactRefused("modules.json is not a list of modules: save the model again")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in modules]
    pooling: tuple[str, ...] = ()
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ArtifactRefused(
            f"the chain {' → '.join(kinds)[:200]} of modules.json is not served: only Transformer, Pooling and "
            "Normalize are; export the whole chain to ONNX"
        )
    about = read_json(folder, f"{modules[1].get('path')!s}/config.json")
    named = about.get("pooling_mode")
    if named:
        pooling = (named,) if isinstance(named, str) else tuple(named)
    else:
        pooling = tuple(mode for flag, mode in POOLING.items() if about.get(flag))
    unknown = set(pooling) - set(POOLING.values())
    if not pooling or unknown:
        raise ArtifactRefused(
            f"the pooling {sorted(unknown) or 'of 1_Pooling'} is not served: export the chain to ONNX"
        )
    width = about.get("word_embedding_dimension") or about.get("embedding_dimension")
    settings = read_json(folder, "config_sentence_transformers.json") if _SETTINGS in files else {}
    prompt = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"), "")
    if prompt and about.get("include_prompt") is False:
        raise ArtifactRefused("a prompt that is left out of the pooling is not served: export the chain to ONNX")
    lower = "sentence_bert_config.json" in files and bool(
        read_json(folder, "sentence_bert_config.json").get("do_lower_case")
    )
    return Recipe(
        "embed", pooling=pooling, normalise=kinds[-1] == "Normalize", prompt=prompt, lower=lower,
        width=int(width) * len(pooling), **common,
    )  # fmt: skip


_SETTINGS = "config_sentence_transformers.json"
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length")
"""What architectures call the most tokens of a text."""


def _max_length(folder: Path, files: tuple[str, ...], place: str, config: dict[str, Any]) -> int:
    """Most tokens of a text: what the sentence model says, else what tokenizer and positions allow."""
    for name in ("sentence_bert_config.json", f"{place}sentence_bert_config.json"):
        declared = read_json(folder, name).get("max_seq_length") if name in files else None
        if isinstance(declared, int) and declared > 0:
            return declared
    limits = [config.get(name) for name in _POSITIONS]
    if f"{place}tokenizer_config.json" in files:
        limits.append(read_json(folder, f"{place}tokenizer_config.json").get("model_max_length"))
    return min((int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < 1 << 24), default=512)


def _refuse_code(folder: Path, files: tuple[str, ...]) -> None:
    code = next((name for name in files if name.endswith((".py", ".so", ".pyd", ".ipynb"))), None)
    if code is not None:
        raise ArtifactRefused(
            f"{code[:120]!r} is code, and none of a Hugging Face folder is run: push a model of an architecture that "
            "transformers itself has, without the file"
        )
    for name in files:
        if not name.endswith("config.json"):
            continue
        found = read_json(folder, name)
        for key, value in _entries(found):
            if key == "auto_map" and value:
                raise ArtifactRefused(
                    f"{name[:120]!r} names custom code (auto_map), which is never run: push a model of an architecture "
                    "that transformers itself has, or export it to ONNX"
                )
            if key == "quantization_config" or ("attn_implementation" in key and "/" in str(value)):
                raise ArtifactRefused(
                    f"{name[:120]!r} asks for a library or kernel of its own ({key}): save the model in plain precision"
                )


def _entries(found: Any) -> list[tuple[str, Any]]:
    """Every key and value, at any depth."""
    waiting, entries = [found], []
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            entries += list(node.items())
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return entries


def _refuse_pickles(folder: Path, files: tuple[str, ...]) -> None:
    for name in files:
        if name.endswith((".json", ".txt", ".md", ".safetensors")):
            continue
        with (folder / name).open("rb") as file:
            head = file.read(_PEEK)
        if _is_torch_zip(folder / name, head) or is_pickle(head):
            beside = any(other.endswith(".safetensors") for other in files)
            raise ArtifactRefused(
                f"{name[:120]!r} is a pickle, and no pickle is accepted: "
                + ("leave it out, the safetensors hold the weights" if beside else "save the model as safetensors")
            )


def _is_torch_zip(path: Path, head: bytes) -> bool:
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return True
