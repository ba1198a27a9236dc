"""The ONNX runtime over real models: every data type in and out, odd shapes, refusals that are safe to show."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.engine.runtime import LoadOptions
from modelport.engine.runtimes.onnx import OnnxRuntime, clean_message
from modelport.errors import ArtifactRefused, ModelRejectedInput
from modelport.tensors import DATATYPES, Array, Signature, TensorSpec, dtype_of
from tests import onnx_models

FP32 = (TensorSpec("input", "FP32", (-1, 3)),), (TensorSpec("output", "FP32", (-1, 3)),)


def load(folder: Path, model: bytes, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> OnnxRuntime:
    (folder / "weights").write_bytes(model)
    return OnnxRuntime.load(LoadOptions(folder, ("weights",), Signature(inputs, outputs), {}))


def example(datatype: str, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    if datatype == "BYTES":
        array = np.empty(count, object)
        array[:] = [f"é{i}\0".encode() for i in range(count)]
        return array.reshape(shape)
    return (np.arange(count) % 2 if datatype == "BOOL" else np.arange(count)).astype(dtype_of(datatype)).reshape(shape)


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_passes_through(datatype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    wide = (-1, 3) if shape else ()
    model = onnx_models.identity(datatype, wide)
    specs = (TensorSpec("input", datatype, wide),), (TensorSpec("output", datatype, wide),)
    given = example(datatype, shape)
    found = load(tmp_path, model, *specs).infer({"input": given})["output"]
    assert found.dtype == given.dtype
    assert found.shape == given.shape
    assert found.tolist() == given.tolist()


def test_views_and_read_only_arrays(tmp_path: Path) -> None:
    runtime = load(tmp_path, onnx_models.identity(), *FP32)
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    for given in (base[::2, ::2], np.asfortranarray(base[:, :3]), np.frombuffer(base.tobytes(), "f4").reshape(8, 3)):
        np.testing.assert_array_equal(runtime.infer({"input": given})["output"], given)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    inputs = tuple(TensorSpec(name, "FP32", (-1, 4)) for name in ("a", "b"))
    outputs = tuple(TensorSpec(name, "FP32", (-1, 4)) for name in ("sum", "difference"))
    runtime = load(tmp_path, onnx_models.add_sub(), inputs, outputs)
    a, b = np.full((2, 4), 3, np.float32), np.ones((2, 4), np.float32)
    found = runtime.infer({"b": b, "a": a})
    assert found["sum"].tolist() == (a + b).tolist()
    assert found["difference"].tolist() == (a - b).tolist()


@pytest.mark.parametrize("strings", [False, True])
def test_zipmap_becomes_the_same_matrix(strings: bool, tmp_path: Path) -> None:
    rows = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]], np.float32)
    inputs = (TensorSpec("X", "FP32", (-1, 4)),)
    found: list[list[Array]] = []
    for zipmap, label, scores in ((False, "label", "probabilities"), (True, "output_label", "output_probability")):
        outputs = (TensorSpec(label, "BYTES" if strings else "INT64", (-1,)), TensorSpec(scores, "FP32", (-1, 3)))
        model = onnx_models.sklearn_classifier_onnx(zipmap, strings=strings)
        runtime = load(tmp_path, model, inputs, outputs)
        found.append(list(runtime.infer({"X": rows}).values()))
        assert runtime.infer({"X": rows[:0]})[scores].shape == (0, 3)
    plain, mapped = found
    assert mapped[1].dtype == np.float32
    np.testing.assert_array_equal(mapped[1], plain[1])
    assert mapped[0].tolist() == plain[0].tolist() == ([b"setosa", b"virginica"] if strings else [0, 2])


def test_text_that_is_not_utf8_names_the_input(tmp_path: Path) -> None:
    specs = (TensorSpec("input", "BYTES", (-1, 1)),), (TensorSpec("output", "BYTES", (-1, 1)),)
    runtime = load(tmp_path, onnx_models.identity("BYTES", (-1, 1)), *specs)
    with pytest.raises(ModelRejectedInput, match=r"'input'.*not UTF-8"):
        runtime.infer({"input": np.array([[b"\xff"]], object)})


def test_an_input_that_the_model_cannot_run(tmp_path: Path) -> None:
    specs = (TensorSpec("input", "INT64", (-1, 1)),), (TensorSpec("output", "INT64", (-1, 1)),)
    runtime = load(tmp_path, onnx_models.fails_on(13), *specs)
    assert runtime.infer({"input": np.array([[12]])})["output"].tolist() == [[12]]
    with pytest.raises(ModelRejectedInput, match="division by zero") as caught:
        runtime.infer({"input": np.array([[13]])})
    assert ".cc" not in caught.value.message
    assert "/" not in caught.value.message
    assert runtime.infer({"input": np.array([[12]])})["output"].tolist() == [[12]]


def test_an_input_that_asks_for_more_memory_than_there_is(tmp_path: Path) -> None:
    model = onnx_models.model(
        [onnx_models.helper.make_node("Expand", ["one", "input"], ["output"])],
        [onnx_models.value("input", "INT64", (1,))],
        [onnx_models.value("output", "FP32", ("n",))],
        [onnx_models.constant("one", np.ones(1, np.float32))],
    )
    specs = (TensorSpec("input", "INT64", (1,)),), (TensorSpec("output", "FP32", (-1,)),)
    runtime = load(tmp_path, model.SerializeToString(), *specs)
    with pytest.raises(ModelRejectedInput, match="asks for 70368744177664 bytes"):
        runtime.infer({"input": np.array([1 << 44])})
    assert runtime.infer({"input": np.array([2])})["output"].tolist() == [1, 1]


def test_external_data_is_found_beside_the_model(tmp_path: Path) -> None:
    onnx_models.with_external_data(tmp_path)
    signature = Signature((TensorSpec("input", "FP32", (-1, 64)),), (TensorSpec("output", "FP32", (-1, 10)),))
    files = ("weights.bin", "model.onnx")
    runtime = OnnxRuntime.load(LoadOptions(tmp_path, files, signature, {}, threads=2))
    assert runtime.infer({"input": np.ones((3, 64), np.float32)})["output"].shape == (3, 10)


def test_a_damaged_model_does_not_load(tmp_path: Path) -> None:
    model = onnx_models.model(
        [onnx_models.helper.make_node("NoSuchOperator", ["input"], ["output"])],
        [onnx_models.value("input", "FP32", (-1,))],
        [onnx_models.value("output", "FP32", (-1,))],
    )
    with pytest.raises(ArtifactRefused, match="NoSuchOperator") as caught:
        load(tmp_path, model.SerializeToString(), *FP32)
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'r' "
            "Status Message: /onnxruntime_src/core/reshape_helper.h:91 onnxruntime::R::R(const onnxruntime::S&, bool) "
            "size was false. Input shape:{4}\n",
            "node r (Reshape): size was false. Input shape:{4}",
        ),
        ("Load model from /srv/models/a/b.onnx failed:Protobuf parsing failed.", "Load model from … failed:Protobuf"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_messages_are_cleaned(text: str, clean: str) -> None:
    found = clean_message(RuntimeError(text))
    assert found.startswith(clean)
    assert len(found) <= 300


def test_models_of_the_tests_do_what_they_say(tmp_path: Path) -> None:
    signature = (TensorSpec("input", "FP32", (-1, 1)),), (TensorSpec("output", "FP32", (-1, 1)),)
    one: dict[str, Any] = {"input": np.ones((1, 1), np.float32)}
    for model in (onnx_models.slow(5), onnx_models.hangs_on_negative(), onnx_models.big(1)):
        assert load(tmp_path, model, *signature).infer(one)["output"].tolist() == [[1.0]]


def test_the_crasher_kills_its_process_for_one_input_only(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_models.crasher())
    script = (
        "import sys, numpy, onnxruntime as ort; session = ort.InferenceSession(sys.argv[1]);"
        "print(session.run(None, {'input': numpy.array([[int(sys.argv[2])]])})[0])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script, tmp_path / "model", str(number)], capture_output=True, text=True)
        for number in (7, onnx_models.CRASHING_INPUT)
    ]
    assert runs[0].stdout == "[[-7]]\n"
    assert runs[1].returncode == -signal.SIGFPE
