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
#: What the runtime of a format needs: a module, and the extra that brings it. It has to answer here, to be compared.
_RUNTIMES = {
    "openvino": ("openvino", "openvino"), "litert": ("ai_edge_litert", "litert"), "torch_export": ("torch", "torch"),
    "gguf": ("transformers", "finetune"), "openvino_language": ("openvino_genai", "llm"),
}  # fmt: skip
#: A target and what the registry calls it: a language model's folder is a format of its own.
FORMATS: dict[Target, tuple[str, ...]] = {
    "onnx": ("onnx",), "openvino": ("openvino", "openvino_language"), "litert": ("litert",), "torch": ("torch_export",),
    "gguf": ("gguf",),
}  # fmt: skip
#: What packed weights may change of a language model: a probability of the next token, and the share of texts that
#: differ by more or have another likeliest token.
PACKED: dict[str, tuple[float, float]] = {"int8": (0.1, 0.25), "int4": (0.3, 0.5)}


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
    weights: bool = False
    """Whether the type of the weights can be chosen."""


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
    Converter(
        "language_openvino", "language", "openvino_language", extra="llm", tolerance=1e-2, asks_both=True, weights=True,
        requirements=("optimum-intel>=2.2,<2.3", "openvino=={openvino}", "openvino-tokenizers=={openvino-tokenizers}",
                      "torch=={torch}"),
    ),
)  # fmt: skip


def route(source: str, target: Target) -> list[Converter]:
    """The fewest converters from a source to a target; raises InvalidInput listing what it can become."""
    wanted = FORMATS[target]
    if source in wanted:
        raise InvalidInput(f"to: the model is {target} already; there is nothing to convert")
    before: dict[str, Converter | None] = {source: None}
    waiting = deque([source])
    while waiting:
        here = waiting.popleft()
        for found in CONVERTERS:
            if found.source == here and found.target not in before:
                before[found.target] = found
                waiting.append(found.target)
    made = next((name for name in wanted if name in before), None)
    if made is None:
        reached = [name for name in TARGETS if any(one in before and one != source for one in FORMATS[name])]
        known = f"it can become {', '.join(reached)}" if reached else "there is no converter from it"
        served = "; OpenVINO GenAI serves it as it is: deploy it" if (source, target) == ("gguf", "openvino") else ""
        raise InvalidInput(f"to: a model of the format {source!r} cannot become {target}: {known}{served}")
    steps: list[Converter] = []
    at = before[made]
    while at is not None:
        steps.append(at)
        at = before[at.source]
    return steps[::-1]


def check_installed(steps: list[Converter], target: Target) -> None:
    """Raise MissingExtra for what this interpreter lacks; imports nothing."""
    for step in steps:
        if any(find_spec(module) is None for module in step.needs):
            raise MissingExtra(step.extra, f"converting from {step.source} to {step.target}")
    module, extra = _RUNTIMES.get(steps[-1].target, ("onnxruntime", ""))
    if find_spec(module) is None:
        raise MissingExtra(extra, f"converting to {target}: the result is run here and compared,")


def requirements_of(step: Converter) -> list[str]:
    """The packages of a converter's own environment; ``NAME=={NAME}`` is the release that this server has, if any."""
    return [_as_here(requirement) for requirement in step.requirements]


def _as_here(requirement: str) -> str:
    name, pinned, _ = requirement.partition("=={")
    if not pinned:
        return requirement
    try:
        return f"{name}=={metadata.version(name).partition('+')[0]}"
    except metadata.PackageNotFoundError:
        return name
