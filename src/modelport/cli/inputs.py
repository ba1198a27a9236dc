"""What people type or keep in files, as data: ``k=v`` pairs, class names, JSON, .npy, .npz and CSV.

Every refusal names the argument or the file's line.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelport.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from modelport.schemas.deployments import EngineOptions
    from modelport.sdk.inference import ModelMetadata
    from modelport.tensors import Array, TensorSpec


def pairs(given: Sequence[str] | None, what: str) -> dict[str, str]:
    """``["k=v", …]`` as a dict."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidInput(f"{what} {text[:100]!r} is not like KEY=VALUE")
        found[name] = value
    return found


def variables(given: Sequence[str] | None) -> dict[str, str]:
    """``["k=v", "k", …]`` as a dict; a name alone has the value that this environment gives it."""
    return pairs([_from_here(text) for text in given or ()], "--env")


def _from_here(text: str) -> str:
    if not text or "=" in text:
        return text
    if text not in os.environ:
        raise InvalidInput(f"--env {text[:100]!r}: the environment has no such variable; set it, or give NAME=VALUE")
    return f"{text}={os.environ[text]}"


def amount(given: str | None, what: str) -> int | None:
    """``512Mi`` as bytes."""
    if given is None:
        return None
    from pydantic import TypeAdapter, ValidationError

    from modelport.schemas.deployments import Amount, bytes_of

    try:
        return bytes_of(TypeAdapter(Amount).validate_python(given))
    except ValidationError:
        raise InvalidInput(f"{what} {given[:100]!r} is no amount; give one like 512Mi or 4Gi") from None


def engine_options(given: Sequence[str] | None) -> EngineOptions | None:
    """``["max_model_len=4096", …]`` as what is asked of an engine."""
    if not given:
        return None
    from pydantic import ValidationError

    from modelport.schemas.deployments import EngineOptions
    from modelport.schemas.problems import told

    try:
        return EngineOptions.model_validate(pairs(given, "--engine"))
    except ValidationError as error:
        raise InvalidInput(f"--engine {told(error.errors()[0], EngineOptions)}") from None


def numbers(given: Sequence[str] | None, what: str) -> dict[str, float]:
    """``["k=0.5", …]`` as a dict of numbers."""
    found: dict[str, float] = {}
    for name, text in pairs(given, what).items():
        try:
            found[name] = float(text)
        except ValueError:
            raise InvalidInput(f"{what} {name}={text[:100]!r} is not a number; give one like {name}=0.5") from None
    return found


def class_names(given: str) -> list[str]:
    """``a,b,c``, or a file with one name per line; raises NotFound for one name, which is a file's, mistyped."""
    if "," in given:
        return [name.strip() for name in given.split(",")]
    if not Path(given).is_file():
        raise NotFound(f"--classes {given[:200]!r} is no file; give one with a name per line, or the names: cat,dog")
    return [line.strip() for line in _text(Path(given)).splitlines() if line.strip()]


def _text(file: Path) -> str:
    """What is in a text file, without the mark that some programs put before it."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file.name!r} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def sample_inputs(path: Path) -> dict[str, Any]:
    """Example inputs by name from a .npz or .json file."""
    if not path.is_file():
        raise NotFound(f"--sample {str(path)!r} is no file; give a .npz or .json file of example inputs")
    found = parse(path.read_bytes(), str(path))
    if not isinstance(found, dict):
        raise InvalidInput(
            f"--sample {path.name!r} does not name its inputs; np.savez('{path.stem}.npz', NAME=array) does"
        )
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    """Preprocessing steps from a YAML (or JSON) file: one mapping, or a list of them."""
    import yaml

    if not path.is_file():
        raise NotFound(f"--preprocessing {str(path)!r} is no file; give a YAML file that holds 'kind: image', say")
    try:
        found = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"--preprocessing {path.name!r} is not YAML: {' '.join(str(error).split())}; correct that place"
        ) from None
    found = found if isinstance(found, list) else [found]
    if not all(isinstance(step, dict) for step in found):
        raise InvalidInput(f"--preprocessing {path.name!r} must hold a mapping such as 'kind: image', or several")
    return found


def load(given: str, metadata: Callable[[], ModelMetadata]) -> Any:
    """What ``predict`` is given: ``-``, a file, or JSON itself. ``metadata`` is asked for when columns need names."""
    if given == "-":
        return parse(sys.stdin.buffer.read(), "standard input")
    try:
        is_file = Path(given).is_file()
    except (OSError, ValueError):  # JSON is longer than a path may be
        is_file = False
    if is_file and given.lower().endswith(".csv"):
        found = metadata()
        return parse_csv(_text(Path(given)), found.inputs, found.features)
    if is_file:
        return parse(Path(given).read_bytes(), given)
    if given.lstrip()[:1] not in {"[", "{", '"'} and not given.strip().lstrip("-").replace(".", "").isdigit():
        raise NotFound(f"{given[:200]!r} is neither a file nor JSON; check the path, or quote JSON: '[[1, 2]]'")
    return parse(given.encode(), "the argument")


def parse(raw: bytes, where: str) -> Any:
    """JSON, .npy, .npz or an image file (which stays as it is), told apart by their first bytes."""
    import numpy as np
    import orjson

    if raw.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (raw[:4] == b"RIFF" and raw[8:12] == b"WEBP"):
        return raw
    if raw[:6] == b"\x93NUMPY" or raw[:4] == b"PK\x03\x04":
        try:
            found = np.load(io.BytesIO(raw), allow_pickle=False)
            return dict(found) if raw[:2] == b"PK" else found
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            step = "save arrays of numbers or text with np.save or np.savez"
            raise InvalidInput(f"{where} cannot be read: {error}; {step}") from None
    try:
        return _unwrap(orjson.loads(raw), where)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"{where} is not JSON, .npy, .npz or an image: {error}; give one of those, or a file named .csv"
        ) from None


def _unwrap(found: Any, where: str) -> Any:
    """The data inside the bodies of ``/predict``, V1 and V2, so that the file of a curl call works here too."""
    if not isinstance(found, dict):
        return found
    if len(found) == 1:
        for name in ("data", "instances"):
            if name in found:
                return found[name]
    tensors = found.get("inputs")
    if not isinstance(tensors, list) or not all(isinstance(tensor, dict) for tensor in tensors):
        return found
    try:
        return {tensor["name"]: _tensor(tensor) for tensor in tensors}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{where}: inputs are no V2 tensors ({error!r}); each has name, datatype, shape and data that agree"
        ) from None


def _tensor(tensor: dict[str, Any]) -> Array:
    import numpy as np

    from modelport.tensors import dtype_of

    return np.array(tensor["data"], dtype_of(tensor["datatype"])).reshape(tensor["shape"])


def parse_csv(text: str, inputs: tuple[TensorSpec, ...], features: tuple[str, ...] = ()) -> dict[str, Any]:
    """Columns by input name where the header has them, else all columns as the rows of the one input: by the names of
    its features where the model knows them, else in their order."""
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if not rows:
        raise InvalidInput("the CSV holds no rows; give it one line per row")
    names = {spec.name for spec in inputs}
    header = [cell.strip() for cell in rows[0]] if _is_header(rows, names) else None
    body = rows[1:] if header else rows
    width = len(rows[0])
    for number, row in enumerate(body, start=2 if header else 1):
        if len(row) != width:
            raise InvalidInput(f"CSV line {number} has {len(row)} columns, the first line {width}; make them equal")
    if not body:
        raise InvalidInput("the CSV holds a header and no rows; give it one line per row")
    if header and names <= set(header):
        return {spec.name: _column(spec, [row[header.index(spec.name)] for row in body]) for spec in inputs}
    if len(inputs) != 1:
        raise InvalidInput(f"the CSV's header must name the model's inputs: {', '.join(sorted(names))}")
    order = None
    if header and features:
        from modelport.tensors import feature_order

        order = feature_order(header, features, "the CSV")
    if order is not None:
        body = [[row[index] for index in order] for row in body]
    values = [[_cell(cell, inputs[0], line) for cell in row] for line, row in enumerate(body, start=2 if header else 1)]
    return {inputs[0].name: values if len(inputs[0].shape) != 1 or width > 1 else [row[0] for row in values]}


def _column(spec: TensorSpec, cells: list[str]) -> Any:
    values = [_cell(cell, spec, line) for line, cell in enumerate(cells, start=2)]
    return [[value] for value in values] if len(spec.shape) == 2 else values


def _is_header(rows: list[list[str]], names: set[str]) -> bool:
    """A first line that names inputs, or that holds words above numbers."""
    first = [cell.strip() for cell in rows[0]]
    if names and names <= set(first):
        return True
    return not any(map(_is_value, first)) and any(map(_is_value, rows[1] if len(rows) > 1 else ()))


def _is_value(cell: str) -> bool:
    """Whether it is a number or a truth, not a word."""
    try:
        return cell.strip().lower() in {"true", "false"} or float(cell) is not None
    except ValueError:
        return False


def _cell(cell: str, spec: TensorSpec, line: int) -> Any:
    if spec.datatype == "BYTES":
        return cell
    text = cell.strip()
    if spec.datatype == "BOOL" and text.lower() in {"true", "false", "0", "1"}:
        return text.lower() in {"true", "1"}
    try:
        return float(text) if spec.datatype.startswith(("FP", "BF")) else int(text)
    except ValueError:
        raise InvalidInput(
            f"CSV line {line}: {cell[:50]!r} is no {spec.datatype} for input {spec.name!r}; correct the cell"
        ) from None
