"""A tokenizer that is learnt from the training rows. Knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tokenizers

PAD, START = "[PAD]", "[CLS]"
_LEAST = 300
"""Pieces: the 256 bytes, and some."""


def learnt_tokenizer(texts: Sequence[str], vocabulary: int, lower: bool) -> Any:
    """The most frequent pieces of words, of bytes, so that no text is unknown; the same texts give the same pieces.

    (The library's WordPiece trainer breaks ties by chance, and so does its BPE with a prefix for continuing pieces.)
    """
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=max(vocabulary, _LEAST), min_frequency=2, special_tokens=[PAD, START], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer, len(texts))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return tokenizer
