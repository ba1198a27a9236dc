"""A Python predictor: a folder with ``predictor.py``, ``modelport.yaml`` and perhaps ``requirements.txt``.

Everything is read, nothing is run: the class is found in the syntax tree, inputs and outputs are those that the YAML
declares. Runs only where the operator has allowed it. Knows no environment and no process.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from modelport.engine.formats.requirements import read_requirements
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.errors import ArtifactRefused, InvalidInput
from modelport.tensors import DATATYPES, Signature, TensorSpec, check_inputs, dtype_of

SOURCE, DECLARED, REQUIREMENTS = "predictor.py", "modelport.yaml", "requirements.txt"
NOT_ALLOWED = (
    "a Python predictor runs its author's code, and this server does not allow that. An operator who trusts whoever "
    "may push can set MODELPORT_TRUST_PYTHON_PREDICTORS=true (`modelport serve --allow-python`)"
)
_LARGEST_TEXT = 4 << 20
_MOST_TENSORS, _MOST_DIMENSIONS, _LONGEST_NAME = 256, 32, 100


class _Tensor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    labels: list[str] | None = None


class _Declared(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Tensor]
    outputs: list[_Tensor]
    batching: bool = True
    sample: dict[str, Any] | None = None


class PredictorFormat(Format):
    """Python source with a class ``Predictor``, or with one class that has ``predict``."""

    name = "predictor"
    precedence = 1  # its folder may hold the files of a model of any other format

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether the source has such a class; source that cannot be read as Python is claimed, to say so."""
        source = _source(files)
        if source is None:
            return False
        try:
            return find_class(_read(folder, source)) is not None
        except (SyntaxError, ValueError, RecursionError, ArtifactRefused):
            return source == SOURCE

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """The signature that is declared; raises ArtifactRefused when the operator does not allow predictors."""
        if not trust.python_predictors:
            raise ArtifactRefused(f"{NOT_ALLOWED}. If the folder holds a model of another format, push that file alone")
        try:
            class_name = find_class(_read(folder, _source(files) or SOURCE))
        except (SyntaxError, ValueError, RecursionError) as error:
            raise ArtifactRefused(f"{SOURCE} is not Python of this server's version: {_where(error)}") from None
        if DECLARED not in files or SOURCE not in files:
            raise ArtifactRefused(
                f"a Python predictor is a folder with {SOURCE} and {DECLARED}, which declares its inputs and outputs: "
                "{inputs: [{name: text, datatype: BYTES, shape: [-1]}], outputs: [{name: score, datatype: FP32, "
                "shape: [-1]}]}"
            )
        declared = _declared(_read(folder, DECLARED))
        text = _read(folder, REQUIREMENTS) if REQUIREMENTS in files else ""
        requirements = read_requirements(text, REQUIREMENTS)
        signature = Signature(_specs(declared.inputs, "inputs"), _specs(declared.outputs, "outputs"))
        return Inspected(
            format=self.name,
            runtime="predictor",
            signature=signature,
            labels={tensor.name: tensor.labels for tensor in declared.outputs if tensor.labels is not None},
            details={"class": class_name, "batching": declared.batching, "requirements": requirements},
            sample=None if declared.sample is None else _sample(signature, declared.sample),
        )


def find_class(source: str) -> str | None:
    """The predictor among the classes at a module's top; raises SyntaxError or ValueError for what is no Python."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    if any(node.name == "Predictor" for node in classes):
        return "Predictor"
    able = [node.name for node in classes if any(_is_predict(inside) for inside in node.body)]
    return able[0] if len(able) == 1 else None


def _is_predict(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "predict"


def _source(files: tuple[str, ...]) -> str | None:
    if SOURCE in files:
        return SOURCE
    return files[0] if len(files) == 1 and files[0].endswith(".py") else None


def _read(folder: Path, name: str) -> str:
    path = folder / name
    if path.stat().st_size > _LARGEST_TEXT:
        raise ArtifactRefused(f"{name[:120]!r} is larger than {_LARGEST_TEXT >> 20} MB")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ArtifactRefused(f"{name[:120]!r} is not UTF-8 text") from None


def _where(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"[:300]
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]


def _declared(text: str) -> _Declared:
    try:
        return msgspec.convert(yaml.safe_load(text), _Declared)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark is not None else "it cannot be read"
        raise ArtifactRefused(f"{DECLARED} is not YAML: {where}"[:400]) from None
    except (msgspec.ValidationError, RecursionError, ValueError) as error:
        raise ArtifactRefused(f"{DECLARED}: {str(error).replace('`', '')}"[:400]) from None


def _specs(tensors: list[_Tensor], field: str) -> tuple[TensorSpec, ...]:
    if not 0 < len(tensors) <= _MOST_TENSORS:
        raise ArtifactRefused(f"{DECLARED}: {field} has to name between 1 and {_MOST_TENSORS} tensors")
    for index, tensor in enumerate(tensors):
        where = f"{DECLARED}: {field}[{index}]"
        if not tensor.name.isprintable() or not 0 < len(tensor.name) <= _LONGEST_NAME:
            raise ArtifactRefused(f"{where}.name: 1 to {_LONGEST_NAME} printable characters")
        if tensor.datatype not in DATATYPES:
            raise ArtifactRefused(f"{where}.datatype: {tensor.datatype[:40]!r} is none of {', '.join(DATATYPES)}")
        if len(tensor.shape) > _MOST_DIMENSIONS or any(not -1 <= dim < 1 << 31 for dim in tensor.shape):
            raise ArtifactRefused(f"{where}.shape: dimensions are sizes, or -1 where any size will do")
        if tensor.name in {other.name for other in tensors[:index]}:
            raise ArtifactRefused(f"{where}.name: {tensor.name!r} is declared twice")
    return tuple(TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors)


def _sample(signature: Signature, sample: dict[str, Any]) -> dict[str, Any]:
    """The sample in V2 form."""
    datatypes = {spec.name: spec.datatype for spec in signature.inputs}
    arrays = {}
    try:
        for name, value in sample.items():
            arrays[name] = np.asarray(value, dtype_of(datatypes.get(name, "BYTES")))
        check_inputs(signature, arrays)
    except InvalidInput as error:
        raise ArtifactRefused(f"{DECLARED}: sample: {error.message}") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ArtifactRefused(f"{DECLARED}: sample.{name[:80]}: {str(error)[:200]}") from None
    inputs = [
        {"name": name, "datatype": datatypes[name], "shape": list(array.shape), "data": array.reshape(-1).tolist()}
        for name, array in arrays.items()
    ]
    if any(not isinstance(item, str) for entry in inputs if entry["datatype"] == "BYTES" for item in entry["data"]):
        raise ArtifactRefused(f"{DECLARED}: sample: BYTES are texts here, in lists of equal length")
    return {"inputs": inputs}
