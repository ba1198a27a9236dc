"""What ``modelport convert`` says of a version that it made."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.cli.convert import _show


def made(**same: Any) -> dict[str, Any]:
    parity = {"max_absolute": 1e-6, "max_relative": 2e-6, "label_agreement": 1.0, "outputs": ["scores"], "told": {}}
    return {
        "model": "wine:2", "format": "onnx", "bytes": 700, "compared_on": "178 rows of wine:1", "tolerance": 0.001,
        "parity": parity | same, "warnings": ["texts are left out"],
    }  # fmt: skip


def test_figures_and_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    _show(made())
    said = " ".join(capsys.readouterr().out.split())
    assert "wine:2 (onnx, 700 bytes)" in said and "labels agree 100.00%" in said
    assert said.endswith("note: texts are left out serve it: modelport deploy wine:2")


def test_of_a_language_model_texts_agree_and_scores_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    _show(made(outputs=["next_token", "tokens", "text"], told={"logits": 0.0123456}))
    said = " ".join(capsys.readouterr().out.split())
    assert "texts agree 100.00%" in said and "logits, told only 0.0123" in said
