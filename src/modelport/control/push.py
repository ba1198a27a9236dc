"""What a push turns into: inspected files, a checked sample, class labels at their outputs, and a manifest.

Nothing here writes; the registry does, once everything is known.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from modelport.engine.preprocessing import outer_signature, steps_of
from modelport.engine.proof import sample_inputs
from modelport.errors import InvalidInput
from modelport.schemas.models import FileEntry, Inspection, Manifest, VersionPush
from modelport.storage.paths import check_paths
from modelport.tensors import Signature, check_inputs, element_count


def digest_of(files: Sequence[FileEntry]) -> str:
    """SHA-256 over the sorted (path, sha256) pairs: equal files in equal places, equal digest."""
    pairs = sorted((entry.path, entry.sha256) for entry in files)
    return hashlib.sha256("".join(f"{sha256} {path}\n" for path, sha256 in pairs).encode()).hexdigest()


def check_push(push: VersionPush, max_file_bytes: int) -> None:
    """Raise InvalidInput for what is wrong with a push before anything is looked up."""
    check_paths(entry.path for entry in push.files)
    for entry in push.files:
        if entry.size > max_file_bytes:
            raise InvalidInput(
                f"file {entry.path!r}: {entry.size} bytes are over the limit of {max_file_bytes} "
                "(MODELPORT_ARTIFACTS_MAX_FILE_GB)"
            )
    for name, value in push.metrics.items():
        if not math.isfinite(value):
            raise InvalidInput(f"metrics.{name}: must be a finite number")
    check_alias_name(push.alias)
    texts = {"description": push.description, "licence": push.licence}
    texts |= {f"parents.{index}": text for index, text in enumerate(push.parents)}
    texts |= {f"class_labels.{index}": text for index, text in enumerate(push.class_labels or ())}
    for field, text in texts.items():
        if "\x00" in text:
            raise InvalidInput(f"{field}: holds a NUL character; leave it out")


def check_alias_name(alias: str | None) -> None:
    """Raise InvalidInput for the one name that always means the newest version."""
    if alias == "latest":
        raise InvalidInput("alias: 'latest' always means the newest version; choose another name")


def served_signature(found: Inspection, push: VersionPush) -> Signature:
    """What callers will send and get; raises InvalidInput for preprocessing that does not fit the model."""
    if not push.preprocessing:
        return found.signature
    steps = steps_of([step.model_dump() for step in push.preprocessing], found.signature)
    paths = {entry.path for entry in push.files}
    for step in steps:
        if step.file is not None and step.file not in paths:
            raise InvalidInput(
                f"preprocessing: {step.file[:120]!r} is not among the version's files; push it with them"
            )
    return outer_signature(steps, found.signature)


def make_manifest(
    name: str, number: int, push: VersionPush, found: Inspection, created_at: datetime, created_by: str
) -> Manifest:
    """The immutable description of a version."""
    signature = served_signature(found, push)
    _check_columns(push, signature)
    return Manifest(
        model=name,
        version=number,
        format=found.format,
        runtime=found.runtime,
        signature=signature,
        preprocessing=push.preprocessing,
        model_signature=found.signature if push.preprocessing else None,
        labels=class_labels(found, push.class_labels),
        details=found.details,
        files=push.files,
        size=sum(entry.size for entry in push.files),
        digest=digest_of(push.files),
        task=push.task,
        columns=push.columns,
        metrics=push.metrics,
        parents=push.parents,
        sample=push.sample if push.sample is not None or push.preprocessing else found.sample,
        description=push.description,
        licence=push.licence,
        created_at=created_at,
        created_by=created_by,
    )


def _check_columns(push: VersionPush, signature: Signature) -> None:
    names = [spec.name for spec in signature.inputs]
    for name in push.columns:
        if name not in names:
            raise InvalidInput(f"columns: the model has no input {name[:100]!r}; it has {', '.join(names)[:500]}")


def as_json(manifest: BaseModel) -> dict[str, Any]:
    """The manifest as it is stored; numbers that JSON does not have become null."""
    stored: dict[str, Any] = json.loads(manifest.model_dump_json())
    return stored


def class_labels(found: Inspection, names: Sequence[str] | None) -> dict[str, list[str]]:
    """Names of the classes by output: the artifact's own, or those given for each output that they fit."""
    if names is None:
        return found.labels
    fitting = list(_outputs_of_size(found, len(names)))
    if not fitting:
        sizes = {spec.name: list(spec.shape) for spec in found.signature.outputs}
        raise InvalidInput(f"class_labels: {len(names)} names fit the last dimension of no output; there are {sizes}")
    return {**found.labels, **{output: list(names) for output in fitting}}


def _outputs_of_size(found: Inspection, size: int) -> Iterator[str]:
    if found.labels:  # the artifact knows which outputs are scores
        yield from (output for output, own in found.labels.items() if len(own) == size)
        return
    scores = [spec for spec in found.signature.outputs if spec.datatype.startswith(("FP", "BF")) and spec.shape]
    exact = [spec.name for spec in scores if spec.shape[-1] == size]
    yield from exact or [spec.name for spec in scores if len(spec.shape) > 1 and spec.shape[-1] == -1]


class _Tensor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    datatype: str
    shape: list[int] = Field(max_length=32)
    data: list[Any]
    parameters: dict[str, Any] = {}


class _Sample(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    inputs: list[_Tensor] = Field(min_length=1, max_length=1000)


def check_sample(signature: Signature, sample: dict[str, Any] | None) -> None:
    """Raise InvalidInput unless the sample, ``{"inputs": [V2 tensors]}``, is what the signature takes."""
    if sample is None:
        return
    try:
        tensors = _Sample.model_validate(sample).inputs
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"sample.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    wanted = {spec.name: spec for spec in signature.inputs}
    given = [tensor.name for tensor in tensors]
    if sorted(given) != sorted(wanted):
        raise InvalidInput(f"sample.inputs: has {sorted(given)}, the model takes {sorted(wanted)}")
    for tensor in tensors:
        if tensor.datatype != wanted[tensor.name].datatype:
            raise InvalidInput(
                f"sample input {tensor.name!r}: datatype {tensor.datatype[:20]!r} given, "
                f"the model takes {wanted[tensor.name].datatype}"
            )
        flat = list(_flat(tensor.data, tensor.name))
        count = element_count(tensor.shape, tensor.name)
        if len(flat) != count:
            raise InvalidInput(
                f"sample input {tensor.name!r}: shape {tensor.shape} has {count} elements, data {len(flat)}"
            )
    try:
        arrays = sample_inputs(signature, sample)
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(
            "sample: an input's data is not of its datatype; give what `modelport predict` would take"
        ) from None
    check_inputs(signature, arrays)


def _flat(data: list[Any], name: str) -> Iterator[Any]:
    waiting = [iter(data)]
    while waiting:
        item = next(waiting[-1], waiting)
        if item is waiting:
            waiting.pop()
        elif isinstance(item, list):
            waiting.append(iter(item))
        elif isinstance(item, dict) or item is None or (isinstance(item, float) and not math.isfinite(item)):
            raise InvalidInput(f"sample input {name!r}: data holds {str(item)[:20]}, which is no element")
        else:
            yield item
