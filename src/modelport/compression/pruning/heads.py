"""Attention in a network, however it is written: the layers that ask, are asked and tell, and how many heads they have.

Heads are taken out of all of them alike; the module's own numbers follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

_ASKING = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "heads")
_WIDTHS = ("all_head_size",)


@dataclass(slots=True)
class Attention:
    """One module of attention."""

    module: Any
    asking: tuple[nn.Linear, ...]
    heads: int

    def settle(self, counts: Mapping[nn.Module, int]) -> None:
        """Tell the module what it has now; ``counts``: heads by layer."""
        self.heads = counts.get(self.asking[0], self.heads)
        now = dict.fromkeys(_HEADS, self.heads) | dict.fromkeys(_WIDTHS, self.asking[0].out_features)
        for name, value in now.items():
            if isinstance(getattr(self.module, name, None), int):
                setattr(self.module, name, value)


def attentions(network: nn.Module) -> list[Attention]:
    """All of a network that have a number of heads and the usual names of layers."""
    found = []
    for module in network.modules():
        heads = next((value for name in _HEADS if isinstance(value := getattr(module, name, None), int)), None)
        layers = [[getattr(module, name, None) for name in names] for names in _ASKING]
        asking = next((each for each in layers if all(isinstance(one, nn.Linear) for one in each)), None)
        if heads is not None and asking is not None:
            found.append(Attention(module, tuple(one for one in asking if one is not None), heads))
    return found
