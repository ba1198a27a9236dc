"""OpenVINO models as they are inspected: signature, labels, and what is refused with which advice."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("openvino")

from modelport.engine.formats.openvino import OpenVinoFormat
from modelport.engine.inspect import inspect_apart
from modelport.engine.runtime import Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec
from tests import openvino_models


def test_what_goes_in_and_out(tmp_path: Path) -> None:
    files = openvino_models.dense(tmp_path, ["a", "b", "é"], name="net.xml")
    assert OpenVinoFormat().recognises(tmp_path, files)
    found = OpenVinoFormat().inspect(tmp_path, files, Trust())
    assert found.signature.inputs == (TensorSpec("x", "FP32", (-1, 4)),)
    assert found.signature.outputs == (TensorSpec("scores", "FP32", (-1, 3)),)
    assert found.labels == {"scores": ["a", "b", "é"]}
    assert found.details["model_file"] == "net.xml" and found.runtime == "openvino"


def test_the_inspection_process_reads_it_too(tmp_path: Path) -> None:
    openvino_models.dense(tmp_path)
    assert inspect_apart(tmp_path, Trust()).format == "openvino"


def test_what_is_refused(tmp_path: Path) -> None:
    openvino_models.dense(tmp_path)
    text = (tmp_path / "model.xml").read_text()

    def refused(**files: str | bytes) -> str:
        folder = tmp_path / f"case{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for name, content in files.items():
            path = folder / name.replace("_dot_", ".")
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(ArtifactRefused) as error:
            OpenVinoFormat().inspect(folder, tuple(sorted(path.name for path in folder.iterdir())), Trust())
        assert str(tmp_path) not in error.value.message
        return error.value.message

    weights = (tmp_path / "model.bin").read_bytes()
    assert "has its weights in 'model.bin', which is not here" in refused(model_dot_xml=text)
    assert "2 OpenVINO models" in refused(a_dot_xml=text, a_dot_bin=weights, b_dot_xml=text, b_dot_bin=weights)
    assert "cannot read the model" in refused(model_dot_xml=text[: len(text) // 2], model_dot_bin=weights)
    unknown = text.replace('type="SoftMax"', 'type="Mine"')
    assert "Mine" in refused(model_dot_xml=unknown, model_dot_bin=weights)
    assert "cannot read the model" in refused(model_dot_xml=text, model_dot_bin=weights[:8])


def test_other_xml_is_none(tmp_path: Path) -> None:
    for number, text in enumerate(("<html></html>", '<?xml version="1.0"?><PMML version="4"/>', "<net>", "")):
        (tmp_path / f"{number}").write_text(text)
    assert not OpenVinoFormat().recognises(tmp_path, ("0", "1", "2", "3"))
