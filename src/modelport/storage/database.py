"""Metadata in SQLite (embedded) or PostgreSQL (by URL): sessions, and migrations to the newest schema.

A session is one transaction. On SQLite a writing one takes the write lock when it begins, so that two writers queue
up instead of failing half way. Knows no noun.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from modelport.errors import Conflict, InvalidInput, MissingExtra, Unavailable
from modelport.storage.disk import full

#: How long a writer waits for another, seconds.
BUSY_S = 30
#: An arbitrary constant: whoever holds it migrates, the others wait.
_MIGRATION_LOCK = 0x6D6F64656C
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database; safe for many threads."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise InvalidInput(
                "setting database.url: not a database URL, such as sqlite:////data/modelport.db"
            ) from None
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise InvalidInput(
                "setting database.url: give sqlite:///FILE or postgresql+psycopg://HOST/NAME; others are not supported"
            )
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and parsed.database in (None, "", ":memory:"):
            raise InvalidInput("setting database.url: SQLite needs a file, such as sqlite:////data/modelport.db")
        try:
            self.engine = create_engine(parsed, pool_size=10, max_overflow=50, pool_pre_ping=not self.is_sqlite)
        except (ModuleNotFoundError, NoSuchModuleError):
            raise MissingExtra("postgres", "a PostgreSQL database") from None
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._reader = self.engine.execution_options(reading=True)

    def migrate(self) -> None:
        """Bring the schema to the newest revision, all or nothing; safe to call from several processes."""
        if self._is_newest():
            return
        from alembic import command  # noqa: PLC0415  (only the one that migrates pays for it)
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with self._translated(), self.engine.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _is_newest(self) -> bool:
        """Whether there is nothing to migrate, told without loading what migrates: a quarter of a second."""
        newest = max(file.name.partition("_")[0] for file in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))
        with self._translated(), self._reader.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return False
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [newest]

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction that may write: committed at the end, rolled back on any error.

        Raises Conflict when a constraint refuses, Unavailable when the database does not answer.
        """
        with self._translated(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that only reads, and waits for no writer."""
        with self._translated(), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise Conflict("somebody changed the same thing at the same moment; look again and retry") from error
        except OperationalError as error:
            if "disk is full" in str(error.orig):
                raise full() from error
            raise Unavailable("the database does not answer; try again in a moment") from error


def insert_missing(session: Session, table: type[DeclarativeBase], **values: Any) -> None:
    """Insert a row unless one with the same unique key is there; waits for a concurrent insert of it."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    target = table.__table__
    assert isinstance(target, Table)
    session.execute(insert(target).values(**values).on_conflict_do_nothing())


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late: see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_S * 1000}")
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    """The one statement that does not wait for others by itself, when two open a new file at once."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading")
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
