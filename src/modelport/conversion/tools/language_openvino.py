"""A Hugging Face language model as OpenVINO's intermediate representation, by Optimum Intel; and what both answer.

Runs in an environment of its own: Optimum Intel wants an older transformers than the one that serves. Compared are the
probabilities of the next token, the tokens that follow it, and their text: so the network, the tokenizer and the
detokenizer are. Weights keep the type that the folder has them in, unless another one is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

# Optimum Intel brings a torchvision that is built for CUDA's torch and fails beside this one; no picture is read here.
sys.modules["torchvision"] = None  # type: ignore[assignment]

import nncf
import numpy as np
import openvino
import openvino_tokenizers
import torch
import transformers
from optimum.exporters.openvino import main_export
from optimum.exporters.tasks import TasksManager
from optimum.intel.openvino import OVConfig

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.parity import TOLD
from modelport.conversion.process import said
from modelport.conversion.tools.next_token import NEXT, TEXT, TOKENS, texts
from modelport.engine.formats.huggingface_folder import read_recipe
from modelport.errors import InvalidInput
from modelport.storage.disk import full, is_full
from modelport.tensors import Array

MODEL, TOKENIZER, DETOKENIZER = "openvino_model.xml", "openvino_tokenizer.xml", "openvino_detokenizer.xml"
_TASK = "text-generation-with-past"
_WRITTEN = 16
"""Tokens that each side goes on with."""
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_PACKED: dict[str, dict[str, Any]] = {
    "int8": {"mode": nncf.CompressWeightsMode.INT8_ASYM},
    "int4": {
        "mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": 64,
        "advanced_parameters": nncf.AdvancedCompressionParameters(
            group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST
        ),
    },
}  # fmt: skip
"""Embeddings and the last layer have 8 bits where others have 4, which is NNCF's own choice."""
_NOT_WRITTEN = "iostream error"
"""All that OpenVINO says of a file that it could not write to its end."""
_NO_WEIGHTS = ("i64", "i32", "boolean", "string")
"""Types of the constants that are shapes and places."""
Step = Callable[[list[int]], Array]
"""Scores [words] of what follows the tokens given so far and these."""


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """The network, its tokenizer and detokenizer, and the folder's settings."""
    folder, files = Path(request["folder"]), tuple(request["files"])
    place = read_recipe(folder, files).model_folder
    transformers.logging.set_verbosity_error()
    _check_known(folder / place)
    precision = request["precision"]
    try:
        _export(folder / place, out, precision)
        _write_tokenizer(folder / place, out)
        weights = _weights(out)
        if precision in _PACKED:
            _pack(out, out.parent / "tmp", precision)
        packed = _weights(out)
    except InvalidInput:
        raise
    except Exception as error:
        if is_full(error) or _NOT_WRITTEN in str(error):
            raise full() from None
        raise InvalidInput(f"Optimum Intel {_release()} cannot export the model: {said(error)}") from None
    return {
        "report": {"precision": precision or "as it was stored", "parameters": sum(weights.values()),
                   "weights_by_type": packed},
        "versions": {"openvino": openvino.__version__.partition("-")[0], "optimum-intel": _release(),
                     "nncf": nncf.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
    }  # fmt: skip


def _release() -> str:
    return metadata.version("optimum-intel")


def _check_known(place: Path) -> None:
    """Raise InvalidInput, naming it, for an architecture that cannot become a network with a cache."""
    serve = "deploy the folder as it is, which transformers serves"
    try:
        config = transformers.AutoConfig.from_pretrained(str(place), **_LOCAL)
        network = transformers.AutoModelForCausalLM._model_mapping[type(config)]
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"transformers {transformers.__version__}, the newest that Optimum Intel {_release()} works with, does not "
            f"know the model ({said(error)}): {serve}"
        ) from None
    kind = str(config.model_type)
    if config.is_encoder_decoder:
        raise InvalidInput(f"{kind!r} has an encoder and a decoder; models that go on with a text are converted")
    if getattr(network, "_is_stateful", False):
        raise InvalidInput(
            f"{kind!r} keeps a state instead of keys and values, for which OpenVINO GenAI's cache has no place"
        )
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, exporter="openvino", library_name="transformers")
    except KeyError:
        tasks = {}
    if _TASK not in tasks:
        raise InvalidInput(f"Optimum Intel {_release()} does not know how to export {kind!r}: {serve}")


def _export(place: Path, out: Path, precision: str | None) -> None:
    """A configuration is given in any case: without one Optimum packs large models in 8 bits and says nothing."""
    plain = None if precision in _PACKED else precision
    how = {"task": _TASK, "stateful": True, "library_name": "transformers", "ov_config": OVConfig(dtype=plain)}
    main_export(str(place), out, **how, **_LOCAL)


def _write_tokenizer(place: Path, out: Path) -> None:
    """Optimum would say nothing of a tokenizer that cannot be converted."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(place), **_LOCAL)
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    try:
        pair = openvino_tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
    except Exception as error:
        raise InvalidInput(f"the tokenizer cannot become OpenVINO's: {said(error)}") from None
    for model, name in zip(pair, (TOKENIZER, DETOKENIZER), strict=True):
        openvino.save_model(model, out / name)


def _pack(out: Path, work: Path, precision: str) -> None:
    model = nncf.compress_weights(openvino.Core().read_model(out / MODEL), **_PACKED[precision])
    openvino.save_model(model, work / MODEL, compress_to_fp16=False)
    del model
    for name in (MODEL, MODEL.replace(".xml", ".bin")):
        (work / name).replace(out / name)


def _weights(out: Path) -> dict[str, int]:
    """How many there are of each type."""
    found: dict[str, int] = {}
    for node in openvino.Core().read_model(out / MODEL).get_ops():
        kind = node.get_element_type().get_type_name() if node.get_type_name() == "Constant" else "i64"
        if kind not in _NO_WEIGHTS:
            found[kind] = found.get(kind, 0) + int(np.prod(node.shape))
    return found


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Of texts: probabilities [texts, words] of the next token, the tokens that follow when the likeliest is taken each
    time, and their text. What is told and not judged bears a mark: scores, and words where weights were packed."""
    transformers.logging.set_verbosity_error()
    folder, files = Path(request["folder"]), tuple(request["files"])
    side = _Exported(folder) if MODEL in files else _Original(folder / read_recipe(folder, files).model_folder)
    scores, written, read = [], [], []
    for text in texts(request):
        first, tokens = _go_on(side.start(), side.encode(text)[:TOKENS] or [0])
        scores.append(first)
        written.append(tokens)
        read.append(side.decode(tokens).replace("\ufffd", "").encode())
    logits = np.stack(scores)
    raised = np.exp(logits - logits.max(1, keepdims=True))
    words = TOLD if request["precision"] in _PACKED else ""
    found = {
        NEXT: raised / raised.sum(1, keepdims=True), f"{TOLD}logits": logits, f"{words}tokens": np.array(written),
        f"{words}{TEXT}": np.array(read, object),
    }  # fmt: skip
    arrays.save(found, out / ANSWERS)
    return {}


def _go_on(step: Step, ids: list[int]) -> tuple[Array, list[int]]:
    scores = first = step(ids)
    tokens = []
    for _ in range(_WRITTEN):
        tokens.append(int(scores.argmax()))
        scores = step(tokens[-1:])
    return first, tokens


class _Original:
    """The folder, by transformers, in FP32."""

    def __init__(self, place: Path) -> None:
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(place), **_LOCAL)
            network = transformers.AutoModelForCausalLM.from_pretrained(str(place), dtype=torch.float32, **_LOCAL)
        except Exception as error:
            release = transformers.__version__
            raise InvalidInput(f"transformers {release} cannot load the model: {said(error)}") from None
        self._network = network.eval()

    def encode(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer(text)["input_ids"]
        return found

    def decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def start(self) -> Step:
        before: Any = None

        def step(ids: list[int]) -> Array:
            nonlocal before
            with torch.inference_mode():
                found = self._network(input_ids=torch.tensor([ids]), past_key_values=before, use_cache=True)
            before = found.past_key_values
            scores: Array = found.logits[0, -1].float().numpy()
            return scores

        return step


class _Exported:
    """What became of it, by OpenVINO, in FP32."""

    def __init__(self, folder: Path) -> None:
        core = openvino.Core()  # knows tokenizers since their package is imported
        exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        self._network = core.compile_model(folder / MODEL, "CPU", exact)
        self._tokenizer = core.compile_model(folder / TOKENIZER, "CPU")
        self._detokenizer = core.compile_model(folder / DETOKENIZER, "CPU")

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer([text])["input_ids"].reshape(-1)]

    def decode(self, tokens: list[int]) -> str:
        found = self._detokenizer(np.array([tokens], np.int64))[0].reshape(-1)[0]
        return found.decode(errors="replace") if isinstance(found, bytes) else str(found)

    def start(self) -> Step:
        request = self._network.create_infer_request()
        names = {name for given in self._network.inputs for name in given.get_names()}
        before = 0

        def step(ids: list[int]) -> Array:
            nonlocal before
            given = {
                "input_ids": np.array([ids], np.int64),
                "attention_mask": np.ones((1, before + len(ids)), np.int64),
                "position_ids": np.arange(before, before + len(ids), dtype=np.int64)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
            before += len(ids)
            found = request.infer({name: array for name, array in given.items() if name in names})["logits"]
            scores: Array = np.array(found[0, -1], np.float32)
            return scores

        return step
