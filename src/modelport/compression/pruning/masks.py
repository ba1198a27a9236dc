"""Which weights stay: from what each of them matters to masks of zeros and ones, for single ones or blocks of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

Block = tuple[int, int]


def masks_of(
    scores: Mapping[str, torch.Tensor], share: float, block: Block = (1, 1), *, by_layer: bool = False,
    by_row: bool = False,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Ones where weights stay; a ``share`` of all (of each layer, of each of its rows) is zero, to a block.

    Equal scores are told apart by their places, so that neither more nor less goes.
    """
    blocks = {name: blocked(one, block) for name, one in scores.items()}
    if by_layer:
        kept = {name: _of_each(one, share) if by_row else _of_all(one, share) for name, one in blocks.items()}
    else:
        together = _of_all(torch.cat([one.reshape(-1) for one in blocks.values()]), share)
        pieces = together.split([one.numel() for one in blocks.values()])
        kept = {name: piece.view_as(one) for (name, one), piece in zip(blocks.items(), pieces, strict=True)}
    return {name: unblocked(one, scores[name], block) for name, one in kept.items()}


def masks_below(scores: Mapping[str, torch.Tensor], threshold: float, block: Block = (1, 1)) -> dict[str, torch.Tensor]:
    """Zeros where less than the threshold matters."""
    return {name: unblocked((blocked(one, block) >= threshold).float(), one, block) for name, one in scores.items()}


def blocked(scores: torch.Tensor, block: Block) -> torch.Tensor:
    """The mean of each block of the scores as a matrix [outputs, inputs × places]."""
    matrix = scores.reshape(scores.shape[0], -1)
    if block == (1, 1):
        return matrix
    return functional.avg_pool2d(matrix[None], block, block, ceil_mode=True, count_include_pad=False)[0]


def unblocked(kept: torch.Tensor, like: torch.Tensor, block: Block) -> torch.Tensor:
    """What holds for blocks, for the weights in them."""
    whole = kept.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
    columns = like.numel() // like.shape[0]
    return whole[: like.shape[0], :columns].reshape(like.shape).contiguous()


def share_of_zeros(masks: Mapping[str, torch.Tensor]) -> float:
    """Over all."""
    total = sum(one.numel() for one in masks.values())
    return 1.0 - sum(float(one.sum()) for one in masks.values()) / float(total)


def _of_all(scores: torch.Tensor, share: float) -> torch.Tensor:
    order = scores.reshape(-1).argsort(stable=True)
    kept = torch.ones(scores.numel(), dtype=torch.float32)
    kept[order[: round(share * scores.numel())]] = 0
    return kept.view_as(scores)


def _of_each(scores: torch.Tensor, share: float) -> torch.Tensor:
    order = scores.argsort(dim=1, stable=True)
    kept = torch.ones(scores.shape, dtype=torch.float32)
    return kept.scatter(1, order[:, : round(share * scores.shape[1])], 0.0)
