"""A Hugging Face image classifier as ONNX, with its processor's settings as preprocessing: image files in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.process import said
from modelport.conversion.tools import onnx_file, torch_graph
from modelport.engine.formats.huggingface_folder import read_recipe
from modelport.errors import InvalidInput

INPUT, OUTPUT = "pixel_values", "probabilities"
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


class Answering(torch.nn.Module):
    """Pixels [rows, channels, height, width] to probabilities [rows, classes]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.model(pixel_values=pixel_values)[0], -1)


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """``model.onnx`` with its classes."""
    network, example, about = opened(request)
    graph = torch_graph.to_onnx(network, {INPUT: example}, [OUTPUT], {INPUT: {0: "rows"}}, request["opset"])
    onnx_file.set_labels(graph, about["class_labels"])
    onnx_file.write(graph, out)
    return {"report": onnx_file.facts(graph), **about}


def opened(request: dict[str, Any]) -> tuple[Answering, torch.Tensor, dict[str, Any]]:
    """The network, two rows of pixels, and what the folder says of classes and preprocessing."""
    network, config = _load(request)
    processor = json.loads((Path(request["folder"]) / "preprocessor_config.json").read_bytes())
    height, width = _size(processor.get("size") or config.image_size)
    channels = int(getattr(config, "num_channels", 3))
    about = {
        "preprocessing": [_step(processor, height, width, channels)],
        "class_labels": [str(config.id2label[at]) for at in sorted(config.id2label)],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "notes": ["image files are resized by Modelport's own step, which may differ from the processor's by rounding"],
    }  # fmt: skip
    return network, torch.rand(2, channels, height, width), about


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """What transformers answers to pixels."""
    network, _ = _load(request)
    given = arrays.load(Path(request["inputs"]))
    with torch.inference_mode():
        found = network(torch.from_numpy(np.ascontiguousarray(given[INPUT]))).numpy()
    arrays.save({OUTPUT: found}, out / ANSWERS)
    return {}


def _load(request: dict[str, Any]) -> tuple[Answering, Any]:
    folder, files = Path(request["folder"]), tuple(request["files"])
    read_recipe(folder, files)  # refuses code and pickles
    transformers.logging.set_verbosity_error()
    try:
        model = transformers.AutoModelForImageClassification.from_pretrained(
            str(folder), trust_remote_code=False, use_safetensors=True, local_files_only=True,
            attn_implementation="eager",
        ).eval()  # fmt: skip
    except Exception as error:
        raise InvalidInput(f"transformers {transformers.__version__} cannot load the model: {said(error)}") from None
    return Answering(model).eval(), model.config


def _size(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        side = size.get("shortest_edge", 224)
        return int(size.get("height") or side), int(size.get("width") or side)
    if isinstance(size, list | tuple):
        return int(size[0]), int(size[1])
    return int(size), int(size)


def _step(processor: dict[str, Any], height: int, width: int, channels: int) -> dict[str, Any]:
    """The processor's settings as a step of the manifest: (pixel * scale - mean) / std."""
    scale = float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 1.0
    means, spreads = processor.get("image_mean", 0.0), processor.get("image_std", 1.0)
    normal = processor.get("do_normalize", True)
    return {
        "kind": "image", "input": INPUT, "size": [height, width], "resize": "exact", "scale": scale,
        "interpolation": _RESAMPLE.get(processor.get("resample", 2), "bilinear"),
        "channels": "L" if channels == 1 else "RGB",
        "mean": _levels(means, channels) if normal else 0.0, "std": _levels(spreads, channels) if normal else 1.0,
    }  # fmt: skip


def _levels(given: Any, channels: int) -> Any:
    found = list(given) if isinstance(given, list | tuple) else given
    return found[0] if isinstance(found, list) and (channels == 1 or len(found) == 1) else found
