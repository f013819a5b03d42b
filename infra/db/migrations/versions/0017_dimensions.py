"""Hourly sums by user, key, purpose and chosen tags."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0015"

_TOTAL = ("hour", "user_id", "dimension", "value")
_GROUP = ("hour", "user_id", "router_id", "model", "provider", "dimension", "value")
_SUMS = (
    "requests", "failed_count", "canceled_count", "fallback_count", "total_cost_usd", "unknown_cost_count",
    "total_carbon_g", "unknown_carbon_count", "success_count", "total_latency_ms", "input_tokens", "output_tokens",
    "cached_tokens", "reasoning_tokens", "degraded_count", "explored_count", "attempt_count", "known_cost_count",
    "quality_count",
)  # fmt: skip
_HOURLY = ", ".join(_GROUP)
_NAMES = ", ".join(_SUMS)
_ADDED_UP = ", ".join(f"sum({name})" for name in _SUMS)
# Sums have the types that they have where they come from.
_TYPES = sa.text("""
    SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
    WHERE attrelid = 'hourly_metrics'::regclass AND attnum > 0 AND NOT attisdropped""")


def upgrade() -> None:
    """Hours that are not closed are noted, and computed by the next aggregation. Of closed ones nobody knows any more
    whose requests they had: those are all others."""
    now = sa.text("clock_timestamp()")
    op.create_table(
        "dimensions",
        sa.Column("user_id", sa.String(), primary_key=True),
        sa.Column("tag", sa.String(), primary_key=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=now),
    )
    _create("hourly_dimensions", _GROUP)
    _create("hourly_dimension_totals", _TOTAL)
    where = sa.text("value = '(other)'")
    op.create_index(
        "hourly_dimension_totals_others", "hourly_dimension_totals", ["dimension", "hour"], postgresql_where=where
    )
    closed = "(SELECT through FROM metric_progress WHERE name = 'closed')"
    op.execute(f"""
        INSERT INTO hourly_dimensions ({_HOURLY}, {_NAMES}, avg_quality)
        SELECT hour, user_id, router_id, model, provider, dimension, '(other)', {_NAMES}, avg_quality
        FROM hourly_metrics, unnest(ARRAY['userId', 'keyId', 'purpose']) AS dimension WHERE hour < {closed}""")  # noqa: S608
    op.execute(f"""
        INSERT INTO hourly_dimension_totals (hour, user_id, dimension, value, {_NAMES}, avg_quality)
        SELECT hour, user_id, dimension, value, {_ADDED_UP},
            sum(avg_quality * quality_count) / nullif(sum(quality_count), 0)
        FROM hourly_dimensions GROUP BY 1, 2, 3, 4""")  # noqa: S608
    op.execute(f"""
        INSERT INTO stale_hours (hour, reason)
        SELECT DISTINCT hour, 'dimension' FROM hourly_metrics WHERE hour >= {closed}""")  # noqa: S608


def _create(name: str, keys: tuple[str, ...]) -> None:
    known = {row.attname: row.format_type for row in op.get_bind().execute(_TYPES)}
    types = {**known, "dimension": "varchar", "value": "varchar"}
    columns = [f"{column} {types[column]} NOT NULL" for column in (*keys, *_SUMS)]
    columns += [f"avg_quality {types['avg_quality']}", f"PRIMARY KEY ({', '.join(keys)})"]
    op.execute(f"CREATE TABLE {name} ({', '.join(columns)})")
    op.create_index(f"{name}_by_owner", name, ["user_id", "dimension", sa.text("hour DESC")])
