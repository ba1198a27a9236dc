"""OpenVINO models run with OpenVINO: answers against numpy, batches of any size, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("openvino")

from modelport.engine.formats.openvino import OpenVinoFormat
from modelport.engine.proof import prove, why_not_batched
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes.openvino import OpenVinoRuntime
from modelport.errors import ModelRejectedInput
from tests import openvino_models


def load(folder: Path) -> tuple[OpenVinoRuntime, LoadOptions]:
    files = openvino_models.dense(folder)
    found = OpenVinoFormat().inspect(folder, files, Trust())
    options = LoadOptions(folder, files, found.signature, {})
    return OpenVinoRuntime.load(options), options


def test_batches_of_any_size(tmp_path: Path) -> None:
    runtime, _ = load(tmp_path)
    for rows in (1, 7, 3, 7, 1):
        given = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        np.testing.assert_allclose(runtime.infer({"x": given})["scores"], openvino_models.softmax(given), atol=1e-6)


def test_views_and_read_only_arrays(tmp_path: Path) -> None:
    runtime, _ = load(tmp_path)
    base = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    base.flags.writeable = False
    for given in (base[::2, ::2], np.asfortranarray(base[:, :4])):
        np.testing.assert_allclose(runtime.infer({"x": given})["scores"], openvino_models.softmax(given), atol=1e-6)


def test_an_answer_stays_when_the_next_one_is_made(tmp_path: Path) -> None:
    runtime, _ = load(tmp_path)
    ones, zeros = np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32)
    first = runtime.infer({"x": ones})["scores"]
    runtime.infer({"x": zeros})
    np.testing.assert_allclose(first, openvino_models.softmax(ones), atol=1e-6)


def test_it_is_admitted_and_its_requests_share_runs(tmp_path: Path) -> None:
    runtime, options = load(tmp_path)
    proven = prove(runtime, options.signature, None)
    assert why_not_batched(runtime, options.signature, proven) is None


def test_what_cannot_be_run_is_the_inputs_fault(tmp_path: Path) -> None:
    runtime, _ = load(tmp_path)
    with pytest.raises(ModelRejectedInput, match="cannot run this input"):
        runtime.infer({"x": np.zeros((1, 9), np.float32)})
    assert runtime.infer({"x": np.zeros((1, 4), np.float32)})["scores"].shape == (1, 3)
