"""Inspection: what is found in good artifacts, and that no hostile one does more than be refused."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from modelport.engine.inspect import inspect, inspect_apart
from modelport.engine.runtime import Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec
from tests import hostile, onnx_models

LONG = any(os.environ.get(f"MODELPORT_{word}") for word in ("PROVE", "LONG"))


def test_the_same_is_found_here_and_apart(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(onnx_models.sklearn_classifier_onnx(True))
    (tmp_path / "README.md").write_text("a classifier")
    apart = inspect_apart(tmp_path, Trust())
    assert apart == inspect(tmp_path, Trust())
    assert apart.format == apart.runtime == "onnx"
    assert [spec.name for spec in apart.signature.outputs] == ["output_label", "output_probability"]


def test_one_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(onnx_models.scalar())
    (tmp_path / "b").write_bytes(b"something else")
    assert inspect_apart(tmp_path / "a", Trust()).signature.inputs == (TensorSpec("input", "FP32", ()),)


def test_hard_links_are_files_like_any_other(tmp_path: Path) -> None:
    """The artifact store materializes versions with them."""
    store, folder = tmp_path / "store", tmp_path / "folder"
    store.mkdir()
    folder.mkdir()
    onnx_models.with_external_data(store)
    for name in ("model.onnx", "weights.bin"):
        os.link(store / name, folder / name)
    assert inspect_apart(folder, Trust()).details["parameters"] == 64 * 32 + 32 + 32 * 10 + 10


def test_a_large_model_fits_the_limits(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_models.big(64))
    assert inspect_apart(tmp_path, Trust(), memory_mb=1024).format == "onnx"


def test_too_little_memory_is_said(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_models.mlp())
    with pytest.raises(ArtifactRefused, match=r"memory|MB|damaged"):
        inspect_apart(tmp_path, Trust(), memory_mb=100)


def test_too_little_time_is_said(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_models.mlp())
    with pytest.raises(ArtifactRefused, match=r"within 0\.01 s"):
        inspect_apart(tmp_path, Trust(), timeout_s=0.01)


@pytest.mark.parametrize("row", hostile.ROWS, ids=lambda row: row.name)
def test_hostile_artifacts_are_refused(row: hostile.Row, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    if row.needs is not None and not row.needs():
        pytest.skip("needs rights or a library that are not here")
    try:
        row.build(folder)
        with pytest.raises(ArtifactRefused) as caught:
            if row.name.startswith("skops-") and not LONG:
                inspect(folder, Trust())  # nothing of it is run; alone each would import scikit-learn
            else:
                inspect_apart(folder, Trust(), timeout_s=30, memory_mb=2048)
    finally:
        shutil.rmtree(folder)
    message = caught.value.message
    assert row.expected.lower() in message.lower()
    assert len(message) < 1000
    assert str(tmp_path) not in message
    assert not re.search(r"Traceback|/onnxruntime_src|site-packages|File \"|0x[0-9a-f]{6}", message)
    assert not (hostile.PROOF).exists(), "the artifact ran code"
