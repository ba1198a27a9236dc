"""The network as it is served: raw columns in, each an input of its own; probabilities or numbers out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from modelport.training.modules.rows import Inputs, Scaling

_MOST_INPUTS = 128
STACKED = "numbers"
PIXELS = "pixels"


class Served(nn.Module):
    """Columns of numbers [rows, 1] (or, where there are many, one input of all), list columns, pixels."""

    def __init__(
        self, network: nn.Module, columns: Sequence[str], vectors: Sequence[str], image: bool, scaling: Scaling,
        classes: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self._vectors, self._image, self._classes = network, list(vectors), image, classes
        self._columns, self._scaling = list(columns), scaling
        self._apart = len(columns) <= _MOST_INPUTS

    @property
    def inputs(self) -> list[str]:
        """Their names, in order."""
        numbers = self._columns if self._apart else [STACKED]
        return [*(numbers if self._columns else []), *self._vectors, *([PIXELS] if self._image else [])]

    @property
    def columns(self) -> dict[str, list[str]]:
        """Columns by input, where the names do not tell."""
        return {} if self._apart else {STACKED: self._columns}

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        given = dict(zip(self.inputs, values, strict=True))
        inputs: Inputs = {name: given[name] for name in self._vectors}
        if self._columns:
            apart = self._apart
            numbers = torch.cat([given[name] for name in self._columns], 1) if apart else given[STACKED]
            inputs["numbers"] = self._scaling.of(numbers)
        if self._image:
            inputs["image"] = given[PIXELS]
        found = self.network(**inputs)
        return torch.softmax(found.float(), 1) if self._classes else self._scaling.predicted(found.float())

    def raw(self, numbers: torch.Tensor, vectors: Inputs, pixels: torch.Tensor | None) -> Inputs:
        """Rows as callers would send them, by input."""
        found: Inputs = {}
        if self._columns and self._apart:
            found = {name: numbers[:, at : at + 1].contiguous() for at, name in enumerate(self._columns)}
        elif self._columns:
            found = {STACKED: numbers}
        found |= vectors
        if pixels is not None:
            found[PIXELS] = pixels.float() / 255
        return found
