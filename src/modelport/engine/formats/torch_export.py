"""PyTorch: a program saved with torch.export.save, alone or beside the native code that AOTInductor made of it.

Reads the archive's JSON and its raw weights; torch itself is not needed to look, and nothing of the artifact runs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from modelport.engine.formats.torch_archive import TorchArchive, find_archives
from modelport.engine.formats.torch_program import checked
from modelport.engine.formats.torch_signature import DATATYPES, signature_of
from modelport.engine.formats.torch_state import check_stateless
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.errors import ArtifactRefused
from modelport.tensors import dtype_of

#: Folder and configuration of a program's weights, and of its constants.
STORES = (("data/weights/", "weights"), ("data/constants/", "constants"))


class TorchExportFormat(Format):
    """``model.pt2`` under any name: an exported program, a compiled one, or both."""

    name = "torch_export"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether there is an archive that torch marked as ``pt2``."""
        return bool(find_archives(folder, files))

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read the signature; raises ArtifactRefused with the cause and the next step."""
        program: tuple[str, str] | None = None
        compiled: tuple[str, str] | None = None
        for file in find_archives(folder, files):
            with TorchArchive(folder / file) as archive:
                if len(archive.programs) > 1 or len(archive.compiled) > 1:
                    raise ArtifactRefused(f"{file!r} holds several models: package them one by one")
                if (archive.programs and program) or (archive.compiled and compiled):
                    raise ArtifactRefused("the folder holds several .pt2 models: push them one by one")
                program = program or (file, archive.programs[0]) if archive.programs else program
                compiled = compiled or (file, archive.compiled[0]) if archive.compiled else compiled
        if compiled is not None:
            _check_native_code(compiled[0], trust)
        if program is None:
            raise ArtifactRefused(
                "the AOTInductor package does not say what it takes: push a folder with it and the program that it was "
                "compiled from, saved with torch.export.save(program, 'program.pt2')"
            )
        with TorchArchive(folder / program[0]) as archive:
            found = checked(archive.json(f"models/{program[1]}.json"))
            signature = signature_of(found)
            check_stateless(found)
            details: dict[str, Any] = {
                "model_file": program[0],
                "torch": str(found.get("torch_version", ""))[:40],
                "parameters": _check_weights(archive, program[1]),
                **({"compiled_file": compiled[0]} if compiled else {}),
            }
            return Inspected(self.name, "aotinductor" if compiled else "torch", signature, {}, details)


def _check_native_code(file: str, trust: Trust) -> None:
    if not trust.native_code:
        raise ArtifactRefused(
            f"{file!r} is an AOTInductor package: native code, which could do anything here. An operator who trusts "
            "its author can allow such packages with the setting MODELPORT_TRUST_NATIVE_CODE=true; "
            "or push the exported program alone"
        )


def _check_weights(archive: TorchArchive, model: str) -> int:
    """Hold every tensor's place against the archive; returns the number of parameters."""
    parameters = 0
    for folder, kind in STORES:
        if archive.size(f"{folder}{model}.pt") is not None:
            raise ArtifactRefused(f"the program's {kind} are a pickle of an older torch: save it again with torch 2.9+")
        for name, entry in stored_tensors(archive, model, folder, kind).items():
            meta = entry["tensor_meta"]
            count = math.prod(_ints(meta["sizes"]))
            needed = _extent(meta) * dtype_of(DATATYPES[meta["dtype"]]).itemsize
            if (archive.size(folder + entry["path_name"]) or 0) < needed:
                raise ArtifactRefused(f"{name[:120]!r} is larger than its bytes in the archive: save it again")
            parameters += count if kind == "weights" else 0
    return parameters


def stored_tensors(archive: TorchArchive, model: str, folder: str, kind: str) -> dict[str, Any]:
    """Name to place and shape of the tensors in one store; raises ArtifactRefused for pickles and odd entries."""
    found = archive.json(f"{folder}{model}_{kind}_config.json").get("config")
    if not isinstance(found, dict):
        raise ArtifactRefused(f"the list of the program's {kind} is damaged: save it again")
    for name, entry in found.items():
        if not isinstance(entry, dict) or entry.get("use_pickle") is not False:
            raise ArtifactRefused(
                f"{name[:120]!r} is stored as a pickle (a custom object or a tensor subclass), and no pickle is "
                "accepted: export a module whose state is plain tensors"
            )
        meta: Any = entry.get("tensor_meta")
        try:
            if meta["dtype"] not in DATATYPES or meta["device"]["type"] != "cpu":
                raise ArtifactRefused(f"{name[:120]!r} has a type or device that is not served: export it on the CPU")
            plain = all(number >= 0 for number in (*_ints(meta["sizes"]), *_ints(meta["strides"])))
            plain &= meta["storage_offset"]["as_int"] >= 0 and len(meta["sizes"]) == len(meta["strides"])
        except (KeyError, TypeError):
            plain = False
        if not plain:
            raise ArtifactRefused(f"{name[:120]!r} has no plain shape: save the program again")
    return found


def _ints(sizes: list[dict[str, int]]) -> list[int]:
    return [size["as_int"] for size in sizes]


def _extent(meta: dict[str, Any]) -> int:
    """Elements from the start of the storage to the tensor's last."""
    sizes, strides = _ints(meta["sizes"]), _ints(meta["strides"])
    if 0 in sizes:
        return 0
    offset: int = meta["storage_offset"]["as_int"]
    return offset + 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
