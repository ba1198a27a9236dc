"""How a version's figures are shown."""

from __future__ import annotations

import pytest

from modelport.cli import models


def test_figures_of_the_same_name_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "validation_accuracy": 0.8833333333333333, "test_accuracy": 0.85, "cv_accuracy": 0.8312499999999999,
        "cv_std_accuracy": 0.01126734773, "test_r2": 1.0, "train_seconds": 1.577, "test": 2.0,
    }  # fmt: skip
    alone, figures = models._by_rows(told)
    assert alone == {"train_seconds": "1.577", "test": "2"}
    models._show_figures(figures)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines == [
        ["FIGURE", "VALIDATION", "TEST", "CV", "CV_STD"],
        ["accuracy", "0.8833", "0.85", "0.8312", "0.01127"],
        ["r2", "-", "1", "-", "-"],
    ]
