"""What a step of preprocessing is: rows of bytes in, some of the model's inputs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec


class Step(ABC):
    """Takes the place of some of the model's inputs. Checked against the signature when made; used once opened."""

    name: str
    """Of the BYTES input that callers send."""
    fills: tuple[str, ...]
    """Names of the model's inputs that it makes."""
    rows: int
    """First dimension of those inputs; -1 when it is dynamic."""
    file: str | None = None
    """Of the version: what it needs."""
    counted: Array | None = None
    """Tokens of each row that was last applied, INT32 [rows], where they were texts."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Load what it needs; raises MissingExtra or ArtifactRefused."""

    @abstractmethod
    def apply(self, rows: list[bytes]) -> dict[str, Array]:
        """The model's inputs; raises ModelRejectedInput naming the row that is not understood."""

    @abstractmethod
    def made_up(self, row: int, size: int) -> bytes:
        """An element to prove the model with; rows differ from each other in all that callers' may differ in."""


def find_input(signature: Signature, name: str, field: str) -> TensorSpec:
    """The model's input of that name; raises InvalidInput with those there are."""
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in signature.inputs)
    raise InvalidInput(f"preprocessing: {field} {name!r} is no input of the model; it has {known}")
