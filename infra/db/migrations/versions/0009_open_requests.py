"""Requests are accepted by the ledger: rows whose workflows are not closed, and a claim before every provider call."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Claims name the call that they are for, so those of before, which lasted for seconds, say nothing any more."""
    now = sa.text("clock_timestamp()")
    op.create_table(
        "open_requests",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("handed_over_at", sa.DateTime(timezone=True)),
        sa.Column("closer", sa.String()),
        sa.PrimaryKeyConstraint("user_id", "request_id"),
    )
    op.create_index(
        "open_requests_unclaimed", "open_requests", ["accepted_at"], postgresql_where=sa.text("closer IS NULL")
    )
    op.create_index(
        "open_requests_claimed", "open_requests", ["closer"], postgresql_where=sa.text("closer IS NOT NULL")
    )
    op.drop_table("claims")
    op.create_table(
        "claims",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "request_id", "seq"),
    )
    op.create_index("ix_claims_claimed_at", "claims", ["claimed_at"])
    kept_since = sa.Column("kept_since", sa.DateTime(timezone=True), server_default=now, nullable=False)
    op.add_column("instances", kept_since)
    op.drop_column("requests", "features")
