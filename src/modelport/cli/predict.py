"""``modelport predict``: data from the command line, a file or a pipe; the answer as JSON, a table or .npy."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelport.cli.options import Endpoint, Key, Url

if TYPE_CHECKING:
    from modelport.sdk.client import Client
    from modelport.tensors import Array

_WRITTEN_AS_THEY_ARE = {"float16", "float32", "float64", "int32", "int64", "uint32", "uint64", "int8", "uint8", "bool"}


def predict(
    model: Endpoint,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="JSON, a .json .npy .npz .csv or image file, or - to read it.", show_default=False
        ),
    ],
    top_k: Annotated[int | None, typer.Option("--top-k", "-k", min=1, help="The K best classes by name.")] = None,
    output: Annotated[
        Literal["json", "table", "npy"] | None,
        typer.Option("--output", "-o", help="How to print; a table on a terminal, JSON into a pipe."),
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait at most.")] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Predict with a deployed model.

    Example: modelport predict digits images.npy --top-k 3
    """
    from modelport.cli.inputs import load
    from modelport.errors import InvalidInput, NotFound
    from modelport.sdk.client import Client

    form = output or ("table" if sys.stdout.isatty() else "json")
    if form == "npy" and (top_k is not None or sys.stdout.isatty()):
        raise InvalidInput("--output npy writes arrays into a file or pipe: give no --top-k and redirect the output")
    with Client(url, key) as client:
        try:
            given = load(data, lambda: client.metadata(model))
        except NotFound as error:
            if not _talks(client, model):
                raise
            talk = f"modelport chat {model} {shlex.quote(data[:200])}"
            raise NotFound(f"{error.message}; to talk to this language model: {talk}") from None
        if isinstance(given, int | float | str):
            given = [given]
        if top_k is not None and isinstance(given, dict) and len(given) == 1:
            given = next(iter(given.values()))
        found = client.predict(model, given, top_k=top_k, timeout=timeout)
    if top_k is not None:
        _print_classes(found, form)
    else:
        _print_arrays(found, form)


def _talks(client: Client, model: str) -> bool:
    """Whether it is a language model, as far as a server can be asked."""
    from modelport.errors import ModelportError

    try:
        return client.chat.task(model) == "chat/completions"
    except ModelportError:
        return False


def _print_classes(rows: Any, form: str) -> None:
    from modelport.cli import render

    if form == "json" or isinstance(rows, dict):
        render.as_json(rows)
        return
    batch = rows if rows and isinstance(rows[0], list) else [rows]
    lines = [
        (number, rank, entry["label"], f"{entry['score']:.4f}")
        for number, row in enumerate(batch)
        for rank, entry in enumerate(row, start=1)
    ]
    render.table(("ROW", "RANK", "LABEL", "SCORE"), lines, "no rows")


def _print_arrays(found: Array | dict[str, Array], form: str) -> None:
    import numpy as np

    from modelport.cli import render

    found = {name: _array(value) for name, value in found.items()} if isinstance(found, dict) else _array(found)
    if form == "npy":
        if isinstance(found, dict):
            arrays: dict[str, Any] = {name: _text_array(array) for name, array in found.items()}
            np.savez(sys.stdout.buffer, **arrays)
        else:
            np.save(sys.stdout.buffer, _text_array(found), allow_pickle=False)
    elif form == "json":
        named = {name: _jsonable(array) for name, array in found.items()} if isinstance(found, dict) else None
        render.as_json(named if isinstance(found, dict) else _jsonable(found))
    else:
        outputs = found if isinstance(found, dict) else {"result": found}
        rows = max((array.shape[0] if array.ndim else 1 for array in outputs.values()), default=0)
        lines = [(row, *(_cell_text(array, row) for array in outputs.values())) for row in range(rows)]
        render.table(("ROW", *(name.upper() for name in outputs)), lines, "no rows")


def _array(value: Any) -> Array:
    """A text that one row is answered by is no array yet."""
    import numpy as np

    return np.asarray(value, object if isinstance(value, bytes) else None)


def _text_array(array: Array) -> Array:
    """Bytes as numpy can store them without pickle."""
    return array.astype("S") if array.dtype.kind == "O" else array


def _listed(array: Array) -> Any:
    """Nested lists, with text for bytes."""

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(entry) for entry in value]
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    return text(array.tolist())


def _jsonable(array: Array) -> Any:
    """Numbers stay an array, which JSON then writes in their own precision."""
    return array if array.ndim and array.dtype.name in _WRITTEN_AS_THEY_ARE else _listed(array)


def _cell_text(array: Array, row: int) -> str:
    value = _listed(array[row : row + 1])[0] if array.ndim and row < array.shape[0] else _listed(array)
    if isinstance(value, list):
        shown = [f"{entry:.4g}" if isinstance(entry, float) else str(entry) for entry in value[:12]]
        return f"[{', '.join(shown)}{', …' if len(value) > 12 else ''}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
