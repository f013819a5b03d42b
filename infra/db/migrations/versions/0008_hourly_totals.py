"""Hourly metrics and baselines added up by tenant, for the first page of the site."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TOTALS = (
    "requests", "failed_count", "canceled_count", "fallback_count", "total_cost_usd", "unknown_cost_count",
    "total_carbon_g", "unknown_carbon_count",
)  # fmt: skip
_BASELINES = (
    "requests", "estimated", "cost_usd", "actual_cost_usd", "carbon_requests", "carbon_g", "actual_carbon_g",
)  # fmt: skip


def upgrade() -> None:
    """Create the tables, with the hours that are there."""
    _create("hourly_totals", "model", _TOTALS, "hourly_metrics")
    _create("hourly_baseline_totals", "baseline", _BASELINES, "hourly_baselines")


def _create(table: str, key: str, columns: tuple[str, ...], source: str) -> None:
    op.create_table(
        table,
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column(key, sa.String(), nullable=False),
        *(sa.Column(name, _kind(name), nullable=False) for name in columns),
        sa.PrimaryKeyConstraint("hour", "user_id", key),
    )
    op.create_index(f"{table}_by_owner", table, ["user_id", sa.literal_column("hour DESC")], unique=False)
    sums = ", ".join(f"sum({name})" for name in columns)
    op.execute(
        f"INSERT INTO {table} (hour, user_id, {key}, {', '.join(columns)}) "  # noqa: S608  (own constants)
        f"SELECT hour, user_id, {key}, {sums} FROM {source} GROUP BY 1, 2, 3"
    )


def _kind(name: str) -> sa.types.TypeEngine[int] | sa.types.TypeEngine[float]:
    return sa.Float() if name.endswith(("_usd", "_g")) else sa.BigInteger()
