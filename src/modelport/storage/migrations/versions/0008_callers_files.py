"""Whose a file is, and how long what a batch writes is kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files", sa.Column("key_id", sa.String(length=40), nullable=True))
    op.create_index("ix_files_project_id_key_id", "files", ["project_id", "key_id"], unique=False)
    op.add_column("batches", sa.Column("output_seconds", sa.Integer(), nullable=True))
