"""Pruning a transformer that tells topics of real texts apart: heads, inner widths and layers, each with weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelport.compression.method import Model
from modelport.compression.methods.early_exit import EarlyExit
from modelport.compression.methods.prune import Prune
from modelport.compression.methods.prune_structured import PruneStructured
from modelport.training.recipe import TrainingData
from tests.compression import versions
from tests.compression.digits import work
from tests.training import tiny_models
from tests.training.real_texts import topics
from tests.training.test_reopen_text import written
from tests.training.test_text import SMALL, data_of, learn

pytestmark = pytest.mark.long
Version = tuple[Model, TrainingData, dict[str, Any]]


@pytest.fixture(scope="module", params=["small", "bert"])
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder, rows = tmp_path_factory.mktemp(request.param), topics(240)
    data = data_of(folder / "data", rows)
    options: dict[str, Any] = SMALL | {"epochs": 2, "layers": 2, "width": 32}
    code = None
    if request.param == "bert":
        code = tiny_models.bert(folder / "base", [text for text, _ in rows])
        options = {"epochs": 1, "learning_rate": 1e-3}
    trained, out, _ = learn(folder, data, options, code=code)
    written(out, options)
    return versions.version_of(out, trained), data, options


def test_heads_and_widths_go(tmp_path: Path, texts: Version, request: Any) -> None:
    model, data, _ = texts
    heads = 0.5 if request.node.callspec.params["texts"] == "bert" else 0.0  # the small one's are in one layer
    made, out, _ = work(PruneStructured(), tmp_path, model, data, ratio=0.5, heads=heads, epochs=1, multiple=4, rows=32)
    assert made.report["times_fewer_macs"] > 1.2
    widths = [(one["before"][0], one["after"][0]) for one in made.report["layers"].values()]
    narrower = [(before, after) for before, after in widths if after < before]
    before, after = map(sum, zip(*narrower, strict=True))
    assert 0.4 < after / before < 0.6, widths  # half of all: one layer may lose more than another
    assert (out / "model.onnx").exists()


def test_a_layer_goes(tmp_path: Path, texts: Version) -> None:
    model, data, _ = texts
    made, out, _ = work(PruneStructured(), tmp_path, model, data, drop_layers=1, epochs=1, rows=32)
    assert len(made.report["left_out"]) == 1
    assert made.report["times_fewer_macs"] > 1.1
    assert (out / "model.onnx").exists()


def test_single_weights_go(tmp_path: Path, texts: Version) -> None:
    model, data, _ = texts
    made, _, _ = work(Prune(), tmp_path, model, data, ratio=0.5, by="activation", epochs=1, rows=32)
    assert made.report["after"]["zero"] == pytest.approx(0.5, abs=0.02)


def test_a_way_out(tmp_path: Path, texts: Version) -> None:
    model, data, _ = texts
    made, _, _ = work(EarlyExit(), tmp_path, model, data, epochs=3, max_drop=0.3)
    assert made.report["left_early"] > 0
