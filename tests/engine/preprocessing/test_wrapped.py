"""A runtime behind its steps keeps what it can and what it cannot do."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.engine.preprocessing import outer_signature, steps_of, wrap
from modelport.engine.proof import prove, why_not_batched
from modelport.engine.runtime import LoadOptions, Streams
from modelport.engine.runtimes.predictor import PredictorRuntime
from modelport.schemas.preprocessing import ImageStep
from modelport.tensors import Signature, TensorSpec

MODEL = Signature((TensorSpec("x", "UINT8", (-1, 1, 2, 2)),), (TensorSpec("y", "FP32", (-1,)),))
STEP = ImageStep(kind="image", input="x", channels="L").model_dump()
ONCE = """
class Predictor:
    def predict(self, inputs): return inputs["x"].mean((1, 2, 3)).astype("float32")
"""
IN_PARTS = """
class Predictor:
    def predict(self, inputs):
        for value in inputs["x"].reshape(-1): yield [float(value)]
"""
ALONE = """
class Predictor:
    def predict(self, inputs):
        only, = inputs["x"]
        {1: 1}[len(inputs["x"])]
        return [float(only.mean())]
"""


def wrapped(folder: Path, source: str, **details: Any) -> Any:
    (folder / "predictor.py").write_text(source)
    options = LoadOptions(folder, ("predictor.py",), MODEL, {}, details={"class": "Predictor", **details})
    return wrap(PredictorRuntime.load(options), [STEP], MODEL, folder)


def png(*values: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.array(values, np.uint8).reshape(2, 2)).save(out, "PNG")
    return out.getvalue()


def test_a_model_that_is_not_to_be_batched_stays_so(tmp_path: Path) -> None:
    runtime = wrapped(tmp_path, ONCE, batching=False)
    outer = outer_signature(steps_of([STEP], MODEL), MODEL)
    proven = prove(runtime, outer, None)
    assert why_not_batched(runtime, outer, proven) == "its modelport.yaml says batching: false"
    assert not isinstance(runtime, Streams)
    runtime.close()


def test_without_a_word_it_is_batched(tmp_path: Path) -> None:
    runtime = wrapped(tmp_path, ONCE)
    outer = outer_signature(steps_of([STEP], MODEL), MODEL)
    assert why_not_batched(runtime, outer, prove(runtime, outer, None)) is None
    runtime.close()


def test_a_model_that_streams_still_streams(tmp_path: Path) -> None:
    runtime = wrapped(tmp_path, IN_PARTS)
    assert isinstance(runtime, Streams)
    assert runtime.not_batched == "it gives its answers in parts"
    parts = runtime.stream({"image": np.array([png(1, 2, 3, 4)], object)})
    assert [float(part["y"][0]) for part in parts] == [1, 2, 3, 4]
    runtime.close()


@pytest.mark.parametrize("raised", ["ValueError", "KeyError"])
def test_a_model_that_fails_with_several_rows_is_served_one_by_one(tmp_path: Path, raised: str) -> None:
    runtime = wrapped(tmp_path, ALONE if raised == "ValueError" else ALONE.replace("only, =", "only, *_ ="))
    outer = outer_signature(steps_of([STEP], MODEL), MODEL)
    why = why_not_batched(runtime, outer, prove(runtime, outer, None))
    assert why is not None and why.startswith("three rows together")
    assert raised in why
    runtime.close()
