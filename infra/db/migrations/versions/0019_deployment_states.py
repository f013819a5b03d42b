"""What gateways skip is told to everybody."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Gateways fill the table while they run."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "deployment_states",
        *(
            sa.Column(name, sa.String(), primary_key=True)
            for name in ("user_id", "instance", "provider", "model", "deployment")
        ),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("because", sa.String()),
        sa.Column("open_since", moment),
        sa.Column("next_probe_at", moment, nullable=False),
    )
