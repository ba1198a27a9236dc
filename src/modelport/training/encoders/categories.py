"""A column of names to numbers: a column of 0 and 1 for each, or what the target is on average where it stands.

A text that is missing is the empty text: a name as any other where it was seen. Names that were never seen are all 0,
or the average of everything. ``""`` and null are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import TargetEncoder
from sklearn.utils import murmurhash3_32
from sklearn.utils.multiclass import type_of_target

from modelport.tensors import Array
from modelport.training.encoders.graph import Graph
from modelport.training.encoders.table import Rows


@dataclass(frozen=True, slots=True)
class OneHot:
    """A column of 0 and 1 for each of the most frequent names."""

    column: str
    categories: list[str]

    @classmethod
    def fit(cls, rows: Rows, column: str, most: int) -> Self:
        """The ``most`` most frequent names."""
        found, counts = np.unique(rows[column].astype(str), return_counts=True)
        kept = found[np.argsort(-counts, kind="stable")[:most]]
        return cls(column, sorted(kept.tolist()))

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and which name."""
        return [(self.column, name) for name in self.categories]

    def transform(self, rows: Rows) -> Array:
        """[rows, names] float32."""
        codes = _codes(rows[self.column], self.categories)
        found: Array = (codes[:, None] == np.arange(len(self.categories))).astype(np.float32)
        return found

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        codes = graph.add(
            "LabelEncoder", graph.input(self.column, "BYTES"),
            keys_strings=self.categories, values_int64s=list(range(len(self.categories))), default_int64=-1,
        )  # fmt: skip
        return graph.cast(graph.add("Equal", codes, graph.constant([range(len(self.categories))], np.int64)), "FP32")


@dataclass(frozen=True, slots=True)
class NumberOneHot:
    """A column of 0 and 1 for each of the most frequent numbers of a column; the rest, and what is missing, all 0."""

    column: str
    categories: list[float]

    @classmethod
    def fit(cls, rows: Rows, column: str, most: int) -> Self:
        """The ``most`` most frequent numbers."""
        known = rows[column].astype(np.float64)
        found, counts = np.unique(known[np.isfinite(known)], return_counts=True)
        return cls(column, sorted(found[np.argsort(-counts, kind="stable")[:most]].tolist()))

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and which number."""
        return [(self.column, f"{number:g}") for number in self.categories]

    def transform(self, rows: Rows) -> Array:
        """[rows, numbers] float32."""
        found: Array = rows[self.column].astype(np.float64)[:, None] == np.array([self.categories])
        return found.astype(np.float32)

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        values = graph.input(self.column, "FP64")
        return graph.cast(graph.add("Equal", values, graph.constant([self.categories], np.float64)), "FP32")


@dataclass(frozen=True, slots=True)
class TargetMeans:
    """What the target is on average where each name stands, drawn to the average of all where it is rare; and how
    frequent the name is.

    The averages that a row is learnt from are made without it (scikit-learn's TargetEncoder).
    """

    column: str
    categories: list[str]
    means: list[list[float]]
    """By class (one for numbers and for two classes), by name."""
    default: list[float]
    frequencies: list[float]

    @classmethod
    def fit(cls, rows: Rows, column: str, target: Array | None, seed: int) -> tuple[Self, Array]:
        """Learn, and the matrix of the rows that it was learnt from. Without target only frequencies."""
        values = rows[column].astype(str)
        found, counts = np.unique(values, return_counts=True)
        frequencies = (counts / max(len(values), 1)).astype(np.float32).astype(float).tolist()
        if target is None:
            made = cls(column, found.tolist(), [], [], frequencies)
            return made, made.transform(rows)
        names = type_of_target(target) != "continuous"
        folds = (StratifiedKFold if names else KFold)(5, shuffle=True, random_state=seed)
        encoder = TargetEncoder(cv=folds)
        fitted = encoder.fit_transform(values.astype(object)[:, None], target)
        means = [np.asarray(each, np.float32).astype(float).tolist() for each in encoder.encodings_]
        order = encoder.categories_[0].tolist()
        share = dict(zip(found.tolist(), frequencies, strict=True))
        default = np.atleast_1d(np.asarray(encoder.target_mean_, np.float32)).astype(float).tolist()
        made = cls(column, [str(name) for name in order], means, default, [share[str(name)] for name in order])
        return made, np.concatenate([fitted.astype(np.float32), made.transform(rows)[:, -1:]], axis=1)

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and what of it."""
        return [*((self.column, f"mean {at}") for at in range(len(self.means))), (self.column, "frequency")]

    def transform(self, rows: Rows) -> Array:
        """[rows, width] float32."""
        codes = _codes(rows[self.column], self.categories)
        tables = [*zip(self.means, self.default, strict=True), (self.frequencies, 0.0)]
        return np.stack([np.array([*table, other], np.float32)[codes] for table, other in tables], axis=1)

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        name = graph.input(self.column, "BYTES")
        tables = [*zip(self.means, self.default, strict=True), (self.frequencies, 0.0)]
        parts = [
            graph.add("LabelEncoder", name, keys_strings=self.categories, values_floats=table, default_float=other)
            for table, other in tables
        ]
        return str(graph.add("Concat", *parts, axis=1)) if len(parts) > 1 else str(parts[0])


@dataclass(frozen=True, slots=True)
class Hashed:
    """Names by a hash (MurmurHash3) into so many columns of 0 and 1: new names share columns with old ones."""

    column: str
    buckets: int

    @property
    def names(self) -> list[tuple[str, str]]:
        """Column, and which bucket."""
        return [(self.column, f"bucket {at}") for at in range(self.buckets)]

    def transform(self, rows: Rows) -> Array:
        """[rows, buckets] float32."""
        hashes = [murmurhash3_32(str(name), seed=0, positive=True) for name in rows[self.column].tolist()]
        codes = np.array(hashes, np.int64) % self.buckets
        found: Array = (codes[:, None] == np.arange(self.buckets)).astype(np.float32)
        return found

    def nodes(self, graph: Graph) -> str:
        """The same as ONNX."""
        hashes = graph.cast(graph.add("MurmurHash3", graph.input(self.column, "BYTES"), seed=0, positive=1), "INT64")
        codes = graph.add("Mod", hashes, graph.constant([self.buckets], np.int64))
        return graph.cast(graph.add("Equal", codes, graph.constant([range(self.buckets)], np.int64)), "FP32")


def _codes(values: Array, categories: list[str]) -> Array:
    """The place of each name, -1 for one that is not there."""
    known = {name: at for at, name in enumerate(categories)}
    return np.array([known.get(str(value), -1) for value in values.tolist()], np.int64)
