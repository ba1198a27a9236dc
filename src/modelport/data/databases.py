"""Rows of a SQL query, streamed from the database in pieces of one fixed schema.

The query runs in a transaction that can only read. A name of the operator's settings stands for address and
credentials, which appear in no message. Types come from the database where it says them, else from the first rows.
"""

from __future__ import annotations

import datetime
import decimal
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pyarrow as pa
from sqlalchemy import Connection, bindparam, column, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from modelport.data.addresses import database_engine
from modelport.data.values import type_of_objects
from modelport.errors import InvalidInput, Unavailable

_PIECE = 10_000
#: PostgreSQL's types by their object ids; numeric becomes float64, what is not here its text.
_POSTGRES = {
    16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int64(), 23: pa.int64(), 700: pa.float64(),
    701: pa.float64(), 1700: pa.float64(), 1082: pa.date32(), 1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"), 25: pa.string(), 1043: pa.string(), 1042: pa.string(), 18: pa.string(),
}  # fmt: skip
_log = logging.getLogger(__name__)


def query_rows(
    url: str, query: str, after: tuple[str, Any] | None = None, known: pa.Schema | None = None
) -> Iterator[pa.RecordBatch]:
    """The query's rows; with ``after`` (column, value) only those beyond it, the smallest first.

    ``known`` are the types that earlier rows had.
    """
    with _told(), _connected(url) as connection:
        result = connection.execution_options(stream_results=True, max_row_buffer=_PIECE).execute(
            *_statement(query, after)
        )
        schema: pa.Schema | None = None
        names = list(result.keys())
        if len(set(names)) < len(names):
            raise InvalidInput("query: gives two columns of one name; name them with AS")
        described = _described(result, names) if connection.dialect.name == "postgresql" else None
        told = dict(described or {}) | {field.name: field.type for field in known or ()}
        for rows in result.partitions(_PIECE):
            columns = [list(values) for values in zip(*rows, strict=True)]
            schema = schema or pa.schema(
                [(name, told.get(name) or _guess(values)) for name, values in zip(names, columns, strict=True)]
            )
            yield _batch(columns, schema)
        if schema is None and described is not None:
            yield pa.RecordBatch.from_pylist([], schema=pa.schema(list(described.items())))


def _statement(query: str, after: tuple[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    if after is None:
        return text(query.replace(":", r"\:")), {}
    name, value = after
    rows = text(f"({query.replace(':', chr(92) + ':')}) AS collected")
    statement = select(text("*")).select_from(rows).order_by(column(name))
    if value is None:
        return statement.where(column(name).is_not(None)), {}
    return statement.where(column(name) > bindparam("mark")), {"mark": value}


def _described(result: Any, names: list[str]) -> dict[str, Any]:
    return {
        name: _POSTGRES.get(about.type_code, pa.string())
        for name, about in zip(names, result.cursor.description, strict=True)
    }


def _guess(values: list[Any]) -> Any:
    found = [value for value in values if value is not None]
    kinds = {type(value) for value in found}
    if kinds == {bytes}:
        return pa.binary()
    if kinds and kinds <= {int, float, decimal.Decimal} and decimal.Decimal in kinds:
        return pa.float64()
    if kinds == {datetime.date}:
        return pa.date32()
    if kinds == {datetime.datetime}:
        return pa.timestamp("us", "UTC" if found[0].tzinfo else None)
    return pa.string() if kinds == {str} else type_of_objects(values)


def _batch(columns: list[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for field, given in zip(schema, columns, strict=True):
        values = given
        if pa.types.is_string(field.type):
            values = [value if value is None or isinstance(value, str) else _text(value) for value in values]
        elif pa.types.is_floating(field.type):
            values = [float(value) if isinstance(value, decimal.Decimal) else value for value in values]
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            cause = str(error)[:200]
            raise InvalidInput(
                f"query: column {field.name[:100]!r} is {field.type} in the first rows: {cause}; CAST it in the query"
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _text(value: Any) -> str:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    engine = database_engine(url)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET TRANSACTION READ ONLY"))
            elif connection.dialect.name == "sqlite":
                connection.execute(text("PRAGMA query_only = ON"))
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    """What the database refuses, in its own first line; never its address."""
    try:
        yield
    except DBAPIError as error:
        _log.info("the query failed", exc_info=error)
        line = str(error.orig).strip().split("\n")[0][:300]
        if error.connection_invalidated or "connect" in line.lower():
            raise Unavailable("source: the database does not answer, or broke off; try again") from None
        raise InvalidInput(f"query: the database refuses it: {line}") from None
    except SQLAlchemyError as error:
        raise InvalidInput(
            f"query: cannot be run ({type(error).__name__}); try it with the database's own client"
        ) from None
