"""Where results go: a folder or store by URL, or a table of a database; each belongs to one job.

A shard appears whole or not at all, and putting it again changes nothing, so that a killed job goes on without doubling
or dropping rows. Knows Parquet files and SQL; knows no model.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import sqlalchemy as sql
from fsspec.core import url_to_fs
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from modelport.data.addresses import database_engine, database_url
from modelport.errors import Conflict, InvalidInput, MissingExtra, ModelportError, NotAllowed, Unavailable
from modelport.storage.artifacts import EXTRAS
from modelport.storage.sources import is_within, local_path

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "_manifest.json"
"""Readers of a folder of Parquet files pass over names that begin so."""
_CLAIM = "_unfinished.json"
_OURS = re.compile(
    r"part-\d{5,}\.parquet(\.unfinished)?|_manifest\.json(\.unfinished)?|_unfinished\.json(\.unfinished)?"
)
_TABLE = re.compile(r"sql://[A-Za-z0-9][A-Za-z0-9._-]{0,99}/([A-Za-z_][A-Za-z0-9_]{0,62})")
#: Stores in which a file appears whole by itself.
_WHOLE = (*EXTRAS, "memory")
_SQL: dict[str, Any] = {
    "bool": sql.Boolean, "halffloat": sql.Double, "float": sql.Double, "double": sql.Double,
    "binary": sql.LargeBinary, "large_binary": sql.LargeBinary, "date32": sql.Date,
}  # fmt: skip
_log = logging.getLogger(__name__)


class Results(Protocol):
    """A destination."""

    def probe(self, overwrite: bool) -> None:
        """Raise unless it can be written to and is free; leaves nothing behind."""

    def claim(self, job: str, overwrite: bool, schema: pa.Schema) -> None:
        """Make it this job's, before the first shard; a job's own is its own at every attempt."""

    def put(self, number: int, file: Path) -> None:
        """Take a shard. Twice is as once."""

    def finish(self, manifest: dict[str, Any]) -> None:
        """All shards are there."""


def results_of(to: str, allowed: Sequence[str], databases: Mapping[str, str]) -> Results:
    """The destination that ``to`` names; raises NotAllowed, InvalidInput."""
    shown = repr(to.partition("?")[0][:200])
    if not re.match(r"[a-z][a-z0-9+.-]*://", to):
        raise InvalidInput(f"to {shown}: give dataset:NAME, a URL such as s3://bucket/folder, or sql://DATABASE/TABLE")
    if not is_within(to, allowed):
        raise NotAllowed(
            f"to {shown}: the operator lets results be written to {', '.join(allowed) or 'datasets only'} "
            "(MODELPORT_DATA_RESULTS); dataset:NAME needs no permission"
        )
    if to.startswith("sql:"):
        found = _TABLE.fullmatch(to)
        if found is None:
            raise InvalidInput(f"to {shown}: give sql://DATABASE/TABLE, TABLE of letters, digits and _")
        return TableResults(database_url(to.rpartition("/")[0], databases), found[1])
    return FolderResults(to)


class FolderResults:
    """``part-00000.parquet`` and on, and ``_manifest.json`` when all are there."""

    def __init__(self, url: str) -> None:
        self._url, self._scheme = url, url.partition(":")[0].lower()
        with _told_of_store(url):
            try:
                if self._scheme == "file":
                    url = str(local_path(url))
                self._files, root = url_to_fs(url, **({"use_listings_cache": False} if self._scheme in EXTRAS else {}))
            except ImportError:
                raise MissingExtra(EXTRAS.get(self._scheme, self._scheme), f"writing {self._scheme}://") from None
            except ValueError as error:
                raise InvalidInput(f"to: {self._scheme}:// cannot be written to: {str(error)[:100]}") from None
        self._root = str(root).rstrip("/")

    def probe(self, overwrite: bool) -> None:
        with _told_of_store(self._url):
            self._refuse_others(None, overwrite)
            existed = self._files.exists(self._root)
            self._write(f"{_CLAIM}.unfinished", b"{}")
            self._files.rm_file(self._path(f"{_CLAIM}.unfinished"))
            if not existed and self._scheme == "file":
                with suppress(OSError):
                    Path(self._root).rmdir()

    def claim(self, job: str, overwrite: bool, schema: pa.Schema) -> None:
        with _told_of_store(self._url):
            if job in (self._owner(MANIFEST), self._owner(_CLAIM)):
                return
            self._refuse_others(job, overwrite)
            for name in self._names():
                if _OURS.fullmatch(name):
                    self._files.rm_file(self._path(name))
            self._write(_CLAIM, json.dumps({"job": job}).encode())

    def put(self, number: int, file: Path) -> None:
        with _told_of_store(self._url):
            self._bring(file, file.name)

    def finish(self, manifest: dict[str, Any]) -> None:
        with _told_of_store(self._url):
            self._write(MANIFEST, json.dumps(manifest, indent=2).encode())
            if _CLAIM in self._names():
                self._files.rm_file(self._path(_CLAIM))

    def _refuse_others(self, job: str | None, overwrite: bool) -> None:
        names = self._names()
        if names and not overwrite:
            whose = self._owner(_CLAIM) or self._owner(MANIFEST)
            made = f"results of job {whose}" if whose else f"{names[0][:100]!r} and {len(names) - 1} more"
            raise Conflict(f"to: {self._shown()} holds {made}; give another place, or --overwrite to replace results")

    def _owner(self, name: str) -> str | None:
        try:
            found = json.loads(self._files.cat_file(self._path(name)))
        except (FileNotFoundError, ValueError):
            return None
        return str(found.get("job"))[:100] if isinstance(found, dict) else None

    def _names(self) -> list[str]:
        if not self._files.exists(self._root):
            return []
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in self._files.ls(self._root, detail=False))

    def _write(self, name: str, content: bytes) -> None:
        if self._scheme in _WHOLE:
            self._files.pipe_file(self._path(name), content)
            return
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(self._path(f"{name}.unfinished"), content)
        self._files.mv(self._path(f"{name}.unfinished"), self._path(name))

    def _bring(self, file: Path, name: str) -> None:
        if self._scheme in _WHOLE:
            self._files.put_file(str(file), self._path(name))
        elif self._scheme == "file":
            beside = Path(self._path(f"{name}.unfinished"))
            with file.open("rb") as source, beside.open("wb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
            beside.replace(self._path(name))
        else:
            self._files.put_file(str(file), self._path(f"{name}.unfinished"))
            self._files.mv(self._path(f"{name}.unfinished"), self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _shown(self) -> str:
        return repr(self._url.partition("?")[0][:200])


class TableResults:
    """Rows of one table. Beside it ``modelport_results`` says whose it is, and which shards are in."""

    def __init__(self, url: str, table: str) -> None:
        self._table, self._job = table, ""
        self._engine = database_engine(url, poolclass=sql.NullPool)
        self._marks = sql.Table(
            "modelport_results", sql.MetaData(),
            sql.Column("table_name", sql.String(63), primary_key=True),
            sql.Column("shard", sql.Integer, primary_key=True, autoincrement=False),
            sql.Column("job", sql.String(100), nullable=False),
            sql.Column("manifest", sql.Text),
        )  # fmt: skip

    def probe(self, overwrite: bool) -> None:
        with _told_of_database(), self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                may = connection.execute(sql.text("SELECT has_schema_privilege(current_schema(), 'CREATE')")).scalar()
                if not may:
                    raise NotAllowed("to: the database's user may not create tables; ask its owner")
            if not overwrite and sql.inspect(connection).has_table(self._table):
                raise self._taken()

    def claim(self, job: str, overwrite: bool, schema: pa.Schema) -> None:
        self._job = job
        columns = [sql.Column(field.name, _sql_type(field.type)) for field in schema]
        table, marks = sql.Table(self._table, sql.MetaData(), *columns), self._marks
        with _told_of_database():
            with self._engine.begin() as connection:
                marks.create(connection, checkfirst=True)
            with self._engine.begin() as connection:
                mine = marks.c.table_name == self._table
                if connection.execute(sql.select(marks.c.job).where(mine, marks.c.shard == -1)).scalar() == job:
                    return
                connection.execute(sql.delete(marks).where(mine))
                connection.execute(sql.insert(marks).values(table_name=self._table, shard=-1, job=job))
                if sql.inspect(connection).has_table(self._table):
                    if not overwrite:
                        raise self._taken()
                    connection.execute(sql.text(f'DROP TABLE "{self._table}"'))
                table.create(connection)

    def put(self, number: int, file: Path) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415  (control judges destinations without it)

        marks, read = self._marks, pq.read_table(file)
        table = sql.Table(self._table, sql.MetaData(), *(sql.Column(f.name, _sql_type(f.type)) for f in read.schema))
        with _told_of_database(), self._engine.begin() as connection:
            key = (marks.c.table_name == self._table) & (marks.c.shard == number)
            if connection.execute(sql.select(marks.c.job).where(key)).first() is not None:
                return
            connection.execute(sql.insert(marks).values(table_name=self._table, shard=number, job=self._job))
            for batch in read.to_batches(max_chunksize=1000):
                columns = [_plain(column) for column in batch.columns]
                keys = [f"c{index}" for index in range(len(columns))]
                into = table.insert().values(
                    {c.name: sql.bindparam(k, type_=c.type) for c, k in zip(table.columns, keys, strict=True)}
                )
                connection.execute(into, [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)])

    def finish(self, manifest: dict[str, Any]) -> None:
        marks = self._marks
        mine = (marks.c.table_name == self._table) & (marks.c.shard == -1)
        with _told_of_database(), self._engine.begin() as connection:
            connection.execute(sql.update(marks).where(mine).values(manifest=json.dumps(manifest)))

    def _taken(self) -> Conflict:
        return Conflict(f"to: table {self._table!r} exists; give another name, or --overwrite to replace it")


def _sql_type(kind: Any) -> Any:
    """Of an Arrow type."""
    name = str(kind).partition("[")[0]
    if name.startswith("timestamp"):
        return sql.DateTime(timezone="tz=" in str(kind))
    if name == "uint64":
        return sql.Numeric(20, 0)
    if name.startswith(("int", "uint")):
        return sql.BigInteger()
    return _SQL.get(name, sql.Text)()


def _plain(column: Any) -> list[Any]:
    """Values as a database takes them; a list is JSON."""
    kind, values = column.type, column.to_pylist()
    if str(kind).startswith(("list", "struct", "map")):
        return [None if value is None else orjson.dumps(value, default=str).decode() for value in values]
    if isinstance(_sql_type(kind), sql.Text):
        return [None if value is None else str(value) for value in values]
    return list(values)


@contextmanager
def _told_of_store(url: str) -> Iterator[None]:
    """What a store's library raises, as an error that names the destination and the next step."""
    shown = repr(url.partition("?")[0][:200])
    try:
        yield
    except (ModelportError, MemoryError):
        raise
    except PermissionError:
        raise NotAllowed(f"to {shown}: the store refuses to be written to; ask its owner for access") from None
    except (FileNotFoundError, NotADirectoryError, FileExistsError):
        raise InvalidInput(f"to {shown}: there is no such bucket, or a file is where a folder should be") from None
    except Exception as error:  # each store has its own tree of errors, whose texts may name the server's own set-up
        _log.info("writing to %s failed", shown, exc_info=error)
        if isinstance(error, OSError) and error.errno == 30:  # read-only file system
            raise NotAllowed(f"to {shown}: that place is read-only; give another") from None
        if isinstance(error, OSError) and error.errno in (28, 122):
            raise Unavailable(f"to {shown}: the disk is full; free space and run it again") from None
        if "Credentials" in type(error).__name__:
            raise NotAllowed(f"to {shown}: the server's environment has no credentials for it") from None
        raise Unavailable(
            f"to {shown}: the store cannot be written to now ({type(error).__name__}); try again"
        ) from None


@contextmanager
def _told_of_database() -> Iterator[None]:
    """What the database refuses, in its own first line; never its address."""
    try:
        yield
    except DBAPIError as error:
        _log.info("writing to the table failed", exc_info=error)
        line = str(error.orig).strip().split("\n")[0][:300]
        lost = "connect" in line.lower() or "locked" in line.lower() or "unable to open" in line.lower()
        if error.connection_invalidated or lost:
            raise Unavailable("to: the database does not answer, or broke off; try again") from None
        raise InvalidInput(f"to: the database refuses it: {line}") from None
    except SQLAlchemyError as error:
        raise InvalidInput(f"to: cannot be written ({type(error).__name__})") from None
