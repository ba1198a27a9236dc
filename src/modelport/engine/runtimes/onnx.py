"""Runs ONNX models with ONNX Runtime: named numpy tensors in, named numpy tensors out.

ONNX Runtime wants strings as ``str``, gives a classifier's ZipMap as a list of dicts, and its numpy door is shut for
BF16; here they become BYTES, an FP32 matrix and BF16 arrays. Knows nothing of requests, batches or processes.
"""

from __future__ import annotations

import ctypes
import os
import re
from typing import Any, Self

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from modelport.engine.formats.onnx_wire import find_model
from modelport.engine.runtime import LoadOptions, Runtime
from modelport.engine.runtimes.texts import to_bytes, to_texts
from modelport.errors import ArtifactRefused, ModelRejectedInput
from modelport.tensors import Array, Signature, dtype_of

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_BFLOAT16 = 16
"""ONNX's element type number."""
#: What ONNX Runtime raises when a well-formed feed cannot be run.
_REJECTIONS = (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException, ort_errors.NotImplemented)
LOAD_ERRORS = (
    *_REJECTIONS,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.EPFail,
)


class OnnxRuntime(Runtime):
    """One ONNX Runtime session."""

    name = "onnx"
    platform = "onnx_onnxv1"

    def __init__(self, session: ort.InferenceSession, signature: Signature) -> None:
        self._session = session
        self._signature = signature
        self._outputs = [spec.name for spec in signature.outputs]
        self._texts_in = tuple(spec.name for spec in signature.inputs if spec.datatype == "BYTES")
        #: Names of the outputs that numpy cannot show as ONNX Runtime gives them.
        self._maps_out = tuple(found.name for found in session.get_outputs() if found.type.startswith("seq(map("))
        self._texts_out = tuple(spec.name for spec in signature.outputs if spec.datatype == "BYTES")
        specs = (*signature.inputs, *signature.outputs)
        self._run = self._run_values if any(spec.datatype == "BF16" for spec in specs) else self._run_arrays

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Find the model among the files by content and open a session; raises ArtifactRefused when that fails."""
        model = find_model(options.folder, options.files)
        if model is None:
            raise ArtifactRefused("there is no ONNX model among the version's files")
        available = ort.get_available_providers()
        try:
            session = ort.InferenceSession(
                options.folder / model,
                session_options(options.threads),
                providers=[provider for provider in _PROVIDERS if provider in available],
            )
        except LOAD_ERRORS as error:
            raise ArtifactRefused(f"ONNX Runtime cannot load the model: {clean_message(error)}") from None
        return cls(session, options.signature)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when ONNX Runtime refuses this input."""
        if self._texts_in:
            inputs = {name: to_texts(name, inputs[name]) if name in self._texts_in else inputs[name] for name in inputs}
        try:
            found = self._run(inputs)
        except _REJECTIONS as error:
            raise _explained(error) from None
        outputs = dict(zip(self._outputs, found, strict=True))
        for name in self._maps_out:
            outputs[name] = self._to_matrix(name, outputs[name])
        for name in self._texts_out:
            outputs[name] = to_bytes(outputs[name])
        return outputs

    def _run_arrays(self, feed: dict[str, Array]) -> list[Any]:
        return self._session.run(self._outputs, feed)  # type: ignore[no-any-return]

    def _run_values(self, feed: dict[str, Array]) -> list[Any]:
        """As ``_run_arrays``, by way of OrtValues: the only way in and out for BF16."""
        values = {name: _to_value(array) for name, array in feed.items()}
        return [_from_value(found) for found in self._session.run_with_ort_values(self._outputs, values)]

    def _to_matrix(self, name: str, rows: list[dict[Any, float]]) -> Array:
        """ZipMap's dicts, one a row, as FP32 [rows, classes]; columns are sorted by class, as the labels are."""
        if not rows:
            spec = next(spec for spec in self._signature.outputs if spec.name == name)
            return np.empty((0, spec.shape[1]), np.float32)
        classes = sorted(rows[0])
        return np.array([[row[key] for key in classes] for row in rows], np.float32)


def session_options(threads: int) -> ort.SessionOptions:
    """Options that share a machine fairly: threads that wait sleep instead of spinning, and nothing is logged twice."""
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors are raised too, and a caller's bad input must not fill the log
    return options


def _to_value(array: Array) -> ort.OrtValue:
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype == dtype_of("BF16"):
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _from_value(found: ort.OrtValue) -> Any:
    if found.data_type() != "tensor(bfloat16)":
        return found.numpy()
    raw = ctypes.string_at(found.data_ptr(), found.tensor_size_in_bytes())
    return np.frombuffer(raw, dtype_of("BF16")).reshape(found.shape())


_OUT_OF_MEMORY = re.compile(
    r"Failed to allocate memory(?: for requested buffer of size (\d+))?|bad_alloc|out of memory"
)


def _explained(error: Exception) -> Exception:
    """The input's fault as ModelRejectedInput; the machine's want of memory as MemoryError."""
    found = _OUT_OF_MEMORY.search(str(error))
    if found is None:
        return ModelRejectedInput(f"the model cannot run this input: {clean_message(error)}")
    size = int(found.group(1) or 0)
    if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        return ModelRejectedInput(f"the model cannot run this input: it asks for {size} bytes of memory")
    return MemoryError("the model ran out of memory")


_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_NODE = re.compile(r"Non-zero status code returned while running (\S+) node\. Name:'([^']*)' Status Message: ")
#: A place in a C++ source, and the signature that follows it in some messages.
_SOURCE = re.compile(
    r"\S*\.(?:cc|h|hpp|cpp|cu|cuh):\d+ "
    r"(?:[^()]*::[^()]*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])?|Compute) ?"
)
_PATH = re.compile(r"(?<![\w.])/(?:[\w.+-]+/)+[\w.+-]*")


def clean_message(error: BaseException) -> str:
    """An ONNX Runtime error in one line without source places and paths, at most 300 characters."""
    text = _PREFIX.sub("", str(error))
    text = _NODE.sub(lambda found: f"node {found.group(2) or found.group(1)} ({found.group(1)}): ", text)
    text = _PATH.sub("…", _SOURCE.sub("", text))
    return " ".join(text.split())[:300]
