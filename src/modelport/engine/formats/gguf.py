"""GGUF: a language model in one file, as llama.cpp and its kin read it.

Only the header is read, with bounds on all that it says, and every tensor has to lie inside the file: a header that
lies is refused. Knows the sizes of the blocks that weights are stored in; reads no weight.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from modelport.engine.runtime import Format, Inspected, Trust
from modelport.engine.texts import SIGNATURE
from modelport.errors import ArtifactRefused

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_KEYS, _MOST_TENSORS, _MOST_DIMENSIONS = 100_000, 1_000_000, 4
_LONGEST_KEY, _LONGEST_TEXT, _MOST_ELEMENTS = 65_535, 16 << 20, 16_000_000
_DEEPEST = 4
_EMBEDDING = "token_embd.weight"
_SHOWN_TEXT = 500
#: GGUF's types of values, by number, as ``struct`` reads them.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
#: ggml's types of tensors, by number: name, values in a block, bytes of a block.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}  # fmt: skip
#: Architectures that OpenVINO GenAI builds from the file (its documentation, "GGUF"), and types of weights it reads.
_SERVED = ("llama", "qwen2", "qwen3", "smollm3")
_SERVED_TYPES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q4_K", "Q6_K", "Q8_0")


class GgufFormat(Format):
    """One ``.gguf`` file, alone or with others beside it."""

    name = "gguf"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether a file begins as GGUF does."""
        return any(_begins(folder / name) for name in files)

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Read the header of the one file; raises ArtifactRefused with the cause and the next step."""
        found = [name for name in files if _begins(folder / name)]
        if len(found) > 1:
            raise ArtifactRefused(
                f"the folder holds {len(found)} GGUF files ({', '.join(found[:5])}): push them one by one"
            )
        path = folder / found[0]
        with path.open("rb") as file:
            header = _Header(file, path.stat().st_size, found[0])
            header.read()
        details = header.details()
        runtime = "" if "not_served" in details else "openvino-genai"
        return Inspected(self.name, runtime, SIGNATURE, {}, details)


def vocab_size_of(path: Path) -> int:
    """Rows of its embedding; 0 where none is found."""
    with path.open("rb") as file:
        header = _Header(file, path.stat().st_size, path.name)
        header.read()
    return int(header.details()["vocab_size"])


def _begins(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


class _Header:
    """What a file says of itself, held against its size."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self._file, self._size, self._name = file, size, name
        self._keys: dict[str, Any] = {}
        self._types: dict[str, int] = {}
        self._parameters = 0
        self._vocab_size = 0
        """Rows of the embedding, and so what there are logits of."""
        self._elements = 0

    def read(self) -> None:
        """All of the header; raises ArtifactRefused."""
        self._file.read(4)
        version, tensors, keys = self._number("I"), self._number("Q"), self._number("Q")
        if version not in _VERSIONS:
            raise ArtifactRefused(
                f"{self._name[:100]!r} is GGUF version {version}; {' and '.join(map(str, _VERSIONS))} are known: "
                "convert it again with a newer program"
            )
        if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
            raise self._damaged(f"it says that it has {keys} keys and {tensors} tensors")
        for _ in range(keys):
            key = self._text(_LONGEST_KEY)
            self._keys[key] = self._value(self._number("I"), 0)
        places = [self._tensor() for _ in range(tensors)]
        self._check_places(places)

    def _tensor(self) -> tuple[str, int, int]:
        """Name, place behind the header and bytes of a tensor."""
        name, dimensions = self._text(_LONGEST_KEY), self._number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise self._damaged(f"tensor {name[:80]!r} has {dimensions} dimensions")
        shape = [self._number("Q") for _ in range(dimensions)]
        kind, offset = self._number("I"), self._number("Q")
        if kind not in _TYPES:
            raise ArtifactRefused(f"tensor {name[:80]!r} is of type {kind}, which is not known here")
        title, block, size = _TYPES[kind]
        count = math.prod(shape)
        if count % block or (shape and shape[0] % block):
            raise self._damaged(f"tensor {name[:80]!r} is no whole number of blocks of {title}")
        self._types[title] = self._types.get(title, 0) + count
        self._parameters += count
        if name == _EMBEDDING and len(shape) == 2:
            self._vocab_size = shape[1]
        return name, offset, count // block * size

    def _check_places(self, places: list[tuple[str, int, int]]) -> None:
        alignment = self._keys.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {str(alignment)[:40]}")
        begin = -(-self._file.tell() // alignment) * alignment
        end = 0
        for name, offset, size in sorted(places, key=lambda place: place[1]):
            if offset % alignment or offset < end:
                raise self._damaged(f"tensor {name[:80]!r} lies where another is")
            end = offset + size
            if begin + end > self._size:
                raise self._damaged(f"tensor {name[:80]!r} ends behind the file")

    def details(self) -> dict[str, Any]:
        """Facts for the manifest."""
        architecture = str(self._keys.get("general.architecture", "unknown"))[:100]
        found: dict[str, Any] = {
            "architecture": architecture, "task": "generate", "parameters": self._parameters,
            "tensors": dict(sorted(self._types.items(), key=lambda entry: -entry[1])), "model_file": self._name,
            "vocab_size": self._vocab_size,
        }  # fmt: skip
        if (why := self._why_not_served(architecture)) is not None:
            found["not_served"] = why
        for title, key in (("model_name", "general.name"), ("licence", "general.license"),
                           ("max_tokens", f"{architecture}.context_length"),
                           ("tokenizer", "tokenizer.ggml.model")):  # fmt: skip
            value = self._keys.get(key)
            if isinstance(value, str | int):
                found[title] = value[:_SHOWN_TEXT] if isinstance(value, str) else value
        return found

    def _why_not_served(self, architecture: str) -> str | None:
        if architecture not in _SERVED:
            return f"of GGUF files those of {', '.join(_SERVED)} are, and this is {architecture!r}"
        strange = [title for title in self._types if title not in _SERVED_TYPES]
        if strange:
            return f"its weights are {', '.join(strange)}; {', '.join(_SERVED_TYPES)} are served: quantize it so"
        return None

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT)
        if kind != _LIST or depth >= _DEEPEST:
            raise self._damaged(f"it has a value of type {kind}")
        inner, count = self._number("I"), self._number("Q")
        self._elements += count
        if self._elements > _MOST_ELEMENTS:
            raise self._damaged("its lists are too long")
        if inner in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[inner]))
        else:
            for _ in range(count):
                self._value(inner, depth + 1)
        return None  # lists are words and their scores, which nobody asks about

    def _number(self, kind: str) -> int:
        size = struct.calcsize(f"<{kind}")
        raw = self._file.read(size)
        if len(raw) < size:
            raise self._damaged("it ends in the middle of its header")
        return struct.unpack(f"<{kind}", raw)[0]  # type: ignore[no-any-return]

    def _text(self, most: int) -> str:
        size = self._number("Q")
        if size > min(most, self._size - self._file.tell()):
            raise self._damaged(f"it has a text of {size} bytes")
        return self._file.read(size).decode(errors="replace")

    def _skip(self, size: int) -> None:
        if size > self._size - self._file.tell():
            raise self._damaged("a list ends behind the file")
        self._file.seek(size, 1)

    def _damaged(self, cause: str) -> ArtifactRefused:
        return ArtifactRefused(f"{self._name[:100]!r} is damaged, or no GGUF file: {cause}; copy or convert it again")
