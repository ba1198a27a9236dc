"""Datasets: names, versions, the blobs that these need, and what they were made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _names_and_versions()
    _what_versions_have()


def _names_and_versions() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("next_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_datasets_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
        sa.UniqueConstraint("project_id", "name", name="uq_datasets_project_id_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "dataset_versions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("archive_url", sa.String(length=1000), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_dataset_versions_dataset_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_dataset_versions_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dataset_versions"),
        sa.UniqueConstraint("dataset_id", "number", name="uq_dataset_versions_dataset_id_number"),
        sa.UniqueConstraint("job_id", name="uq_dataset_versions_job_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dataset_versions_project_id_digest", "dataset_versions", ["project_id", "digest"], unique=False)


def _what_versions_have() -> None:
    op.create_table(
        "dataset_blobs",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id", "sha256"], ["blobs.project_id", "blobs.sha256"], name="fk_dataset_blobs_project_id_sha256"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_dataset_blobs_project_id"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_versions.id"], name="fk_dataset_blobs_version_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "sha256", name="pk_dataset_blobs"),
    )
    op.create_index("ix_dataset_blobs_project_id_sha256", "dataset_blobs", ["project_id", "sha256"], unique=False)
    op.create_table(
        "dataset_parents",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("parent", sa.String(length=300), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_dataset_parents_project_id"),
        sa.ForeignKeyConstraint(
            ["version_id"], ["dataset_versions.id"], name="fk_dataset_parents_version_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("version_id", "parent", name="pk_dataset_parents"),
    )
    op.create_index("ix_dataset_parents_project_id_parent", "dataset_parents", ["project_id", "parent"], unique=False)
