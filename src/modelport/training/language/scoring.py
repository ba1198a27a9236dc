"""What answers token ids and a mask [rows, tokens]: scores of classes, or their probabilities [rows, classes]."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Scores(nn.Module):
    """A transformers classifier as a function of ids and mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return scores


class Probabilities(nn.Module):
    """The softmax of what a network scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.network(input_ids, attention_mask).float(), -1)
