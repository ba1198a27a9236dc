"""A small encoder that is learnt from the training rows alone: no weights are needed.

Pieces of words are embedded, looked at in context by a few layers, and the mean and the largest of what they say is
the text's vector. The embeddings themselves go into it too, so that it begins as a bag of words and grows from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

_SHAPE = "small.json"
_WEIGHTS = "small.safetensors"


class Layer(nn.Module):
    """Attention and a feed-forward part, each added to what came in."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_part = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, mask_B11L: Tensor) -> Tensor:
        batch, length, width = x_BLD.shape
        mixed = self.mixed(self.norm(x_BLD)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask_B11L)
        x_BLD = x_BLD + self.dropout(self.out(seen.transpose(1, 2).reshape(batch, length, width)))
        return x_BLD + self.dropout(self.forward_part(self.norm_forward(x_BLD)))


class SmallClassifier(nn.Module):
    """Token ids and mask [rows, tokens] to a score of each class [rows, classes]."""

    def __init__(
        self, vocabulary: int, classes: int, width: int = 128, layers: int = 2, heads: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.shape: dict[str, Any] = {
            "vocabulary": vocabulary, "classes": classes, "width": width, "layers": layers, "heads": heads,
            "dropout": dropout,
        }  # fmt: skip
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.layers = nn.ModuleList(Layer(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(3 * width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(3 * width, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        there = attention_mask.unsqueeze(-1).to(self.embedding.weight.dtype)
        words = self.embedding(input_ids)
        found = self.dropout(words)
        seen = attention_mask[:, None, None, :].bool()
        for layer in self.layers:
            found = layer(found, seen)
        count = there.sum(1).clamp(min=1.0)
        mean, bag = (found * there).sum(1) / count, (words * there).sum(1) / count
        largest = found.masked_fill(there == 0, -1e4).amax(1)
        return self.head(self.dropout(self.norm(torch.cat([mean, largest, bag], 1))))

    def save(self, folder: Path) -> None:
        """Its sizes and weights as two files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _SHAPE).write_text(json.dumps(self.shape))
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / _WEIGHTS)


def saved_in(folder: Path) -> bool:
    """Whether a small classifier lies there."""
    return (folder / _SHAPE).is_file() and (folder / _WEIGHTS).is_file()


def load_small(folder: Path) -> SmallClassifier:
    """What ``save`` wrote."""
    model = SmallClassifier(**json.loads((folder / _SHAPE).read_text()))
    model.load_state_dict(load_file(folder / _WEIGHTS))
    return model
