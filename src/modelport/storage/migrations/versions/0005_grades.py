"""Grades: what versions were measured to take and to do on a machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "grades",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("machine", sa.String(length=200), nullable=False),
        sa.Column("job_id", sa.String(length=90), nullable=False),
        sa.Column("measured", sa.JSON(), nullable=False),
        sa.Column("graded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("graded_by", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_grades_project_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_grades_version_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_grades"),
        sa.UniqueConstraint("version_id", "machine", name="uq_grades_version_id_machine"),
        sqlite_autoincrement=True,
    )
