"""Real texts that are on every machine that runs these tests: what installed libraries say of their own functions.

A row is a docstring's first paragraph, the class is the library; pairs are a function's name in words and its summary.
"""

from __future__ import annotations

import ast
import random
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modelport.schemas.datasets import Column, Facts
from modelport.training.recipe import TrainingData

LIBRARIES = ("aiohttp", "numpy", "sklearn", "sqlalchemy")


@cache
def docstrings(library: str) -> tuple[tuple[str, str, str], ...]:
    """Name, first paragraph and the second one of every function and class, once each, in the order of files."""
    spec = find_spec(library)
    assert spec is not None and spec.origin is not None
    found: dict[str, tuple[str, str, str]] = {}
    for path in sorted(Path(spec.origin).parent.rglob("*.py")):
        if "test" in str(path.relative_to(Path(spec.origin).parent)):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
                first, second = (" ".join(text.split()) for text in (first, rest.partition("\n\n")[0]))
                if 30 <= len(first) <= 400:
                    found.setdefault(first, (node.name, first, second))
    return tuple(found.values())


@cache
def topics(rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts and the library that each is from, as many of each, shuffled."""
    shuffled = random.Random(seed)
    found = [
        (text, library)
        for library in LIBRARIES
        for _, text, _ in shuffled.sample(docstrings(library), rows // len(LIBRARIES))
    ]
    shuffled.shuffle(found)
    return found


@cache
def pairs(rows: int, library: str = "sklearn", seed: int = 0) -> list[tuple[str, str]]:
    """What a function is called, in words, and what it says that it does."""
    known = [
        (" ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)).lower(), text)
        for name, text, _ in docstrings(library)
        if not name.startswith("_") and len(name) > 6
    ]
    known = list({name: (name, text) for name, text in known}.values())
    return random.Random(seed).sample(known, min(rows, len(known)))


def as_data(
    folder: Path, columns: dict[str, list[object]], target: str | None, validation: float = 0.25,
    replay: dict[str, list[object]] | None = None,
) -> TrainingData:  # fmt: skip
    """Rows as a job gives them to a recipe: the last ones validate."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    cut = round(len(table) * (1 - validation))
    parts = {"train": table.slice(0, cut), "validation": table.slice(cut)}
    if replay is not None:
        parts["replay"] = pa.table(replay)
    for name, part in parts.items():
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=100)
    types = {field.name: str(field.type) for field in table.schema}
    about = [
        Column(
            name=name, type=types[name], nulls=table[name].null_count,
            distinct=len({str(value) for value in table[name].to_pylist() if value is not None}),
        )
        for name in table.column_names
    ]  # fmt: skip
    return TrainingData(
        train=(folder / "train.parquet",),
        validation=(folder / "validation.parquet",),
        features={name: kind for name, kind in types.items() if name != target},
        target=target,
        target_type=types.get(target or ""),
        facts=Facts(rows=len(table), columns=about, label=target),
        replay=(folder / "replay.parquet",) if replay is not None else (),
    )
