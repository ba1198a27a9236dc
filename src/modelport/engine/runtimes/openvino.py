"""Runs OpenVINO models on the CPU: named numpy tensors in, named numpy tensors out.

Sums are made in float32 also where the processor would rather have bfloat16, so that answers are the same everywhere.
Knows nothing of requests, batches or processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from modelport.engine.formats.openvino_file import find_openvino, weights_of
from modelport.engine.runtime import LoadOptions, Runtime
from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused, MissingExtra, ModelRejectedInput
from modelport.tensors import Array

try:
    import openvino
except ImportError as error:
    raise MissingExtra("openvino", f"reading an OpenVINO model ({first_line(error)})") from None

#: What OpenVINO raises when a well-formed feed cannot be run.
_REJECTIONS = (RuntimeError, ValueError, TypeError)


def read_model(model: Path, weights: Path) -> Any:
    """The network, not compiled yet; raises ArtifactRefused when OpenVINO does not know what it holds."""
    try:
        return openvino.Core().read_model(str(model), str(weights))
    except _REJECTIONS as error:
        raise ArtifactRefused(
            f"OpenVINO {openvino.__version__.partition('-')[0]} cannot read the model: {_cause(error)}; "
            "convert it again with standard operations"
        ) from None


class OpenVinoRuntime(Runtime):
    """One compiled model, one request at a time."""

    name = "openvino"
    platform = "openvino_ir"

    def __init__(self, compiled: Any, outputs: tuple[str, ...]) -> None:
        self._request = compiled.create_infer_request()
        self._ports = {name: compiled.output(name) for name in outputs}

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Find the model among the files by content and compile it; raises ArtifactRefused when that fails."""
        found = find_openvino(options.folder, options.files)
        if not found:
            raise ArtifactRefused("there is no OpenVINO model among the version's files")
        model = read_model(options.folder / found[0], options.folder / weights_of(found[0]))
        how = {
            "INFERENCE_NUM_THREADS": options.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
        }  # fmt: skip
        try:
            compiled = openvino.Core().compile_model(model, "CPU", how)
        except _REJECTIONS as error:
            raise ArtifactRefused(f"OpenVINO cannot compile the model: {_cause(error)}") from None
        return cls(compiled, tuple(spec.name for spec in options.signature.outputs))

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when OpenVINO refuses this input."""
        feed = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in inputs.items()}
        try:
            found = self._request.infer(feed, share_inputs=True)
        except _REJECTIONS as error:
            if "bad_alloc" in str(error) or "allocate" in str(error):
                raise MemoryError("the model ran out of memory") from None
            raise ModelRejectedInput(f"the model cannot run this input: {_cause(error)}") from None
        return {name: np.array(found[port]) for name, port in self._ports.items()}


def _cause(error: BaseException) -> str:
    """OpenVINO's message without the places in its sources that come first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from ", "Check '")) and ".cpp:" not in line]
    return (told or [first_line(error)])[0][:300]
