"""Evaluations: every time that rows of a dataset were judged by, with what came of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=90), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("data", sa.String(length=200), nullable=False),
        sa.Column("data_digest", sa.String(length=64), nullable=False),
        sa.Column("part", sa.String(length=50), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=True),
        sa.Column("about", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_evaluations_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint(
            "project_id", "job_id", "data", "subject", name="uq_evaluations_project_id_job_id_data_subject"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_evaluations_project_id_data_digest", "evaluations", ["project_id", "data_digest"], unique=False)
    op.create_index(
        "ix_evaluations_project_id_model_version", "evaluations", ["project_id", "model", "version"], unique=False
    )
