"""Batches of images for the loop: pixels from several stores, changed, scaled; the class; what the row counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from modelport.training.images.augment import Augmenter

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Pixels float32 [rows, channels, height, width], codes int64 [rows], weights float32 [rows]."""


class ImageExamples:
    """Chosen rows of stores."""

    def __init__(
        self, stores: Sequence[torch.Tensor], rows: Sequence[torch.Tensor], codes: torch.Tensor, weights: torch.Tensor,
        scaling: tuple[Sequence[float], Sequence[float]], augmenter: Augmenter | None = None,
    ) -> None:  # fmt: skip
        """``stores``: uint8 [rows, channels, height, width]; ``rows``: which of each; the rest is for all of them."""
        self._stores = list(stores)
        self._store = torch.cat([torch.full((len(one),), at) for at, one in enumerate(rows)])
        self._row = torch.cat(list(rows))
        self._codes, self._weights, self._augmenter = codes, weights, augmenter
        mean, deviation = (torch.tensor(levels, dtype=torch.float32).view(1, -1, 1, 1) for levels in scaling)
        self._factor = 1 / (255 * deviation)
        self._shift = mean / deviation

    def __len__(self) -> int:
        return len(self._row)

    def batch(self, rows: torch.Tensor, epoch: int) -> Batch:
        pixels = self._pixels(rows).float()
        if self._augmenter is not None:
            pixels = self._augmenter(pixels, rows, epoch)
        return pixels.mul_(self._factor).sub_(self._shift), self._codes[rows], self._weights[rows]

    def _pixels(self, rows: torch.Tensor) -> torch.Tensor:
        if len(self._stores) == 1:
            return self._stores[0].index_select(0, self._row[rows])
        found = torch.empty(len(rows), *self._stores[0].shape[1:], dtype=torch.uint8)
        for at, store in enumerate(self._stores):
            mine = (self._store[rows] == at).nonzero().squeeze(1)
            if len(mine):
                found[mine] = store.index_select(0, self._row[rows[mine]])
        return found
