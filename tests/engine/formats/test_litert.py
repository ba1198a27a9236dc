"""LiteRT models: told by their bytes, read with the library."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")

from modelport.engine.inspect import inspect_apart
from modelport.engine.runtime import Inspected, Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec
from tests import litert_models


def look(folder: Path, content: bytes) -> Inspected:
    (folder / "any").write_bytes(content)
    return inspect_apart(folder / "any", Trust())


def test_names_are_the_signatures(tmp_path: Path) -> None:
    found = look(tmp_path, litert_models.dense())
    assert (found.format, found.runtime) == ("litert", "litert")
    assert found.signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert found.signature.outputs == (TensorSpec("scores", "FP32", (-1, 3)),)
    assert found.details == {"model_file": "any", "signature": "serving_default"}


def test_without_a_signature_they_are_the_tensors(tmp_path: Path) -> None:
    found = look(tmp_path, litert_models.dense(dynamic=False, signature=None))
    assert found.signature.inputs == (TensorSpec("x:0", "FP32", (1, 4)),)
    assert [spec.name for spec in found.signature.outputs] == ["Identity"]


def test_quantised_ends_keep_their_type_and_show_their_scale(tmp_path: Path) -> None:
    found = look(tmp_path, litert_models.quantised())
    assert found.signature.inputs == (TensorSpec("image", "INT8", (-1, 6)),)
    assert found.details["quantisation"]["image"] == {"scale": pytest.approx(0.1), "zero_point": -3}


def test_operators_that_litert_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactRefused, match="MyOwnOperator"):
        look(tmp_path, litert_models.dense(custom=True))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = litert_models.dense()
    broken = [whole[:cut] for cut in range(8, len(whole), 97)]
    broken += [whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :] for at in range(8, len(whole) - 8, 61)]
    refused = 0
    for content in broken:
        try:
            look(tmp_path, content)
        except ArtifactRefused:
            refused += 1
    assert refused > len(broken) // 2  # some bytes are weights and names: those change nothing that could be seen
