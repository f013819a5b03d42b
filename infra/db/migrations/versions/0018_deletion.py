"""Requests that were erased, jobs that erase, and what was learnt and deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """No row was erased before."""
    op.add_column("requests", sa.Column("erased_at", sa.DateTime(timezone=True)))
    op.create_index(
        "requests_by_end_user", "requests", ["user_id", "end_user"], postgresql_where=sa.text("end_user IS NOT NULL")
    )
    op.create_index("request_names_by_request", "request_names", ["user_id", "request_id"])
    op.create_table(
        "erased_requests",
        sa.Column("id_hash", sa.LargeBinary(), primary_key=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        *(sa.Column(name, sa.String()) for name in ("user_id", "router_id", "request_id")),
        sa.Column("created_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_erased_requests_erased_at", "erased_requests", ["erased_at"])
    op.create_index(
        "erased_requests_named",
        "erased_requests",
        ["user_id", "router_id"],
        postgresql_where=sa.text("request_id IS NOT NULL"),
    )
    op.create_table(
        "forgotten",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("user_id", "router_id", "model")),
        sa.Column("history_at", sa.DateTime(timezone=True)),
        sa.Column("fits_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
    )
    _create_erasures()


def _create_erasures() -> None:
    op.create_table(
        "erasures",
        *(sa.Column(name, sa.String(), primary_key=True) for name in ("user_id", "id")),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("kind", "tenant")),
        sa.Column("subject", sa.LargeBinary()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("begun", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("total", "done")),
        sa.Column("error", sa.String()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=_NOW),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_index("erasures_by_owner", "erasures", ["user_id", sa.text("created_at DESC"), sa.text("id DESC")])
    op.create_index("erasures_running", "erasures", ["tenant"], postgresql_where=sa.text("status = 'running'"))
