"""OpenVINO's folder of a language model, as Optimum Intel exports it: the model, its tokenizer and their settings.

Recognised by names, as OpenVINO GenAI does; the network and the tokenizer are read when the replica loads them. Code
and pickles in the folder are refused like those of any Hugging Face folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelport.engine.formats.huggingface_folder import read_config, read_json
from modelport.engine.formats.openvino_file import is_openvino, weight_types
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.engine.texts import SIGNATURE
from modelport.errors import ArtifactRefused

_PARTS = tuple(f"openvino_{part}.{kind}" for part in ("model", "tokenizer", "detokenizer") for kind in ("xml", "bin"))


class OpenVinoLanguageFormat(Format):
    """``openvino_model.xml`` beside a ``config.json``."""

    name = "openvino_language"
    precedence = 20

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether a network of OpenVINO's has the name that Optimum Intel gives, and a tokenizer or settings beside."""
        beside = {"config.json", "openvino_tokenizer.xml"} & set(files)
        return bool(beside) and _PARTS[0] in files and is_openvino(folder / _PARTS[0])

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read the settings; raises ArtifactRefused with the cause and the next step."""
        if missing := [name for name in (*_PARTS, "config.json") if name not in files]:
            raise ArtifactRefused(
                f"the folder has no {missing[0]}: `modelport convert MODEL --to openvino` makes it of a Hugging Face "
                "folder, with model, tokenizer and detokenizer"
            )
        config, longest = read_config(folder, files)
        details: dict[str, Any] = {
            "architecture": str((config.get("architectures") or ["unknown"])[0])[:200],
            "model_type": str(config.get("model_type", ""))[:100],
            "task": "generate",
            "max_tokens": longest,
        }
        if tensors := weight_types(folder / _PARTS[0]):
            details["tensors"] = tensors
        if "openvino_config.json" in files:
            quantised = read_json(folder, "openvino_config.json").get("quantization_config")
            details["quantised"] = bool(quantised)
        return Inspected(self.name, "openvino-genai", SIGNATURE, {}, details)
