"""What all tables share: their registry, and times that are UTC on every database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, MetaData
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime. SQLite drops the time zone, so it is stored as UTC and given back as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Every table is declared on this."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own way)
        datetime: UtcDateTime(),
        # Plain JSON, not JSONB: nothing is queried inside, and JSONB refuses strings that a model file may hold.
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class InProject:
    """The column that every table has: whose row it is."""

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))


#: Sizes in bytes: 64 bits on every database.
Int64 = BigInteger()


def now() -> datetime:
    """The present moment, aware."""
    return datetime.now(UTC)
