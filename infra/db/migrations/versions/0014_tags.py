"""Requests are found by their tags."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Rows without tags cost the index nothing."""
    op.create_index(
        "requests_by_tag",
        "requests",
        ["tags"],
        postgresql_using="gin",
        postgresql_ops={"tags": "jsonb_path_ops"},
        postgresql_where=sa.text("tags <> '{}'::jsonb"),
    )
