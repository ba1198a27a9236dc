"""Texts to token ids, padded to the longest of a run, with the tokenizer that lies among the version's files.

Knows the inputs' specifications and the declared options (``schemas.preprocessing.TextStep``); knows no runtime.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelport.engine.preprocessing.step import Step, find_input
from modelport.errors import ArtifactRefused, InvalidInput, MissingExtra, ModelRejectedInput
from modelport.tensors import Array, Signature, TensorSpec, dtype_of

_LONGEST = 1 << 20
"""Bytes of one text."""
_USUAL = {"mask": "attention_mask", "types": "token_type_ids"}
_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")


class TextInput(Step):
    """The inputs that are filled from texts."""

    def __init__(self, options: Mapping[str, Any], signature: Signature) -> None:
        self.name = options["name"]
        self.file = options["tokenizer"]
        self._specs = {"ids": find_input(signature, options["ids"], "ids")}
        known = {spec.name for spec in signature.inputs}
        for part, usual in _USUAL.items():
            name = options[part] or (usual if usual in known else None)
            if name is not None:
                self._specs[part] = find_input(signature, name, part)
        self.fills = tuple(spec.name for spec in self._specs.values())
        for spec in self._specs.values():
            if spec.datatype not in ("INT32", "INT64") or len(spec.shape) != 2:
                raise InvalidInput(
                    f"preprocessing: input {spec.name!r} is {spec.datatype}{list(spec.shape)}; "
                    "token ids are INT32 or INT64 [rows, tokens]"
                )
        ids = self._specs["ids"]
        self.rows = ids.shape[0]
        self._fixed = ids.shape[1] if ids.shape[1] > 0 else None
        self._max_length = min(options["max_length"], self._fixed or options["max_length"])

    def open(self, folder: Path) -> None:
        """Load the tokenizer; raises MissingExtra, or ArtifactRefused for a file that is none."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            tokenizers: Any = importlib.import_module("tokenizers")
        except ModuleNotFoundError:
            raise MissingExtra("text", "preprocessing of texts") from None
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(folder / str(self.file)))
            tokenizer.enable_truncation(self._max_length)
            tokenizer.enable_padding(length=self._fixed, **_padding(tokenizer))
        except Exception as error:  # the library raises bare exceptions
            raise ArtifactRefused(
                f"the tokenizer {self.file!r} cannot be loaded: {str(error)[:200]}; "
                "save it with tokenizers' own Tokenizer.save"
            ) from None
        self._tokenizer = tokenizer

    def apply(self, rows: list[bytes]) -> dict[str, Array]:
        """``[rows, tokens]`` of ids, mask and types; raises ModelRejectedInput naming the row."""
        found = self._encoded(rows)
        self.counted = np.array([sum(each.attention_mask) for each in found], np.int32)
        parts = {"ids": "ids", "mask": "attention_mask", "types": "type_ids"}
        return {
            spec.name: _matrix(spec, [getattr(each, parts[part]) for each in found])
            for part, spec in self._specs.items()
        }

    def mask(self, rows: list[bytes]) -> Array:
        """``[rows, tokens]``: 1 for a token, 0 for the padding that ``apply`` gives the same rows."""
        return np.array([each.attention_mask for each in self._encoded(rows)], np.int64)

    def _encoded(self, rows: list[bytes]) -> list[Any]:
        texts = [self._text(row, index) for index, row in enumerate(rows)]
        found: list[Any] = self._tokenizer.encode_batch(texts)
        return found

    def _text(self, row: bytes, index: int) -> str:
        if len(row) > _LONGEST:
            raise ModelRejectedInput(
                f"input {self.name!r}: row {index} is a text of {len(row)} bytes, over {_LONGEST}; send it in parts"
            )
        try:
            return row.decode()
        except UnicodeDecodeError:
            raise ModelRejectedInput(
                f"input {self.name!r}: row {index} is not UTF-8 text; encode it as UTF-8"
            ) from None

    def made_up(self, row: int, size: int) -> bytes:
        """A text; rows differ in length too."""
        return b"a" + b" b" * 2 * row


def _padding(tokenizer: Any) -> dict[str, Any]:
    """How the tokenizer itself pads, or with the first of the usual tokens that it has."""
    own = tokenizer.padding
    if own is not None:
        return {key: own[key] for key in ("direction", "pad_id", "pad_type_id", "pad_token")}
    for token in _PAD_TOKENS:
        found = tokenizer.token_to_id(token)
        if found is not None:
            return {"pad_id": found, "pad_token": token}
    return {}


def _matrix(spec: TensorSpec, rows: list[list[int]]) -> Array:
    return np.array(rows, dtype_of(spec.datatype)).reshape(len(rows), len(rows[0]) if rows else 0)
