"""Runs torch.export programs with PyTorch: named numpy tensors in, named numpy tensors out.

The program is put together from checked JSON and raw weights: ``torch.export.load`` and its pickles have no part in it.
Knows nothing of requests, batches or processes.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from modelport.engine.formats.torch_archive import TorchArchive, find_archives
from modelport.engine.formats.torch_export import STORES, stored_tensors
from modelport.engine.formats.torch_program import checked
from modelport.engine.runtime import LoadOptions, Runtime
from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused, MissingExtra, ModelRejectedInput
from modelport.tensors import Array, Signature, dtype_of

try:
    import torch
    from torch._export.serde import schema, serialize
    from torch.utils import _pytree as pytree
except ImportError as error:
    raise MissingExtra("torch", f"running a PyTorch program ({first_line(error)})") from None

__all__ = ["TorchRuntime", "exported_program", "named", "program_archive", "run", "set_threads", "to_torch", "torch"]
_PLACE = re.compile(r"\*args\[(\d{1,4})\]")
#: What torch raises when a well-formed feed cannot be run.
REJECTIONS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


class TorchRuntime(Runtime):
    """One exported program on the CPU."""

    name = "torch"
    platform = "pytorch_export"

    def __init__(self, call: Callable[..., Any], arguments: Sequence[Any], signature: Signature) -> None:
        """``arguments`` has a placeholder name (``_Named``) where an input goes and a constant where none does."""
        self._call = call
        self._arguments = arguments
        self._outputs = [spec.name for spec in signature.outputs]

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Build the module of the version's program; raises ArtifactRefused when torch does not accept it."""
        set_threads(options.threads)
        program, arguments = _built(options)
        try:
            module = program.module()
        except Exception as error:
            raise _not_built(error) from None
        return cls(module, arguments, options.signature)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when torch refuses this input."""
        feed = [to_torch(inputs[found.name]) if isinstance(found, _Named) else found for found in self._arguments]
        try:
            return named(run(lambda: self._call(*feed)), self._outputs)
        except ModelRejectedInput as error:
            raise ModelRejectedInput(_PLACE.sub(self._place, error.message)) from None

    def _place(self, found: re.Match[str]) -> str:
        """An argument by its name: torch knows its place only."""
        argument = self._arguments[int(found.group(1))]
        return repr(argument.name) if isinstance(argument, _Named) else found.group()


class _Named:
    """Where an input goes among the arguments."""

    def __init__(self, name: str) -> None:
        self.name = name


def exported_program(options: LoadOptions) -> Any:
    """The version's program, for who makes something else of it; raises ArtifactRefused."""
    return _built(options)[0]


def _built(options: LoadOptions) -> tuple[Any, list[Any]]:
    """The program, and its arguments: ``_Named`` where an input goes."""
    archive = program_archive(options)
    with archive:
        model = archive.programs[0]
        program = checked(archive.json(f"models/{model}.json"))
        arguments = _arguments(program)
        _flatten(program, len(arguments))
        stores = [_tensors(archive, model, *store) for store in STORES]
        try:
            built = serialize._dict_to_dataclass(schema.ExportedProgram, program)
            return serialize.ExportedProgramDeserializer().deserialize(built, *stores, None), arguments
        except Exception as error:
            raise _not_built(error) from None


def _not_built(error: Exception) -> ArtifactRefused:
    return ArtifactRefused(
        f"torch {torch.__version__} cannot build the program: {first_line(error)}; "
        "export it with the release of torch that serves it"
    )


def program_archive(options: LoadOptions) -> TorchArchive:
    """The version's archive with an exported program; raises ArtifactRefused when there is none."""
    for name in find_archives(options.folder, options.files):
        archive = TorchArchive(options.folder / name)
        if archive.programs:
            return archive
    raise ArtifactRefused("there is no exported PyTorch program among the version's files")


def set_threads(count: int) -> None:
    """So many threads inside an operator, one operator at a time; and no warning about arrays that are only read."""
    torch.set_num_threads(count)
    warnings.filterwarnings("ignore")


def run(call: Callable[[], Any]) -> list[torch.Tensor]:
    """The tensors that a call returns; the input's fault as ModelRejectedInput, want of memory as MemoryError."""
    try:
        with torch.inference_mode():
            found = call()
    except REJECTIONS as error:
        if "can't allocate memory" in str(error):
            raise MemoryError("the model ran out of memory") from None
        raise ModelRejectedInput(f"the model cannot run this input: {first_line(error)}") from None
    return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]


def named(found: Sequence[torch.Tensor], names: Sequence[str]) -> dict[str, Array]:
    """Tensors as numpy arrays under the signature's names."""
    return {name: from_torch(tensor) for name, tensor in zip(names, found, strict=True)}


def to_torch(array: Array) -> torch.Tensor:
    """A tensor over the array's memory where numpy and torch agree on its layout."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def from_torch(tensor: torch.Tensor) -> Array:
    """The inverse of to_torch, always dense and row-major."""
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if tensor.dtype is torch.bfloat16:
        found: Array = tensor.view(torch.uint16).numpy().view(dtype_of("BF16"))
        return found
    plain: Array = tensor.numpy()
    return plain


def _arguments(program: dict[str, Any]) -> list[Any]:
    arguments: list[Any] = []
    for spec in program["graph_module"]["signature"]["input_specs"]:
        if "user_input" in spec:
            arguments.append(_Named(spec["user_input"]["arg"]["as_tensor"]["name"]))
        elif "constant_input" in spec:
            kind, value = next(iter(spec["constant_input"]["value"].items()))
            arguments.append(None if kind == "as_none" else value)
    return arguments


def _flatten(program: dict[str, Any], arguments: int) -> None:
    """Let the program take and give plain sequences: the caller's containers may be classes that only it has."""
    module = program["graph_module"]
    results = len(module["signature"]["output_specs"])
    module["module_call_graph"][0] = {
        "fqn": "",
        "signature": {
            "inputs": [],
            "outputs": [],
            "in_spec": pytree.treespec_dumps(pytree.tree_structure(((0,) * arguments, {}))),
            "out_spec": pytree.treespec_dumps(pytree.tree_structure((0,) * results)),
            "forward_arg_names": None,
        },
    }
    del module["module_call_graph"][1:]


def _tensors(archive: TorchArchive, model: str, folder: str, kind: str) -> dict[str, torch.Tensor]:
    """The tensors of one store; those that share bytes in the archive share memory here."""
    storages: dict[tuple[str, int], torch.Tensor] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, entry in stored_tensors(archive, model, folder, kind).items():
        meta, place = entry["tensor_meta"], entry["path_name"]
        dtype = serialize._SERIALIZE_TO_TORCH_DTYPE[meta["dtype"]]
        sizes, strides = ([size["as_int"] for size in meta[key]] for key in ("sizes", "strides"))
        if not math.prod(sizes):
            tensor = torch.empty(sizes, dtype=dtype)
        else:
            if (place, meta["dtype"]) not in storages:
                raw = bytearray(archive.read(folder + place))
                storages[place, meta["dtype"]] = torch.frombuffer(raw, dtype=dtype)
            tensor = torch.as_strided(storages[place, meta["dtype"]], sizes, strides, meta["storage_offset"]["as_int"])
        tensors[name] = torch.nn.Parameter(tensor, requires_grad=False) if entry.get("is_param") else tensor
    return tensors
