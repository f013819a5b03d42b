"""For whom a request was made, by the client's own name for them, and what it was paid for."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Rows of before, and those that an older gateway still writes, are requests of nobody in particular."""
    op.add_column("requests", sa.Column("end_user", sa.String()))
    op.add_column("requests", sa.Column("purpose", sa.String(), nullable=False, server_default="request"))
