"""Runs LiteRT (TensorFlow Lite) models: named numpy tensors in, named numpy tensors out.

A model with signatures is called through ``serving_default``, or its only one; names are the signature's. A dynamic
dimension takes the size that a request brings. Knows nothing of requests, batches or processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np

from modelport.engine.formats.litert_file import find_litert
from modelport.engine.runtime import LoadOptions, Runtime
from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused, MissingExtra, ModelRejectedInput
from modelport.tensors import Array, datatype_of

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise MissingExtra("litert", f"reading a LiteRT model ({first_line(error)})") from None

_DEFAULT = "serving_default"
_REJECTIONS = (RuntimeError, ValueError, TypeError)


class LiteRtModel:
    """One interpreter, called through a signature where the model has one, else through its tensors."""

    def __init__(self, path: Path, threads: int) -> None:
        """Raises ArtifactRefused when LiteRT cannot prepare the model, such as for an operator that it lacks."""
        try:
            self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
            self._interpreter.allocate_tensors()
        except _REJECTIONS as error:
            raise ArtifactRefused(
                f"LiteRT cannot prepare the model: {first_line(error)}; convert it with built-in operators only"
            ) from None
        known = list(self._interpreter.get_signature_list())
        if len(known) > 1 and _DEFAULT not in known:
            raise ArtifactRefused(
                f"the model has {len(known)} signatures and none is called {_DEFAULT!r}: convert it with one of them"
            )
        self.key = None if not known else _DEFAULT if _DEFAULT in known else known[0]
        self._runner = self._interpreter.get_signature_runner(self.key) if self.key is not None else None
        if self._runner is None:
            self._in = _by_name(self._interpreter.get_input_details())
            self._out = _by_name(self._interpreter.get_output_details())

    def inputs(self) -> dict[str, dict[str, Any]]:
        """What LiteRT says of each input, by its name."""
        found: dict[str, dict[str, Any]] = self._runner.get_input_details() if self._runner else self._in
        return found

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What LiteRT says of each output, by its name."""
        found: dict[str, dict[str, Any]] = self._runner.get_output_details() if self._runner else self._out
        return found

    def __call__(self, feed: dict[str, Array]) -> dict[str, Array]:
        if self._runner is not None:
            found: dict[str, Array] = self._runner(**feed)
            return found
        for name, array in feed.items():
            self._interpreter.resize_tensor_input(self._in[name]["index"], array.shape)
        self._interpreter.allocate_tensors()
        for name, array in feed.items():
            self._interpreter.set_tensor(self._in[name]["index"], array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(about["index"]) for name, about in self._out.items()}


class LiteRtRuntime(Runtime):
    """One LiteRT model on the CPU."""

    name = "litert"
    platform = "litert_tflite"

    def __init__(self, model: LiteRtModel, outputs: tuple[str, ...]) -> None:
        self._model = model
        self._outputs = outputs

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Find the model among the files by content; raises ArtifactRefused when LiteRT cannot load it."""
        found = find_litert(options.folder, options.files)
        if not found:
            raise ArtifactRefused("there is no LiteRT model among the version's files")
        model = LiteRtModel(options.folder / found[0], options.threads)
        return cls(model, tuple(spec.name for spec in options.signature.outputs))

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when LiteRT refuses this input."""
        if any(array.size == 0 for array in inputs.values()):
            raise ModelRejectedInput("the model cannot run this input: LiteRT takes no empty tensor")
        feed = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in inputs.items()}
        try:
            found = self._model(feed)
        except _REJECTIONS as error:
            raise ModelRejectedInput(f"the model cannot run this input: {first_line(error)}") from None
        return {name: found[name] for name in self._outputs}


def _by_name(details: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {str(about["name"]): about for about in details}
    if len(found) != len(details):
        raise ArtifactRefused("two tensors of the model have the same name: convert it with a signature")
    return found


def datatype(kind: Any) -> str | None:
    """The V2 data type of a LiteRT tensor; None when no protocol carries it."""
    try:
        dtype = np.dtype(kind)
    except TypeError:
        return None
    if dtype.kind not in "biuf":
        return None
    return datatype_of(dtype)
