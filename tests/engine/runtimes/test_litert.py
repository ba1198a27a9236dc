"""LiteRT models run with LiteRT: answers against numpy, batches of any size, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from modelport.engine.formats.litert import LiteRtFormat
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.litert import LiteRtRuntime
from modelport.errors import ModelRejectedInput
from tests import litert_models


def load(folder: Path, content: bytes) -> LiteRtRuntime:
    (folder / "any").write_bytes(content)
    found = LiteRtFormat().inspect(folder, ("any",), Trust())
    return LiteRtRuntime.load(LoadOptions(folder, ("any",), found.signature, {}))


def softmax(rows: np.ndarray) -> np.ndarray:
    weights, bias = litert_models.dense_weights()
    raised = np.exp(rows @ weights.T + bias)
    return raised / raised.sum(1, keepdims=True)


def test_batches_of_any_size(tmp_path: Path) -> None:
    runtime = load(tmp_path, litert_models.dense())
    for rows in (1, 7, 3, 7, 1):
        given = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        np.testing.assert_allclose(runtime.infer({"x": given})["scores"], softmax(given), atol=1e-6)


def test_views_and_read_only_arrays(tmp_path: Path) -> None:
    runtime = load(tmp_path, litert_models.dense(signature=None))
    base = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    base.flags.writeable = False
    for given in (base[::2, ::2], np.asfortranarray(base[:, :4])):
        np.testing.assert_allclose(runtime.infer({"x:0": given})["Identity"], softmax(given), atol=1e-6)


def test_integers_are_the_models_own_arithmetic(tmp_path: Path) -> None:
    given = np.arange(-60, 60, dtype=np.int8).reshape(20, 6)
    found = load(tmp_path, litert_models.quantised()).infer({"image": given})["relu"]
    real = np.maximum((given.astype(np.float64) + 3) * 0.1, 0)
    assert found.dtype == np.int8
    np.testing.assert_allclose((found.astype(np.float64) + 128) * 0.05, np.minimum(real, 12.75), atol=0.051)


def test_what_cannot_be_run_is_the_inputs_fault(tmp_path: Path) -> None:
    runtime = load(tmp_path, litert_models.dense())
    for given in (np.zeros((0, 4), np.float32), np.zeros((1, 9), np.float32)):
        with pytest.raises(ModelRejectedInput, match="cannot run this input"):
            runtime.infer({"x": given})
    assert runtime.infer({"x": np.zeros((1, 4), np.float32)})["scores"].shape == (1, 3)
