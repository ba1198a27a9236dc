"""Runs the migrations on the connection that ``Database.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from modelport.storage.tables import Base

connection = context.config.attributes["connection"]
# SQLite can roll back DDL too, once the transaction is begun by us and not by its driver.
context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
