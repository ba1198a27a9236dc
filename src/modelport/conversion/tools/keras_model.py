"""A Keras model, ``.keras`` or ``.h5``, on the torch backend and without TensorFlow; its own code is refused by name.

Keras' safe mode is asked for and not relied on: what is read here is read in a process that is shut in.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import torch

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.process import said
from modelport.errors import InvalidInput
from modelport.tensors import Array

_LARGEST = 64 << 20
_HDF5 = b"\x89HDF"


def load(request: dict[str, Any]) -> Any:
    """The model, without its optimizer; raises InvalidInput naming a layer that is code of its author's."""
    path = Path(request["folder"]) / request["place"]
    legacy = path.read_bytes()[:4] == _HDF5
    try:
        _check_layers(_config_h5(path) if legacy else _config_zip(path))
        link = Path(os.environ["TMPDIR"]) / ("model.h5" if legacy else "model.keras")  # Keras goes by the ending
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        model = keras.saving.load_model(link, compile=False, safe_mode=True)
    except InvalidInput:
        raise
    except Exception as error:  # Keras raises many kinds
        raise InvalidInput(f"Keras {keras.__version__} cannot load the model: {said(error)}") from None
    if not model.inputs:
        raise InvalidInput("the model was never built, so nobody knows what it takes: call it once, and save it again")
    return model


def specs_of(model: Any) -> list[tuple[str, tuple[int | None, ...], str]]:
    """Name, shape and element type of its inputs, in their order."""
    names = [tensor.name for tensor in model.inputs]
    clean = [name.replace("/", "_").replace(":", "_") for name in names]
    return [(name, tuple(t.shape), str(t.dtype)) for name, t in zip(clean, model.inputs, strict=True)]


class Flat(torch.nn.Module):
    """The model called with tensors in their order, giving a tuple."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        structure = getattr(model, "_inputs_struct", None)  # a Sequential has none, and one input
        self._nested = isinstance(structure, list | tuple | dict)
        self._keys = list(structure) if isinstance(structure, dict) else None

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given: Any = list(tensors) if self._nested else tensors[0]
        if self._keys is not None:
            given = dict(zip(self._keys, tensors, strict=True))
        found = self.model(given, training=False)
        return tuple(keras.tree.flatten(found))


def examples(model: Any) -> tuple[dict[str, torch.Tensor], dict[str, dict[int, str]]]:
    """Two rows for each input by name, and the dimensions that vary."""
    inputs, dynamic = {}, {}
    for name, shape, dtype in specs_of(model):
        size = [2 if at == 0 else dim or 4 for at, dim in enumerate(shape)]
        kind = getattr(torch, dtype, torch.float32)
        inputs[name] = torch.rand(size).to(kind) if kind.is_floating_point else torch.zeros(size, dtype=kind)
        free = {at: "rows" if at == 0 else f"size{at}" for at, dim in enumerate(shape) if dim is None}
        dynamic[name] = free
    return inputs, dynamic


def outputs_of(model: Any) -> list[str]:
    """Names of its outputs."""
    found = list(dict.fromkeys(getattr(model, "output_names", None) or []))
    count = len(keras.tree.flatten(model.outputs))
    return found if len(found) == count else ["output"] if count == 1 else [f"output_{n}" for n in range(count)]


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """What Keras itself answers to the inputs."""
    model = load(request)
    given = arrays.load(Path(request["inputs"]))
    tensors = [torch.from_numpy(np.ascontiguousarray(given[name])) for name in given]
    with torch.inference_mode():
        found = Flat(model).eval()(*tensors)
    answers: dict[str, Array] = {
        name: tensor.numpy() for name, tensor in zip(outputs_of(model), found, strict=True)
    }  # fmt: skip
    arrays.save(answers, out / ANSWERS)
    return {}


def _config_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _LARGEST:
            raise InvalidInput("the model's config.json is too large to be one; save the model again")
        return json.loads(archive.read("config.json"))


def _config_h5(path: Path) -> Any:
    with h5py.File(path, "r") as file:
        found = file.attrs.get("model_config")
    if found is None:
        raise InvalidInput("the .h5 file holds weights without a model: save the whole model with model.save()")
    return json.loads(found)


def _check_layers(config: Any) -> None:
    for node in _nodes(config):
        kind, module = str(node.get("class_name")), node.get("module")
        inner = node.get("config")
        name = inner.get("name") if isinstance(inner, dict) else None
        own = node.get("registered_name")
        is_own = bool(module is None and own and str(own) != kind) or bool(
            isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins", "tensorflow", "tf_keras")
        )
        if kind in ("Lambda", "__lambda__") or is_own:
            what = "a Lambda layer" if "ambda" in kind else f"the custom class {kind!r}"
            raise InvalidInput(
                f"layer {str(name or kind)[:100]!r} is {what}: code of its author's, which is never run here; replace "
                "it by Keras' own layers, or convert the model where its code is trusted"
            )


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "class_name" in node:
                yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
