"""The pasted command: a shell splits it as meant, and the data has the model's shape and type."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest

from modelport.cli.curl import curl_for
from modelport.sdk.inference import ModelMetadata
from modelport.tensors import TensorSpec


def data_of(inputs: tuple[TensorSpec, ...], with_key: bool = False) -> tuple[str, Any]:
    """The command, and the data that it sends."""
    command = curl_for("http://127.0.0.1:8000", ModelMetadata("m", ("1",), "p", inputs, ()), with_key)
    words = shlex.split(command)
    if words[0] == "curl":
        body = words[words.index("-d") + 1]
    else:
        body = subprocess.run([sys.executable, *words[1:3]], capture_output=True, check=True, text=True).stdout
        assert words[words.index("|") + 1] == "curl"
    assert "http://127.0.0.1:8000/predict?model=m" in words
    return command, json.loads(body)["data"]


@pytest.mark.parametrize(
    ("inputs", "want"),
    [
        ((TensorSpec("x", "FP32", (-1, 2)),), [[0.0, 0.0]]),
        ((TensorSpec("x", "INT64", (-1, 2)),), [[0, 0]]),
        ((TensorSpec("x", "BYTES", (-1,)),), ["text"]),
        ((TensorSpec("x", "BOOL", ()),), False),
        ((TensorSpec("it's", "FP32", (1,)), TensorSpec('a"$`\\', "BYTES", (-1,))), {"it's": [0.0], 'a"$`\\': ["text"]}),
    ],
)
def test_small(inputs: tuple[TensorSpec, ...], want: Any) -> None:
    command, data = data_of(inputs)
    assert data == want
    assert "Authorization" not in command


def test_large_inputs_are_made_by_python() -> None:
    command, data = data_of((TensorSpec("image", "FP32", (-1, 3, 8, 8)), TensorSpec("it's", "INT64", (-1,))))
    assert len(command) < 400
    assert len(data["image"][0]) == 3 and len(data["image"][0][0][0]) == 8
    assert data["it's"] == [0]


def test_a_key_comes_from_the_environment() -> None:
    command, _ = data_of((TensorSpec("x", "FP32", (-1, 2)),), with_key=True)
    assert '"Authorization: Bearer $MODELPORT_KEY"' in command
