"""Smaller forms of a classifier of texts: fewer layers, narrower ones, fewer words that it knows.

A size says ``layers``, ``width`` (a share of the model's), ``feed`` (of its feed-forward parts) and ``vocabulary``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import nn

from modelport.errors import InvalidInput
from modelport.plugins import nearest
from modelport.training.language import small
from modelport.training.language.scoring import Scores

_KNOWN = ("layers", "width", "feed", "vocabulary")
_FEED = ("intermediate_size", "hidden_dim")
_SHARES = ((1.0, 1.0), (1.0, 0.5), (1.0, 0.25), (0.5, 0.5), (0.25, 0.25))


class FewerWords(nn.Module):
    """A network that knows some of the pieces of words, asked with the numbers of all of them."""

    def __init__(self, core: nn.Module, kept: Sequence[int], everything: int, unknown: int) -> None:
        """``kept`` are the numbers of the pieces that it knows, ``unknown`` the one that stands for the others."""
        super().__init__()
        self.core = core
        self.kept = list(kept)
        places = torch.full((everything,), self.kept.index(unknown))
        places[torch.tensor(self.kept)] = torch.arange(len(self.kept))
        self.register_buffer("places", places, persistent=False)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.core(self.places[input_ids], attention_mask)
        return found


def checked(size: Mapping[str, Any], layers: int, words: int) -> dict[str, Any]:
    """A size with all it can say; raises InvalidInput for what it cannot."""
    for name in size:
        if name not in _KNOWN:
            raise InvalidInput(f"size: there is no {name[:60]!r}{nearest(name, _KNOWN)}")
    found = {"layers": layers, "width": 1.0, "feed": size.get("width", 1.0), "vocabulary": words} | dict(size)
    for name, least, most in (("layers", 0, layers), ("vocabulary", 1, words)):
        value = found[name]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise InvalidInput(f"size.{name}: {str(value)[:60]} is no whole number from {least} to {most}")
    for name in ("width", "feed"):
        value = found[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
            raise InvalidInput(f"size.{name}: {str(value)[:60]} is no share above 0 and up to 1")
    return found


def layers_in(network: nn.Module) -> int:
    """How many layers it has."""
    if isinstance(network, small.SmallClassifier):
        return len(network.layers)
    return int(network.model.config.num_hidden_layers)


def words_in(network: nn.Module) -> int:
    """How many pieces of words it knows."""
    if isinstance(network, small.SmallClassifier):
        return int(network.shape["vocabulary"])
    return int(network.model.config.vocab_size)


def sizes(network: nn.Module, used: int) -> tuple[Mapping[str, Any], ...]:
    """Smaller ones, from the largest to the smallest; ``used`` are the words that rows use."""
    layers, words = layers_in(network), words_in(network)
    depths = sorted({layers, *(max(1, round(layers * share)) for share in (0.67, 0.5, 0.34, 0.17))}, reverse=True)
    lexicons = sorted({words, min(words, used)}, reverse=True)
    found = []
    for lexicon in lexicons:
        for depth in depths if layers else [0]:
            for width, feed in _SHARES:
                size = {"layers": depth, "vocabulary": lexicon, "width": width, "feed": feed}
                try:
                    found.append((weights_of(network, size), size))
                except InvalidInput:
                    continue
    limit = parameters(network)
    by_count = {count: size for count, size in reversed(found) if count < limit}
    return tuple(by_count[count] for count in sorted(by_count, reverse=True))


def weights_of(network: nn.Module, size: Mapping[str, Any]) -> int:
    """How many weights a form of that size has; nothing is filled."""
    with torch.device("meta"):
        return parameters(plain(network, checked(size, layers_in(network), words_in(network)), 0))


def parameters(network: nn.Module) -> int:
    """How many weights there are."""
    return sum(one.numel() for one in network.parameters())


def plain(network: nn.Module, size: Mapping[str, Any], pad: int) -> nn.Module:
    """The same kind of network with random weights; raises InvalidInput where its kind has no such form.

    ``size`` says all (``checked``); ``pad`` is the number of the piece that rows are padded with.
    """
    known = int(size["vocabulary"])
    if isinstance(network, small.SmallClassifier):
        shape = network.shape
        heads = max(1, round(int(shape["heads"]) * float(size["width"])))
        width = max(heads, round(int(shape["width"]) * float(size["width"]) / heads) * heads)
        return small.SmallClassifier(
            known, int(shape["classes"]), width, int(size["layers"]), heads, float(shape["dropout"])
        )
    return _transformer(network.model, size, pad)


def _transformer(model: Any, size: Mapping[str, Any], pad: int) -> nn.Module:
    config = copy.deepcopy(model.config)
    heads = int(config.num_attention_heads)
    own = max(1, round(heads * float(size["width"])))
    feed = next((name for name in _FEED if hasattr(config, name)), None)
    if feed is None:
        raise InvalidInput(f"size: of a {config.model_type} no smaller form is known")
    config.hidden_size = int(config.hidden_size) // heads * own
    config.num_attention_heads = own
    setattr(config, feed, max(8, round(int(getattr(config, feed)) * float(size["feed"]) / 8) * 8))
    config.num_hidden_layers = int(size["layers"])
    config.vocab_size, config.pad_token_id = int(size["vocabulary"]), pad
    try:
        made = transformers.AutoModelForSequenceClassification.from_config(config)
    except (ValueError, TypeError, RuntimeError, AttributeError, KeyError):
        raise InvalidInput(f"size: of a {config.model_type} no such form can be made; say layers alone") from None
    return Scores(made)


def is_as_built(network: nn.Module) -> bool:
    """Whether its weights fit a network that is built by what it says of itself; not after channels were cut out."""
    own = {name: one.shape for name, one in network.state_dict().items()}
    try:
        with torch.device("meta"):
            if isinstance(network, small.SmallClassifier):
                again: nn.Module = small.SmallClassifier(**network.shape)
            elif isinstance(network, Scores):
                again = Scores(type(network.model)(network.model.config))
            else:
                return False
    except (ValueError, TypeError, RuntimeError):
        return False
    return own == {name: one.shape for name, one in again.state_dict().items()}
