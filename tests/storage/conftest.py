from tests.databases import (  # noqa: F401
    database,
    database_url,
    empty_database_url,
    migrated_postgres,
    migrated_sqlite,
    postgres,
    sqlite_url,
)
