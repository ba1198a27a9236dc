"""Which sources may be read, and what their addresses mean. Reads nothing and imports no library of tables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from modelport.errors import InvalidInput, MissingExtra, NotAllowed, Unavailable
from modelport.storage.sources import is_within

_DATABASE = re.compile(r"sql://(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,99})/?")
_SPARK = re.compile(r"spark:(?P<format>[A-Za-z0-9_.-]{1,100}):(?P<url>.+)")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://")


def check_source(source: str, beginnings: Sequence[str]) -> None:
    """Raise InvalidInput for what is no URL, NotAllowed for one that the operator's settings do not cover."""
    inner = parse_spark(source)[1] if source.startswith("spark:") else source
    if inner is not source and inner.lower().startswith(("http:", "https:")):
        raise InvalidInput("source: Spark reads stores and files here, not the web; collect that URL without spark:")
    if not _URL.match(inner):
        raise InvalidInput(
            f"source {inner[:100]!r}: the server reads no path of its own; give a URL, or send your files with "
            "`modelport data collect PATH`"
        )
    allowed(inner, beginnings)


def allowed(source: str, beginnings: Sequence[str]) -> None:
    """Raise NotAllowed unless the source begins as one of the operator's settings does."""
    if is_within(source, beginnings):
        return
    raise NotAllowed(
        f"source {source.partition('?')[0][:200]!r}: the operator allows {', '.join(beginnings) or 'none'} "
        "(MODELPORT_DATA_ALLOW); `modelport data collect PATH` sends files from your own machine"
    )


def parse_spark(source: str) -> tuple[str, str]:
    """Format and URL of ``spark:FORMAT:URL``; raises InvalidInput."""
    found = _SPARK.fullmatch(source)
    if found is None:
        raise InvalidInput(f"source {source[:100]!r}: give spark:FORMAT:URL, such as spark:orc:file:///srv/data/orders")
    return found["format"], found["url"]


def database_url(source: str, databases: Mapping[str, str]) -> str:
    """The address that ``sql://NAME`` stands for; raises InvalidInput, NotAllowed with the known names."""
    found = _DATABASE.fullmatch(source)
    if found is None:
        raise InvalidInput(
            "source: give sql://NAME, where the operator's setting data.databases "
            "says what NAME is; addresses and passwords stay there"
        )
    known = databases.get(found["name"])
    if known is None:
        names = ", ".join(sorted(databases)) or "none"
        raise NotAllowed(f"source: the operator has set up no database {found['name']!r}; there are {names}")
    if known.startswith("env:"):
        known = os.environ.get(known.removeprefix("env:"), "")
        if not known:
            raise Unavailable(
                f"source: the server's environment does not say where {found['name']!r} is; the operator sets it"
            )
    return known


def database_engine(url: str, **options: Any) -> Engine:
    """What connects to a database that the operator has named; raises MissingExtra, Unavailable."""
    try:
        parsed = make_url(url)
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        return create_engine(parsed, **options)
    except (ModuleNotFoundError, NoSuchModuleError):
        raise MissingExtra("postgres", "working with that database") from None
    except ArgumentError:
        raise Unavailable("the database's address is not one; the operator corrects data.databases") from None


def check_query(query: str | None) -> str:
    """One statement that reads; raises InvalidInput."""
    if query is None:
        raise InvalidInput("query: a sql:// source needs one, such as --query 'SELECT * FROM orders'")
    bare = re.sub(r"--[^\n]*|/\*.*?\*/", " ", query, flags=re.DOTALL).strip().rstrip(";").strip()
    if not re.match(r"(?i)(select|with|values|table)\b", bare):
        raise InvalidInput("query: only reads are run; begin with SELECT or WITH")
    return query.strip().rstrip(";")
