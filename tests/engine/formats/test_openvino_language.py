"""OpenVINO's folders of language models: recognised, read, refused. Needs no OpenVINO: it reads them when it loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelport.engine.inspect import inspect
from modelport.engine.runtime import Inspected, Trust
from modelport.engine.texts import SIGNATURE
from modelport.errors import ArtifactRefused

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 256}


def exported(folder: Path, **config: Any) -> Path:
    """The names and beginnings of what Optimum Intel writes."""
    for part in ("model", "tokenizer", "detokenizer"):
        (folder / f"openvino_{part}.xml").write_text('<?xml version="1.0"?>\n<net name="Model0" version="11">\n')
        (folder / f"openvino_{part}.bin").write_bytes(bytes(100))
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "openvino_config.json").write_text(json.dumps({"quantization_config": {"bits": 8}}))
    return folder


def look(folder: Path) -> Inspected:
    return inspect(folder, Trust())


def test_an_exported_folder(tmp_path: Path) -> None:
    found = look(exported(tmp_path))
    assert (found.format, found.runtime, found.signature) == ("openvino_language", "openvino-genai", SIGNATURE)
    assert found.details == {
        "architecture": "LlamaForCausalLM", "model_type": "llama", "task": "generate", "max_tokens": 256,
        "quantised": True,
    }  # fmt: skip


def test_the_types_of_weights_are_told(tmp_path: Path) -> None:
    """Of a network's constants those with numbers, the type of the most weights first."""
    exported(tmp_path)
    constants = "".join(
        f'<layer type="Const"><data element_type="{kind}" shape="{shape}" offset="0" size="{size}" /></layer>\n'
        for kind, shape, size in (("i64", "2", 16), ("f32", "3", 12), ("u4", "64, 2", 64), ("f32", "2", 8))
    )
    (tmp_path / "openvino_model.xml").write_text(f'<net name="M" version="11">\n{constants}</net>')
    assert list(look(tmp_path).details["tensors"].items()) == [("U4", 128), ("F32", 5)]


@pytest.mark.parametrize("missing", ["openvino_detokenizer.xml", "openvino_model.bin", "config.json"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    (exported(tmp_path) / missing).unlink()
    with pytest.raises(ArtifactRefused, match=f"no {missing}.*modelport convert MODEL --to openvino"):
        look(tmp_path)


def test_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="auto_map"):
        look(exported(tmp_path, auto_map={"AutoModel": "m.M"}))
    (exported(tmp_path) / "modeling.py").write_text("")
    with pytest.raises(ArtifactRefused, match="is code"):
        look(tmp_path)
