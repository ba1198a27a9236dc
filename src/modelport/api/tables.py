"""Tables to a model's named inputs, and its outputs to tables: data frames as JSON, CSV, and JSON lines.

A table whose columns are named as the inputs gives each input its column; any other table is, row by row, the one
input of a model with one: by name where the model knows the names of its features, else in the order of its columns.
Knows signatures; knows no protocol.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from modelport.api.answers import to_json
from modelport.api.rows import check_takes_rows, from_cells, read_instances
from modelport.api.tensor_json import json_name, parse, shown, to_array
from modelport.errors import InvalidInput
from modelport.tensors import Array, Signature, TensorSpec, feature_order

csv.field_size_limit((1 << 31) - 1)  # bodies have a limit of their own, and an image in base64 is more than 128 kB
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def read_split(signature: Signature, frame: Any, field: str, features: Sequence[str] = ()) -> dict[str, Array]:
    """Of ``{"columns": […], "data": [[…], …]}``, as pandas writes it with ``orient="split"``."""
    if type(frame) is not dict or type(frame.get("data")) is not list:
        raise InvalidInput(f"{field!r} must be an object with 'columns' and 'data', a list of rows")
    unknown = [key for key in frame if key not in ("columns", "data", "index")]
    if unknown:
        raise InvalidInput(f"{field!r} has the unknown key {shown(unknown[0])}; it has 'columns', 'data' and 'index'")
    data, columns = frame["data"], frame.get("columns")
    if columns is not None and type(columns) is not list:
        raise InvalidInput(f"{field!r}: 'columns' must be a list of names, not {json_name(columns)}")
    width = len(columns) if columns is not None else len(data[0]) if data and type(data[0]) is list else 0
    for index, row in enumerate(data):
        if type(row) is not list or len(row) != width:
            found = f"{len(row)} values" if type(row) is list else json_name(row)
            raise InvalidInput(f"{field!r}: data[{index}] must be a list of {width} values, not {found}")
    return _from_table(signature, columns, data, field, features)


def read_records(signature: Signature, records: Any, field: str, features: Sequence[str] = ()) -> dict[str, Array]:
    """Of ``[{"column": value, …}, …]``."""
    if type(records) is not list or not records:
        raise InvalidInput(f"{field!r} must be a list with at least one record")
    columns = list(records[0]) if type(records[0]) is dict else []
    for index, record in enumerate(records):
        if type(record) is not dict:
            raise InvalidInput(f"{field!r}: record {index} must be an object, not {json_name(record)}")
        if record.keys() != records[0].keys():
            other = next(iter(record.keys() ^ records[0].keys()))
            raise InvalidInput(
                f"{field!r}: record {index} and record 0 differ in the column {shown(other)}; give each the same"
            )
    data = [[record[name] for name in columns] for record in records]
    return _from_table(signature, columns, data, field, features)


def read_csv(signature: Signature, body: bytes, header: bool | None, features: Sequence[str] = ()) -> dict[str, Array]:
    """Of CSV; without a word on its ``header`` the first line is one when it names the inputs or holds no data."""
    try:
        table = [row for row in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not CSV: invalid UTF-8 at byte {error.start}; encode it as UTF-8") from None
    except csv.Error as error:
        raise InvalidInput(f"the body is not CSV ({error}); quote its cells as RFC 4180 says") from None
    if header is None:
        header = bool(table) and _is_header(signature, table[0])
    columns, data = (table[0], table[1:]) if header and table else (None, table)
    if not data:
        raise InvalidInput("the CSV body holds no rows; send at least one")
    for index, row in enumerate(data):
        if len(row) != len(table[0]):
            raise InvalidInput(f"row {index} of the CSV body has {len(row)} values, the first line {len(table[0])}")
    return _from_table(signature, columns, data, "the CSV body", features, as_text=True)


def _is_header(signature: Signature, row: list[str]) -> bool:
    if set(row) == {spec.name for spec in signature.inputs}:
        return True
    if any(spec.datatype == "BYTES" for spec in signature.inputs):
        return False
    return not any(_is_data(cell.strip().lower()) for cell in row)


def _is_data(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in _TRUTH
    return True


def read_lines(signature: Signature, body: bytes) -> dict[str, Array]:
    """Of JSON lines: each a row, bare, as an object by input name, or under the one key ``features``."""
    check_takes_rows(signature)
    found = []
    for index, line in enumerate(line for line in body.splitlines() if line.strip()):
        try:
            value = parse(line)
        except InvalidInput as error:
            raise InvalidInput(f"line {index}: {error.message}") from None
        bare = type(value) is dict and value.keys() == {"features"} and signature.inputs[0].name != "features"
        found.append(value["features"] if bare else value)
    if not found:
        raise InvalidInput("the body holds no lines; send one for each row")
    return read_instances(signature, found)


def _from_table(
    signature: Signature,
    columns: Sequence[Any] | None,
    data: list[list[Any]],
    what: str,
    features: Sequence[str],
    *,
    as_text: bool = False,
) -> dict[str, Array]:
    check_takes_rows(signature)
    specs = {spec.name: spec for spec in signature.inputs}
    for index, name in enumerate(columns or ()):
        if isinstance(name, list | dict):
            raise InvalidInput(f"{what}: column {index} must be a name, not {json_name(name)}")
    named = None if columns is None else [str(name) for name in columns]
    if named is not None and len(set(named)) != len(named):
        raise InvalidInput(f"{what}: two columns have the same name; rename one")
    if named is not None and set(named) == specs.keys():
        by_name = {name: [row[index] for row in data] for index, name in enumerate(named)}
        if as_text:
            by_name = {name: [_value(cell, specs[name]) for cell in column] for name, column in by_name.items()}
        return {name: from_cells(spec, by_name[name], base64_objects=False) for name, spec in specs.items()}
    if len(specs) > 1:
        given = "" if named is None else f", not {shown(', '.join(named))}"
        raise InvalidInput(f"{what} needs the columns {', '.join(specs)}{given}")
    (spec,) = signature.inputs
    if named is not None and spec.shape[-1:] == (len(features),):
        order = feature_order(named, features, what)
        if order is not None:
            data = [[row[index] for index in order] for row in data]
    if as_text:
        data = [[_value(cell, spec) for cell in row] for row in data]
    return {spec.name: to_array(data, spec.datatype, spec.name)}


def _value(cell: str, spec: TensorSpec) -> Any:
    """A cell of CSV as JSON would give it."""
    if spec.datatype == "BYTES":
        return cell
    text = cell.strip()
    try:
        if spec.datatype == "BOOL":
            return _TRUTH[text.lower()]
        number = float(text) if spec.datatype.startswith(("FP", "BF")) else int(text)
        if math.isfinite(number):
            return number
    except (ValueError, KeyError, OverflowError):
        pass
    raise InvalidInput(
        f"input {shown(spec.name)}: {shown(cell)} in the CSV body is no finite {spec.datatype}; correct it"
    )


def write_csv(values: dict[str, Any]) -> bytes:
    """One line for each row, its outputs side by side, without a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in zip(*(_plain(value) for value in values.values()), strict=True):
        writer.writerow([cell for value in row for cell in _cells(value)])
    return out.getvalue().encode()


def write_lines(rows: Any) -> bytes:
    """One line of JSON for each row."""
    return b"".join(to_json(row) + b"\n" for row in _plain(rows))


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _cells(value: Any) -> list[Any]:
    value = _plain(value)
    if type(value) is list:
        return [cell for item in value for cell in _cells(item)]
    return [to_json(value).decode() if type(value) is dict else value]
