"""Sums of USD are exact, and baselines say which model they would have taken."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_BASELINES = ("hourly_baselines", "hourly_baseline_totals")
_SUMS = {"hourly_metrics": ("total_cost_usd",), "hourly_totals": ("total_cost_usd",)}
_SUMS |= dict.fromkeys(_BASELINES, ("cost_usd", "actual_cost_usd"))


def upgrade() -> None:
    """Hours whose requests are still there are computed anew. Of the others a baseline is known as a whole: of its
    figures as large a share is estimated as of its requests."""
    for table, names in _SUMS.items():
        for name in names:
            op.alter_column(table, name, type_=sa.Numeric(), postgresql_using=f"{name}::numeric")
    op.add_column("hourly_totals", sa.Column("success_count", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("""UPDATE hourly_totals SET success_count = found.success_count
        FROM (SELECT hour, user_id, model, sum(success_count) AS success_count FROM hourly_metrics GROUP BY 1, 2, 3)
            AS found
        WHERE (hourly_totals.hour, hourly_totals.user_id, hourly_totals.model)
            = (found.hour, found.user_id, found.model)""")
    op.alter_column("hourly_totals", "success_count", server_default=None)
    for table in _BASELINES:
        op.add_column(table, sa.Column("baseline_model", sa.String(), nullable=False, server_default=""))
        op.add_column(table, sa.Column("estimated_cost_usd", sa.Numeric(), nullable=False, server_default="0"))
        for name in ("squares", "products", "actual_squares", "estimated_carbon_g"):
            op.add_column(table, sa.Column(name, sa.Float(), nullable=False, server_default="0"))
        op.execute(f"""UPDATE {table} SET
            estimated_cost_usd = round(cost_usd * estimated / greatest(requests, 1), 12),
            estimated_carbon_g = carbon_g * estimated / greatest(requests, 1)""")  # noqa: S608  (own names)
    op.execute("UPDATE hourly_baselines SET baseline_model = model WHERE baseline = 'asPredicted'")
    _in_key("hourly_baselines", "hour", "user_id", "router_id", "model", "provider", "baseline", "baseline_model")
    _in_key("hourly_baseline_totals", "hour", "user_id", "baseline", "baseline_model")
    op.execute("""INSERT INTO stale_hours (hour, reason) SELECT hour, 'recorded' FROM aggregated_hours
        WHERE hour >= (SELECT through FROM metric_progress WHERE name = 'closed')""")


def _in_key(table: str, *columns: str) -> None:
    op.drop_constraint(f"{table}_pkey", table)
    op.create_primary_key(f"{table}_pkey", table, list(columns))
