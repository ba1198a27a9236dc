"""One model out of a Triton model repository: ``config.pbtxt``, label files, and a version's folder with the model.

The configuration is held against the model: names, data types and dimensions have to agree. It gives class labels and
the batch size; what Triton would do beside running the model (ensembles, sequences, Python) is refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from modelport.engine.imports.declared import Declaration, read_text
from modelport.engine.imports.triton_config import datatype, parse
from modelport.engine.runtime import Inspected
from modelport.errors import ArtifactRefused
from modelport.tensors import TensorSpec

FILE = "config.pbtxt"
_NOT_SERVED = {
    "ensemble": "an ensemble of other models: push its members one by one",
    "python": "Python code (model.py): write it as a Python predictor",
    "tensorrt": "a TensorRT plan, which fits one kind of GPU: push the ONNX file that it was built from",
    "tensorflow": "a TensorFlow model: convert it with python -m tf2onnx.convert",
    "pytorch": "a TorchScript file: export the model with torch.onnx.export(…, dynamo=True)",
    "openvino": "an OpenVINO model: push the ONNX file that it was made from",
    "dali": "a DALI pipeline: preprocess in the client",
    "fil": "a forest for FIL: convert it with onnxmltools",
    "vllm": "a language model for vLLM",
}


def declaration(folder: Path, files: tuple[str, ...]) -> Declaration | None:
    """What ``config.pbtxt`` says; None when there is none. Raises ArtifactRefused for what is not served."""
    if FILE not in files:
        return None
    config = parse(read_text(folder, FILE))
    _check_kind(config)
    versions = sorted({name.partition("/")[0] for name in files if is_version_file(name)}, key=int)
    if len(versions) != 1:
        found = f"the versions {', '.join(versions[:10])}" if versions else "no version folder such as 1/"
        raise ArtifactRefused(f"the Triton model has {found}: push one version's folder together with config.pbtxt")
    inside = tuple(name for name in files if name.startswith(f"{versions[0]}/"))

    def complete(inspected: Inspected) -> Inspected:
        _check_against(config, inspected)
        details = {
            **inspected.details,
            "imported_from": "triton",
            "triton": {"name": config.name[:200], "version": int(versions[0]), "backend": _backend(config)[:100]},
            "max_batch": max(1, config.max_batch_size),
        }
        return replace(inspected, details=details, labels={**inspected.labels, **_labels(folder, files, config)})

    return Declaration(inside, complete, _advice(config))


def is_version_file(name: str) -> bool:
    """Whether a path begins with a version's folder, as Triton numbers them."""
    first, slash, _ = name.partition("/")
    return bool(slash) and first.isascii() and first.isdecimal() and not first.startswith("0") and len(first) < 10


def wanted_versions(config: Any, present: list[int]) -> list[int]:
    """Those of the present versions that Triton would serve by the configuration's policy, in order."""
    policy = config.version_policy
    if policy.HasField("all"):
        return sorted(present)
    if policy.HasField("specific"):
        return sorted(set(policy.specific.versions) & set(present))
    return sorted(present)[-max(1, policy.latest.num_versions) :]


def _backend(config: Any) -> str:
    return str(config.backend or config.platform.partition("_")[0])


def _check_kind(config: Any) -> None:
    if config.ensemble_scheduling or config.platform == "ensemble":
        raise ArtifactRefused(f"the Triton model is {_NOT_SERVED['ensemble']}")
    if _backend(config) == "python":
        raise ArtifactRefused(f"the Triton model is {_NOT_SERVED['python']}")
    if config.sequence_batching:
        raise ArtifactRefused(
            "the Triton model keeps state between requests (sequence_batching): export it with its state as inputs "
            "and outputs, and remove that block"
        )
    for tensor in (*config.input, *config.output):
        if tensor.HasField("reshape"):
            raise ArtifactRefused(f"'config.pbtxt': {tensor.name!r} has a reshape: put it into the model and remove it")


def _advice(config: Any) -> str | None:
    what = _NOT_SERVED.get(_backend(config))
    return None if what is None else f"the Triton model is {what}"


def _check_against(config: Any, inspected: Inspected) -> None:
    batched = config.max_batch_size > 0
    for kind, tensors, specs in (
        ("input", config.input, inspected.signature.inputs),
        ("output", config.output, inspected.signature.outputs),
    ):
        known = {spec.name: spec for spec in specs}
        for tensor in tensors:
            spec = known.get(tensor.name)
            if spec is None:
                raise ArtifactRefused(
                    f"'config.pbtxt' names the {kind} {tensor.name[:80]!r}, the model has {', '.join(known)[:300]}"
                )
            _check_tensor(kind, tensor, spec, batched)


def _check_tensor(kind: str, tensor: Any, spec: TensorSpec, batched: bool) -> None:
    declared = datatype(tensor.data_type)
    if declared != spec.datatype:
        raise ArtifactRefused(f"'config.pbtxt': {kind} {spec.name!r} is {declared}, the model has {spec.datatype}")
    dims = [-1, *tensor.dims] if batched else list(tensor.dims)
    if spec.dims == ("...",):
        return
    same_rank = len(dims) == len(spec.shape)
    if not same_rank or any(-1 not in (a, b) and a != b for a, b in zip(dims, spec.shape, strict=True)):
        with_batch = " with the batch dimension" if batched else ""
        raise ArtifactRefused(
            f"'config.pbtxt': {kind} {spec.name!r} has the dims {dims[:8]}{with_batch}, the model {list(spec.shape)}"
        )


def _labels(folder: Path, files: tuple[str, ...], config: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for output in config.output:
        name = output.label_filename
        if not name:
            continue
        if name not in files:
            raise ArtifactRefused(f"'config.pbtxt' names the label file {name[:80]!r}, which is not in the folder")
        labels = [line.strip()[:300] for line in read_text(folder, name).splitlines()]
        while labels and not labels[-1]:
            labels.pop()
        size = output.dims[-1] if output.dims else -1
        if size not in (-1, len(labels)):
            raise ArtifactRefused(f"{name!r} has {len(labels)} labels, output {output.name!r} has {size} classes")
        found[output.name] = labels
    return found
