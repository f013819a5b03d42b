"""What calls wrote to the prompt caches of their providers, for five minutes and for an hour."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Null, as in rows that an older gateway still writes, is nothing written."""
    for table in ("requests", "attempts"):
        op.add_column(table, sa.Column("cache_write_5m_tokens", sa.BigInteger()))
        op.add_column(table, sa.Column("cache_write_1h_tokens", sa.BigInteger()))
