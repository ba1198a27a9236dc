"""Which converters there are, and which of them lead from a format to another one.

A converter is a file in ``tools``, and the libraries that it needs: in this interpreter by an extra of Modelport, or,
where they conflict with others or are very large, in a virtual environment of its own. Imports none of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from modelport.errors import InvalidInput, MissingExtra

Target = Literal["onnx", "openvino", "litert", "torch", "gguf"]
TARGETS: tuple[Target, ...] = ("onnx", "openvino", "litert", "torch", "gguf")
#: What the runtime of a format needs: it has to answer here, to be compared.
_RUNTIMES = {
    "openvino": ("openvino", "openvino"), "litert": ("ai_edge_litert", "litert"), "torch": ("torch", "torch"),
    "gguf": ("transformers", "finetune"),
}  # fmt: skip
#: A target and the format that the registry calls it.
FORMATS = {"onnx": "onnx", "openvino": "openvino", "litert": "litert", "torch": "torch_export", "gguf": "gguf"}


@dataclass(frozen=True, slots=True)
class Converter:
    """One way from a format to another."""

    tool: str
    """The file in ``tools``."""
    source: str
    """A registry's format, or a name of ``sources``."""
    target: str
    needs: tuple[str, ...] = ()
    """Modules in this interpreter."""
    extra: str = "convert"
    requirements: tuple[str, ...] = ()
    """Of the environment of its own; then ``needs`` is empty."""
    tolerance: float = 1e-3
    """What answers may differ by unless the caller says otherwise."""
    static: bool = False
    """Whether the number of rows is fixed."""
    asks_both: bool = False
    """Whether the tool asks the source and what became of it, for no runtime here serves them."""


CONVERTERS: tuple[Converter, ...] = (
    Converter("sklearn_onnx", "sklearn", "onnx", ("skl2onnx",)),
    Converter("torch_onnx", "torch_export", "onnx", ("torch", "onnxscript"), "train"),
    Converter("keras_onnx", "keras", "onnx", ("keras", "torch", "onnxscript"), "keras"),
    Converter("huggingface_onnx", "huggingface", "onnx", ("transformers", "torch", "onnxscript"), "finetune"),
    Converter("image_torch", "image_classifier", "torch_export", ("transformers", "torch"), "finetune"),
    Converter("image_onnx", "image_classifier", "onnx", ("transformers", "torch", "onnxscript"), "finetune"),
    Converter("xgboost_onnx", "xgboost", "onnx", ("xgboost", "onnxmltools"), "boosting"),
    Converter("lightgbm_onnx", "lightgbm", "onnx", ("lightgbm", "onnxmltools"), "boosting"),
    Converter("saved_model_onnx", "saved_model", "onnx", requirements=("tensorflow-cpu>=2.21,<3", "tf2onnx>=1.17")),
    Converter("paddle_onnx", "paddle", "onnx", requirements=("paddlepaddle>=3.3,<4", "paddle2onnx>=2.1", "packaging")),
    Converter("onnx_openvino", "onnx", "openvino", ("openvino",), "openvino"),
    Converter("onnx_litert", "onnx", "litert", requirements=("onnx2tf==1.29.24",), extra="litert"),
    Converter(
        "torch_litert", "torch_export", "litert", requirements=("litert-torch>=0.10,<0.11", "torch=={torch}"),
        extra="litert", static=True,
    ),
    Converter("keras_torch", "keras", "torch_export", ("keras", "torch"), "keras"),
    Converter(
        "language_gguf", "language", "gguf", ("gguf", "transformers", "torch"), "finetune", tolerance=1e-2,
        asks_both=True,
    ),
)  # fmt: skip


def route(source: str, target: Target) -> list[Converter]:
    """The fewest converters from a source to a target; raises InvalidInput listing what it can become."""
    wanted = FORMATS[target]
    before: dict[str, Converter | None] = {source: None}
    waiting = deque([source])
    while waiting:
        here = waiting.popleft()
        for found in CONVERTERS:
            if found.source == here and found.target not in before:
                before[found.target] = found
                waiting.append(found.target)
    if source == wanted:
        raise InvalidInput(f"to: the model is {target} already; there is nothing to convert")
    if wanted not in before:
        reached = [name for name in TARGETS if FORMATS[name] in before and FORMATS[name] != source]
        known = f"it can become {', '.join(reached)}" if reached else "there is no converter from it"
        raise InvalidInput(f"to: a model of the format {source!r} cannot become {target}: {known}")
    steps: list[Converter] = []
    at = before[wanted]
    while at is not None:
        steps.append(at)
        at = before[at.source]
    return steps[::-1]


def check_installed(steps: list[Converter], target: Target) -> None:
    """Raise MissingExtra for what this interpreter lacks; imports nothing."""
    for step in steps:
        if any(find_spec(module) is None for module in step.needs):
            raise MissingExtra(step.extra, f"converting from {step.source} to {step.target}")
    module, extra = _RUNTIMES.get(target, ("onnxruntime", ""))
    if find_spec(module) is None:
        raise MissingExtra(extra, f"converting to {target}: the result is run here and compared,")


def requirements_of(step: Converter) -> list[str]:
    """The packages of a converter's own environment; torch is the release that this server runs."""
    torch = metadata.version("torch").partition("+")[0] if "{torch}" in "".join(step.requirements) else ""
    return [found.format(torch=torch) for found in step.requirements]
