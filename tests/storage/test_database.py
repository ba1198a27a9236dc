"""The database: migrations, transactions, and what several writers do to each other."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, event, inspect, select, text, update

from modelport.errors import Conflict, InvalidInput, Unavailable
from modelport.storage import tables
from modelport.storage.database import Database, insert_missing


def model(session, project_id: int = 1, name: str = "digits") -> tables.Model:
    found = tables.Model(project_id=project_id, name=name)
    session.add(found)
    return found


def test_migrations_make_what_the_tables_say(database: Database) -> None:
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.Base.metadata) == []


def test_every_table_belongs_to_a_project() -> None:
    without = {name for name, table in tables.Base.metadata.tables.items() if "project_id" not in table.columns}
    assert without == {"projects"}


def test_migrating_twice_changes_nothing(database: Database) -> None:
    database.migrate()
    with database.reading() as session:
        assert session.scalars(select(tables.Project.name)).all() == ["default"]


def test_only_who_migrates_loads_what_migrates(tmp_path: Path) -> None:
    code = (
        f"import sys; from modelport.storage.database import Database; Database({f'sqlite:///{tmp_path}/d'!r}).migrate()"
        "; sys.exit('alembic' in sys.modules)"
    )
    assert [subprocess.run([sys.executable, "-c", code]).returncode for _ in range(2)] == [1, 0]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_processes_may_migrate_at_once(kind: str, empty_database_url: Callable[[str], str]) -> None:
    code = f"from modelport.storage.database import Database; Database({empty_database_url(kind)!r}).migrate()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]


def test_a_migration_that_fails_leaves_nothing(empty_database_url: Callable[[str], str]) -> None:
    database = Database(empty_database_url("sqlite"))

    def fail(connection, cursor, statement, *_) -> None:
        if "CREATE TABLE revisions" in statement:
            raise RuntimeError("power cut")

    event.listen(database.engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError):
        database.migrate()
    event.remove(database.engine, "before_cursor_execute", fail)
    assert inspect(database.engine).get_table_names() == []
    database.migrate()
    assert "revisions" in inspect(database.engine).get_table_names()
    database.close()


def test_sqlite_is_durable_and_checks_references(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.reading() as session:
        values = {
            name: session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


def test_an_error_undoes_the_whole_session(database: Database) -> None:
    with pytest.raises(RuntimeError), database.session() as session:
        model(session)
        session.flush()
        raise RuntimeError
    with database.reading() as session:
        assert session.scalars(select(tables.Model)).all() == []


def test_a_broken_constraint_is_a_conflict(database: Database) -> None:
    with database.session() as session:
        model(session)
    with pytest.raises(Conflict), database.session() as session:
        model(session)


def test_a_reference_to_nothing_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict), database.session() as session:
        model(session, project_id=999)


def test_a_database_that_is_gone_is_unavailable(sqlite_url: str, tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path}/no/such/folder/x.db")
    with pytest.raises(Unavailable), database.session() as session:
        session.scalar(text("SELECT 1"))
    database.close()


def test_times_come_back_in_utc(database: Database) -> None:
    before = tables.now()
    with database.session() as session:
        model(session)
    with database.reading() as session:
        created = session.scalars(select(tables.Model.created_at)).one()
    assert created.utcoffset().total_seconds() == 0
    assert before <= created <= tables.now()


def test_writers_queue_up_and_lose_nothing(database: Database) -> None:
    with database.session() as session:
        model(session)

    def take(_: int) -> int:
        with database.session() as session:
            taking = update(tables.Model).values(next_version=tables.Model.next_version + 1)
            return session.scalars(taking.returning(tables.Model.next_version)).one()

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(take, range(80)))
    assert sorted(numbers) == list(range(2, 82))


def test_concurrent_inserts_of_one_row_make_one_row(database: Database) -> None:
    start = threading.Barrier(6)

    def insert(_: int) -> int:
        start.wait()
        with database.session() as session:
            insert_missing(session, tables.Project, name="acme", created_at=tables.now())
            return session.scalars(select(tables.Project.id).where(tables.Project.name == "acme")).one()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(insert, range(6)))) == 1


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.session() as writing:
        model(writing)
        writing.flush()
        with database.reading() as session:
            assert session.scalars(select(tables.Model)).all() == []


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "", "postgresql"]
)
def test_urls_that_cannot_work_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"database\.url"):
        Database(url)


def test_postgresql_gets_its_driver() -> None:
    database = Database("postgresql://user@localhost/x")
    assert isinstance(database.engine, Engine)
    assert database.engine.url.drivername == "postgresql+psycopg"
