"""Which token comes next: logits to a token, as one request wants it chosen.

The order is that of transformers' ``generate``: what the text has to be, wishes for single tokens, penalties, then
temperature and the cuts of the distribution. Logprobs are the model's own, before all of that, as vLLM tells them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from modelport.engine.generation import Sampling
from modelport.engine.runtimes.transformers_grammar import Grammar

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Chosen:
    """One token, with its logprob and the likeliest ones where they were asked for."""

    token: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


class Choice:
    """Of one text. Chooses token after token, and remembers which."""

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], ends: Collection[int], words: int, grammar: Grammar | None
    ) -> None:
        """``ends`` are the tokens that end the text; ``words`` is the length of the logits."""
        self._sampling, self._grammar = sampling, grammar
        self._ends = torch.tensor(sorted(token for token in ends if token < words), dtype=torch.long)
        self._written = 0
        self._bias = torch.zeros(words)
        for token, bias in sampling.logit_bias.items():
            if 0 <= token < words:
                self._bias[token] = bias
        self._counts = torch.zeros(words)
        """Of each token in the answer."""
        self._seen = torch.zeros(words, dtype=torch.bool)
        """In prompt or answer."""
        self._seen[torch.tensor([token for token in prompt if token < words], dtype=torch.long)] = True
        self._cuts = _cuts(sampling)
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed % (1 << 63))

    @property
    def complete(self) -> bool:
        """Whether the grammar has come to its end."""
        return self._grammar is not None and self._grammar.complete

    def next(self, logits: torch.Tensor) -> Chosen | None:
        """From the logits [vocabulary], FP32 on the CPU; None when the grammar cannot be kept any further."""
        sampling, wished = self._sampling, logits
        if self._grammar is not None:
            allowed = self._grammar.allowed(len(logits))
            if allowed is None or not bool(allowed.any()):
                return None
            wished = logits.masked_fill(~allowed, _NEVER)
        wished = self._wished(wished)
        if sampling.temperature == 0:
            token = int(wished.argmax())
        else:
            odds = torch.softmax(self._cuts(None, wished[None])[0], 0)
            token = int(torch.multinomial(odds, 1, generator=self._random))
        self._written += 1
        self._counts[token] += 1
        self._seen[token] = True
        if self._grammar is not None:
            self._grammar.take(token)
        if sampling.logprobs is None:
            return Chosen(token)
        logprobs = torch.log_softmax(logits, 0)
        best = logprobs.topk(min(sampling.logprobs, len(logprobs))) if sampling.logprobs else None
        likeliest = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)) if best else ()
        return Chosen(token, float(logprobs[token]), likeliest)

    def _wished(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits after wishes for tokens and penalties."""
        sampling = self._sampling
        if sampling.logit_bias:
            logits = logits + self._bias
        if sampling.repetition_penalty != 1:
            penalty = sampling.repetition_penalty
            lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits = torch.where(self._seen, lowered, logits)
        if sampling.presence_penalty or sampling.frequency_penalty:
            logits = logits - sampling.frequency_penalty * self._counts
            logits = logits - sampling.presence_penalty * (self._counts > 0)
        if self._written < sampling.min_tokens:
            held = logits.index_fill(0, self._ends, _NEVER)
            logits = held if bool(held.max() > _NEVER) else logits  # a grammar may allow nothing but the end
        return logits


def _cuts(sampling: Sampling) -> LogitsProcessorList:
    """transformers' own, in its order."""
    found = LogitsProcessorList()
    if sampling.temperature not in (0, 1):
        found.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k > 0:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(max(float(sampling.top_p), 1e-9)))
    if sampling.min_p > 0:
        found.append(MinPLogitsWarper(float(sampling.min_p)))
    return found
