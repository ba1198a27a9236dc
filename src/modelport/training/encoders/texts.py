"""A column of short texts to TF-IDF of its most frequent words.

A word is a run of letters, digits and ``_`` in ASCII, made small, or a run of anything else but spaces and ASCII: what
Python's and ONNX Runtime's expressions agree on.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Self

import numpy as np

from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import Rows

_WORD = r"[0-9A-Za-z_]+|[^\x00-\x7F]+"
_FIND = re.compile(_WORD)
_SMALL = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


@dataclass(frozen=True, slots=True)
class Words:
    """Counts of words times their smooth inverse document frequency, each row of length 1 (as TfidfVectorizer)."""

    column: str
    words: list[str]
    weights: list[float]

    @classmethod
    def fit(cls, rows: Rows, column: str, most: int) -> Self:
        """The ``most`` words that stand in most rows, two rows at least."""
        texts = rows[column].tolist()
        seen: Counter[str] = Counter()
        for text in texts:
            seen.update(set(_words(text)))
        kept = sorted(word for word, rows_with in seen.most_common(most) if rows_with > 1)
        weights = [float(np.float32(np.log((1 + len(texts)) / (1 + seen[word])) + 1)) for word in kept]
        return cls(column, kept, weights)

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and which word."""
        return [(self.column, word) for word in self.words]

    def transform(self, rows: Rows) -> Array:
        """[rows, words] float32."""
        places = {word: at for at, word in enumerate(self.words)}
        found = np.zeros((len(rows[self.column]), len(self.words)), np.float32)
        for row, text in enumerate(rows[self.column].tolist()):
            for word in _words(text):
                at = places.get(word)
                if at is not None:
                    found[row, at] += 1
        found *= np.array(self.weights, np.float32)
        length = np.sqrt((found * found).sum(axis=1, keepdims=True))
        result: Array = found / np.maximum(length, np.float32(1e-12))
        return result

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        flat = graph.shaped(graph.input(self.column, "BYTES"), -1)
        # an empty text would leave a row without words, and the table of words without width
        flat = graph.add("StringConcat", flat, graph.constant([" _"], object))
        small = graph.add("StringNormalizer", flat, case_change_action="LOWER", locale="C")
        words = graph.add("Tokenizer", small, tokenexp=_WORD, mark=0, mincharnum=1, pad_value="")
        codes = graph.add(
            "LabelEncoder", words,
            keys_strings=self.words, values_int64s=list(range(len(self.words))), default_int64=-1,
        )  # fmt: skip
        places = list(range(len(self.words)))
        counts = graph.add(
            "TfIdfVectorizer", codes, mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
            ngram_counts=[0], ngram_indexes=places, pool_int64s=places,
        )  # fmt: skip
        weighted = graph.add("Mul", counts, graph.constant([self.weights], np.float32))
        squares = graph.add("ReduceSumSquare", weighted, graph.constant([1], np.int64), keepdims=1)
        length = graph.add("Max", graph.add("Sqrt", squares), graph.constant(np.float32(1e-12)))
        return str(graph.add("Div", weighted, length))


def _words(text: str) -> list[str]:
    found: list[str] = _FIND.findall(text.translate(_SMALL))
    return [word for word in found if word != "_"]
