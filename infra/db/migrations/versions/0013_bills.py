"""Bills with their lines, and what is an estimate."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0013"
down_revision = "0012"

_COUNTS = ("audio_input_tokens", "audio_output_tokens", "image_input_tokens", "image_output_tokens", "web_searches")


def upgrade() -> None:
    """Null, as in rows of before, is nothing of it, and not known to be an estimate."""
    for table in ("requests", "attempts"):
        for name in _COUNTS:
            op.add_column(table, sa.Column(name, sa.BigInteger()))
        if table == "attempts":
            op.add_column(table, sa.Column("bill", JSONB()))
            op.add_column(table, sa.Column("list_cost_usd", sa.Float()))
        op.add_column(table, sa.Column("estimated", sa.String()))
