"""What the owner of a provider says of its manners."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Nothing is said of the providers that are there."""
    op.add_column("providers", sa.Column("parameters", JSONB()))
