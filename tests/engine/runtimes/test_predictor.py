"""The predictor's methods in their order, what they return, and what becomes of what they raise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.engine.runtime import LoadOptions, Streams
from modelport.engine.runtimes.predictor import PredictorRuntime, as_outputs
from modelport.errors import ModelRejectedInput, RunFailed
from modelport.tensors import Signature, TensorSpec

ONE = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
TWO = Signature(ONE.inputs, (TensorSpec("n", "INT64", (-1, 2)), TensorSpec("s", "BYTES", (-1,))))


def load(folder: Path, source: str, signature: Signature = ONE, **details: Any) -> PredictorRuntime:
    (folder / "predictor.py").write_text(source)
    return PredictorRuntime.load(
        LoadOptions(folder, ("predictor.py",), signature, {}, details={"class": "P", **details})
    )


def run(runtime: PredictorRuntime, *numbers: float) -> Any:
    return runtime.infer({"x": np.array(numbers, np.float32)})["y"].tolist()


def test_every_step_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "factor.txt").write_text("10")
    (tmp_path / "beside.py").write_text("ONE = 1")
    source = """
from beside import ONE
class P:
    async def load(self, folder): self.factor = int((folder / "factor.txt").read_text())
    def preprocess(self, inputs): return inputs["x"] + ONE
    async def predict(self, x): return x * self.factor
    def postprocess(self, y): return {"y": y.astype("float64")}
"""
    runtime = load(tmp_path, source)
    assert run(runtime, 1, 2) == [20, 30]
    assert runtime.not_batched is None
    assert not isinstance(runtime, Streams)
    assert not (tmp_path / "__pycache__").exists()
    runtime.close()


def test_inputs_may_be_changed_and_kept(tmp_path: Path) -> None:
    runtime = load(tmp_path, "class P:\n    def predict(self, i):\n        i['x'] += 1\n        return i['x']")
    given = np.zeros(2, np.float32)
    assert runtime.infer({"x": given})["y"].tolist() == [1, 1]
    assert given.tolist() == [0, 0]


def test_batching_can_be_declined(tmp_path: Path) -> None:
    runtime = load(tmp_path, "class P:\n    def predict(self, i): return i['x']", batching=False)
    assert "batching: false" in (runtime.not_batched or "")


@pytest.mark.parametrize("word", ["", "async "])
def test_generators_stream(word: str, tmp_path: Path) -> None:
    source = f"""
class P:
    closed = 0
    {word}def predict(self, inputs):
        try:
            for number in inputs["x"]: yield [number]
        finally: self.closed += 1
    def postprocess(self, part): return [2 * part[0]]
"""
    runtime = load(tmp_path, source)
    assert isinstance(runtime, Streams)
    inputs = {"x": np.array([1, 2, 3], np.float32)}
    assert [part["y"].tolist() for part in runtime.stream(inputs)] == [[2], [4], [6]]
    assert runtime.infer(inputs)["y"].tolist() == [2, 4, 6]
    parts = runtime.stream(inputs)
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert runtime._predictor.closed == 3
    with pytest.raises(RunFailed, match="did not give its output 'y'"):
        runtime.infer({"x": np.array([], np.float32)})


@pytest.mark.parametrize(
    ("raised", "error", "said"),
    [
        ("ValueError('too\\nlong')", ModelRejectedInput, "ValueError: too"),
        ("TypeError()", ModelRejectedInput, "TypeError: no message"),
        ("SystemExit(1)", RunFailed, "sys.exit"),
        ("KeyError('x')", RunFailed, "failed (KeyError)"),
    ],
)
def test_exceptions(raised: str, error: type[Exception], said: str, tmp_path: Path, capsys: Any) -> None:
    runtime = load(tmp_path, f"class P:\n    def predict(self, i): raise {raised}")
    with pytest.raises(error) as caught:
        run(runtime, 1)
    assert said in str(caught.value)
    trace = capsys.readouterr().out
    assert "Traceback" in trace
    assert "line 2, in predict" in trace
    assert "engine/runtimes" not in trace


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([1], "declares 2 outputs: return a dict with n, s"),
        ({"n": [[1, 2]], "t": []}, "the output 't'"),
        ({"n": [[1.5, 2]]}, "'n': the predictor gave FP64, modelport.yaml says INT64"),
        ({"n": [[1, 2, 3]]}, "the shape [1, 3], modelport.yaml says [-1, 2]"),
        ({"n": [[1], [2, 3]]}, "no array of equal rows"),
        ({"s": [3]}, "holds an int, BYTES are str or bytes"),
    ],
)
def test_outputs_not_as_declared(found: Any, said: str) -> None:
    with pytest.raises(RunFailed) as caught:
        as_outputs(TWO, found)
    assert said in caught.value.message


def test_outputs_as_declared() -> None:
    outputs = as_outputs(TWO, ([[1, 2]], ["é"]))
    assert outputs["n"].dtype == np.int64
    assert outputs["s"].tolist() == ["é".encode()]
    assert as_outputs(ONE, [])["y"].shape == (0,)
