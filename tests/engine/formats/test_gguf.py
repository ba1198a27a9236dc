"""GGUF files: what the header tells, and headers that lie."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from modelport.engine.inspect import inspect
from modelport.engine.runtime import Trust
from modelport.errors import ArtifactRefused

gguf = pytest.importorskip("gguf")


def written(path: Path) -> bytes:
    """A file as the library writes it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_context_length(64)
    writer.add_token_list(["a", "b", "c"])
    writer.add_token_scores([0.0, 1.0, 2.0])
    rng = np.random.default_rng(0)
    writer.add_tensor("token_embd.weight", rng.normal(size=(3, 64)).astype(np.float16))
    halves = gguf.quantize(rng.normal(size=(4, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_q.weight", halves, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_the_header_is_told(tmp_path: Path) -> None:
    written(tmp_path / "any.name")
    found = inspect(tmp_path, Trust())
    assert (found.format, found.runtime) == ("gguf", "openvino-genai")
    assert found.details["architecture"] == "llama"
    assert found.details["parameters"] == 3 * 64 + 4 * 64
    assert found.details["tensors"] == {"Q8_0": 256, "F16": 192}
    assert found.details["max_tokens"] == 64
    assert found.details["model_name"] == "small"
    assert "not_served" not in found.details


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.gguf")
    (tmp_path / "whole.gguf").unlink()
    path = tmp_path / "cut.gguf"
    for size in range(4, len(whole) - 32, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtifactRefused, match="damaged"):
            inspect(tmp_path, Trust())


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (struct.pack("<I", 3), struct.pack("<I", 9), "version 9"),
        (struct.pack("<QQ", 2, 5), struct.pack("<QQ", 2**63, 5), "9223372036854775808 tensors"),
        (struct.pack("<Q", 12) + b"general.name", struct.pack("<Q", 2**40) + b"general.name", "a text of"),
        (b"attn_q.weight" + struct.pack("<I", 2), b"attn_q.weight" + struct.pack("<I", 99), "99 dimensions"),
        (struct.pack("<QQI", 64, 4, 8), struct.pack("<QQI", 64, 2**40, 8), "ends behind the file"),
        (struct.pack("<QQI", 64, 4, 8), struct.pack("<QQI", 64, 4, 77), "of type 77"),
        (struct.pack("<QQI", 64, 4, 8), struct.pack("<QQI", 65, 4, 8), "no whole number of blocks of Q8_0"),
        (struct.pack("<QQIQ", 64, 4, 8, 384), struct.pack("<QQIQ", 64, 4, 8, 0), "lies where another is"),
    ],
)  # fmt: skip
def test_headers_that_lie_are_refused(tmp_path: Path, find: bytes, put: bytes, message: str) -> None:
    whole = written(tmp_path / "m.gguf")
    assert find in whole
    (tmp_path / "m.gguf").write_bytes(whole.replace(find, put, 1))
    with pytest.raises(ArtifactRefused, match=message):
        inspect(tmp_path, Trust())


def test_one_file_at_a_time(tmp_path: Path) -> None:
    written(tmp_path / "a.gguf")
    written(tmp_path / "b.gguf")
    with pytest.raises(ArtifactRefused, match="2 GGUF files"):
        inspect(tmp_path, Trust())
