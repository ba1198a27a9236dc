"""The recipes of texts as jobs: real rows in, a registered version out, judged as it is served or by the recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelport.control.work.train import Train
from modelport.errors import InvalidInput
from tests.data.conftest import make_lab  # noqa: F401
from tests.data.lab import KINDS, Lab
from tests.training import tiny_models
from tests.training.real_texts import pairs, topics

pytest.importorskip("peft")

pytestmark = pytest.mark.long


@pytest.fixture
def lab(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Lab:  # noqa: F811
    monkeypatch.setitem(KINDS, "train", Train)
    return make_lab()


def collect(lab: Lab, name: str, rows: list[dict[str, Any]], **params: Any) -> None:
    lines = "\n".join(json.dumps(row) for row in rows)
    lab.run("collect", name=name, files=lab.send({"rows.jsonl": lines}), **params)


def files_of(lab: Lab, folder: Path) -> list[dict[str, Any]]:
    return lab.send({path.name: path.read_bytes() for path in sorted(folder.iterdir())})


def test_texts_and_their_classes(lab: Lab) -> None:
    """Judged in a replica, by the raw texts of the validation rows."""
    collect(lab, "topics", [{"text": text, "library": library} for text, library in topics(320)], label="library")
    options = {"model": "small", "layers": 0, "epochs": 8, "learning_rate": 5e-3}
    found = lab.run("train", recipe="text", data="topics", options=options)
    version = lab.services.registry.version(lab.actor, "topics", found["version"])
    assert version.manifest.runtime == "onnx"
    assert version.manifest.labels == {"probabilities": ["aiohttp", "numpy", "sklearn", "sqlalchemy"]}
    assert found["accuracy"] == version.manifest.metrics["validation_accuracy"] > 0.4
    again = lab.run("evaluate", model=found["model"], data="topics", target="library")
    assert again["figures"]["accuracy"] > found["accuracy"]


def test_a_language_model_and_then_its_adapter(lab: Lab, tmp_path: Path) -> None:
    """A version that is kept goes on to be the base of the next one."""
    rows = pairs(60)
    base = tiny_models.llama(tmp_path / "base", [text for _, text in rows])
    collect(lab, "summaries", [{"text": text} for _, text in rows])
    options = {"max_length": 64, "learning_rate": 1e-2, "rank": 4}
    found = lab.run("train", recipe="language-model", data="summaries", files=files_of(lab, base), options=options)
    assert found["task"] == "language"
    assert found["perplexity"] < found["training"]["perplexity_before"]
    version = lab.services.registry.version(lab.actor, "summaries", found["version"])
    assert version.manifest.format == "huggingface"
    assert version.manifest.runtime == ""
    conversations = [
        {"messages": [{"role": "user", "content": name}, {"role": "assistant", "content": text}]} for name, text in rows
    ]
    collect(lab, "talks", conversations)
    options |= {"output": "adapter"}
    adapter = lab.run("train", recipe="language-model", data="talks", start=found["model"], options=options)
    assert lab.services.registry.version(lab.actor, "talks", 1).manifest.details["task"] == "adapter"
    assert adapter["perplexity"] < adapter["training"]["perplexity_before"]


def test_pairs_of_texts(lab: Lab, tmp_path: Path) -> None:
    rows = pairs(90)
    base = tiny_models.bert(tmp_path / "base", [text for pair in rows for text in pair], layers=1)
    collect(lab, "names", [{"name": name, "summary": text} for name, text in rows])
    options = {"epochs": 2, "learning_rate": 1e-3, "max_length": 32}
    found = lab.run("train", recipe="embedding", data="names", files=files_of(lab, base), options=options)
    assert found["task"] == "embedding"
    assert 0 < found["recall_at_1"] <= found["recall_at_10"] <= 1
    assert lab.services.registry.version(lab.actor, "names", 1).manifest.runtime == "onnx"


def test_what_is_wrong_is_said_before_work_begins(lab: Lab) -> None:
    collect(lab, "numbers", [{"n": 1, "m": 2.5}, {"n": 2, "m": 0.5}])
    for recipe in ("text", "embedding", "language-model"):
        with pytest.raises(InvalidInput, match="text column|which two of the text columns"):
            lab.run("train", recipe=recipe, data="numbers", target="n")
