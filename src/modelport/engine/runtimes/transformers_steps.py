"""One forward pass for the new tokens of many texts, each of which has keys and values of its own.

Models whose attention transformers lets be replaced take all texts in one pass, side by side without padding: only the
attention knows where one ends, and a text's numbers do not depend on its neighbours' lengths. For all others, a pass
for each text. Which of the two is right for a model is found by trying. Knows tensors; knows no sampling, no requests.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused

_GROWTH = 1.5
_LEAST = 64
_NUMBERS = itertools.count()
_NEAR = 1e-3
"""So far may numbers be from those of one whole pass, as a share of the largest; more in half precision."""
_ROUGHLY = 5e-2
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError)


class Memory:
    """Keys and values of one text in every layer, [1, heads, tokens, width]."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put a layer's new ones behind those of ``tokens``; all of them."""
        begin = len(self.tokens)
        end = begin + keys.shape[2]
        held = self._layers.get(layer)
        if held is None or held[0].shape[2] < end:
            size = max(_LEAST, int(_GROWTH * end))
            wider = (_widened(held and held[0], keys, begin, size), _widened(held and held[1], values, begin, size))
            held = self._layers[layer] = wider
        held[0][:, :, begin:end] = keys
        held[1][:, :, begin:end] = values
        return held[0][:, :, :end], held[1][:, :, :end]

    def beginning(self, count: int) -> Memory:
        """A copy of the first ``count`` tokens'."""
        made = Memory()
        made.tokens = self.tokens[:count]
        made._layers = {
            layer: (keys[:, :, :count].clone(), values[:, :, :count].clone())
            for layer, (keys, values) in self._layers.items()
        }
        return made

    @property
    def bytes_per_token(self) -> int:
        """Of all layers."""
        return sum(
            tensor.element_size() * tensor.shape[1] * tensor.shape[3]
            for pair in self._layers.values()
            for tensor in pair
        )


def _widened(old: torch.Tensor | None, like: torch.Tensor, begin: int, size: int) -> torch.Tensor:
    made = like.new_empty((1, like.shape[1], size, like.shape[3]))
    if old is not None:
        made[:, :, :begin] = old[:, :, :begin]
    return made


class Steps(ABC):
    """How a model goes on with texts."""

    @abstractmethod
    def new(self) -> Any:
        """Memory for one more text; ``tokens`` says which it holds."""

    @abstractmethod
    def logits(self, work: Sequence[tuple[Any, Sequence[int]]]) -> torch.Tensor:
        """Go on with each memory by some tokens: the logits behind the last of each, [texts, vocabulary]."""

    @abstractmethod
    def bytes_per_token(self, memory: Any) -> int:
        """What one token takes; 0 when a text takes the same however long it is."""


class SideBySide(Steps):
    """All texts in one pass."""

    def __init__(self, model: Any) -> None:
        """Takes the model's attention over."""
        self._model = model
        self._now: Sequence[tuple[Memory, Sequence[int]]] = ()
        name = f"modelport_side_by_side_{next(_NUMBERS)}"
        AttentionInterface.register(name, self._attend)
        model.set_attn_implementation(name)

    def new(self) -> Memory:
        return Memory()

    def bytes_per_token(self, memory: Memory) -> int:
        return memory.bytes_per_token

    def logits(self, work: Sequence[tuple[Memory, Sequence[int]]]) -> torch.Tensor:
        device = self._model.device
        tokens = [token for _, new in work for token in new]
        places = [len(memory.tokens) + place for memory, new in work for place in range(len(new))]
        last = torch.tensor([len(new) for _, new in work], device=device).cumsum(0) - 1
        self._now = work
        with torch.inference_mode():
            found = self._model(
                input_ids=torch.tensor([tokens], device=device), position_ids=torch.tensor([places], device=device),
                use_cache=False, logits_to_keep=last,
            ).logits[0]  # fmt: skip
        self._now = ()
        for memory, new in work:
            memory.tokens += new
        logits: torch.Tensor = found.float()
        return logits

    def _attend(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: None,
        scaling: float | None = None, sliding_window: int | None = None, dropout: float = 0.0, **others: Any,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        """Tensors [1, heads, tokens, width] of all texts; each attends to its own."""
        others.pop("is_causal", None)
        answers, begin = [], 0
        for memory, new in self._now:
            here = slice(begin, begin + len(new))
            keys, values = memory.add(module.layer_idx, key[:, :, here], value[:, :, here])
            seen = _seen(len(new), keys.shape[2], sliding_window, query.device)
            answer, _ = sdpa_attention_forward(
                module, query[:, :, here], keys, values, seen, scaling=scaling, is_causal=True, **others
            )
            answers.append(answer)
            begin += len(new)
        return torch.cat(answers, 1), None


def _seen(new: int, total: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which of ``total`` places the last ``new`` attend to; None where that is all that are not behind them."""
    if (window is None or total <= window) and new in (1, total):
        return None
    theirs = torch.arange(total - new, total, device=device)[:, None]
    all_ = torch.arange(total, device=device)[None]
    seen = all_ <= theirs
    if window is not None:
        seen &= all_ > theirs - window
    return seen[None, None]


class _Alone:
    """transformers' own cache of one text."""

    def __init__(self, config: Any) -> None:
        self.tokens: list[int] = []
        self.cache = DynamicCache(config=config)


class OneByOne(Steps):
    """A pass for each text, with the cache that the model's own library makes for it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def new(self) -> _Alone:
        return _Alone(self._model.config)

    def bytes_per_token(self, memory: _Alone) -> int:
        held = [layer for layer in memory.cache.layers if getattr(layer, "keys", None) is not None]
        size = sum(int(tensor.nbytes) for layer in held for tensor in (layer.keys, layer.values))
        return size // len(memory.tokens)

    def logits(self, work: Sequence[tuple[_Alone, Sequence[int]]]) -> torch.Tensor:
        rows = []
        for memory, new in work:
            with torch.inference_mode():
                ids = torch.tensor([list(new)], device=self._model.device)
                found = self._model(input_ids=ids, past_key_values=memory.cache, use_cache=True, logits_to_keep=1)
            memory.tokens += new
            rows.append(found.logits[0, -1].float())
        return torch.stack(rows)


def tried(model: Any) -> tuple[Steps, int]:
    """The way that gives what whole passes give, all texts at once where that does, and the bytes that a token takes.

    Raises ArtifactRefused when neither does.
    """
    texts = _texts(int(model.config.get_text_config().vocab_size))
    try:
        with torch.inference_mode():
            wanted = [_whole(model, text) for text in texts]
    except _FAILURES as error:
        raise ArtifactRefused(f"transformers cannot run the model: {first_line(error)}") from None
    own, why = model.config._attn_implementation, "its numbers differ from those of a whole pass"
    for way in (SideBySide, OneByOne):
        try:
            steps = way(model)
            memory, right = _goes_on(steps, texts, wanted, _NEAR if model.dtype == torch.float32 else _ROUGHLY)
            if right:
                return steps, steps.bytes_per_token(memory)
        except _FAILURES as error:
            why = first_line(error)
        model.set_attn_implementation(own)
    raise ArtifactRefused(f"the model cannot be gone on with token by token ({why}); export it to another format")


def _texts(words: int) -> list[list[int]]:
    """Two of different length, of tokens that every vocabulary has."""
    return [[(7 * place + 3) % words for place in range(11)], [(5 * place + 1) % words for place in range(6)]]


def _whole(model: Any, text: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits[0, -2:]
    return logits.float()


def _goes_on(steps: Steps, texts: list[list[int]], wanted: list[torch.Tensor], share: float) -> tuple[Any, bool]:
    """Read both texts up to their last tokens, the longer one in two pieces, then go on with both."""
    memories = [steps.new() for _ in texts]
    steps.logits([(memories[0], texts[0][:4])])
    read = steps.logits([(memories[0], texts[0][4:-1]), (memories[1], texts[1][:-1])])
    next_ = steps.logits([(memory, text[-1:]) for memory, text in zip(memories, texts, strict=True)])
    right = all(
        _near(read[number], wanted[number][0], share) and _near(next_[number], wanted[number][1], share)
        for number in range(len(texts))
    )
    return memories[0], right


def _near(found: torch.Tensor, wanted: torch.Tensor, share: float) -> bool:
    return bool((found - wanted).abs().max() <= share * wanted.abs().max())
