"""Deployments: where each attempt went, and several keys per provider."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; both have defaults, so that gateways of the release before go on writing rows meanwhile."""
    op.add_column("attempts", sa.Column("deployment", sa.String(), server_default="", nullable=False))
    keys = postgresql.ARRAY(sa.LargeBinary())
    op.add_column(
        "providers", sa.Column("further_keys_encrypted", keys, server_default=sa.text("'{}'"), nullable=False)
    )
