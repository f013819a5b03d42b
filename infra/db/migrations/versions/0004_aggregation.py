"""Hourly metrics in full, and what the aggregation and the warehouse sink remember."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_COUNTS = (
    "cached_tokens", "reasoning_tokens", "failed_count", "canceled_count", "fallback_count", "degraded_count",
    "explored_count", "attempt_count", "known_cost_count", "unknown_cost_count", "unknown_carbon_count",
    "quality_count",
)  # fmt: skip
_FIGURES = ("p99_latency_ms", "p50_ttft_ms", "p50_overhead_ms", "avg_quality")


def upgrade() -> None:
    """Extend requests and hourly_metrics, create the other tables."""
    _extend_requests()
    _extend_hourly_metrics()
    _create_hourly_baselines()
    _create_stale_hours()
    _create_aggregated_hours()
    _create_metric_progress()
    _create_exported_files()


def _extend_requests() -> None:
    op.add_column("requests", sa.Column("carbon_g", sa.Float(), nullable=True))
    for name in ("preferred", "best", "cheapest"):
        op.add_column("requests", sa.Column(f"{name}_model", sa.String(), nullable=True))
        op.add_column("requests", sa.Column(f"{name}_cost_usd", sa.Float(), nullable=True))
        op.add_column("requests", sa.Column(f"{name}_carbon_g", sa.Float(), nullable=True))
    op.add_column("requests", sa.Column("predicted_cost_usd", sa.Float(), nullable=True))
    op.add_column("requests", sa.Column("predicted_carbon_g", sa.Float(), nullable=True))


def _extend_hourly_metrics() -> None:
    for name in ("p50_latency_ms", "p95_latency_ms"):
        op.alter_column("hourly_metrics", name, nullable=True)
    for name in _FIGURES:
        op.add_column("hourly_metrics", sa.Column(name, sa.Float(), nullable=True))
    # The default is for rows that are there already; the aggregation writes every column.
    for name in _COUNTS:
        op.add_column("hourly_metrics", sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.add_column(
        "hourly_metrics", sa.Column("total_carbon_g", sa.Float(), nullable=False, server_default=sa.text("0"))
    )
    for name in (*_COUNTS, "total_carbon_g"):
        op.alter_column("hourly_metrics", name, server_default=None)


def _create_hourly_baselines() -> None:
    op.create_table(
        "hourly_baselines",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("router_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("baseline", sa.String(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("actual_cost_usd", sa.Float(), nullable=False),
        sa.Column("carbon_requests", sa.BigInteger(), nullable=False),
        sa.Column("carbon_g", sa.Float(), nullable=False),
        sa.Column("actual_carbon_g", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "user_id", "router_id", "model", "provider", "baseline"),
    )
    op.create_index(
        "hourly_baselines_by_owner", "hourly_baselines", ["user_id", sa.literal_column("hour DESC")], unique=False
    )


def _create_stale_hours() -> None:
    op.create_table(
        "stale_hours",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_stale_hours_hour"), "stale_hours", ["hour"], unique=False)


def _create_aggregated_hours() -> None:
    op.create_table(
        "aggregated_hours",
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column(
            "aggregated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("duration_ms", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hour"),
    )


def _create_metric_progress() -> None:
    op.create_table(
        "metric_progress",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("through", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "updated_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute("INSERT INTO metric_progress (name, through) SELECT name, '1970-01-01Z' FROM unnest("
               "ARRAY['aggregated', 'exported', 'closed']) AS name")  # fmt: skip


def _create_exported_files() -> None:
    op.create_table(
        "exported_files",
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("recorded_hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("exported_revision", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("path"),
    )
    due = sa.text("revision > exported_revision")
    op.create_index("exported_files_due", "exported_files", ["hour"], unique=False, postgresql_where=due)
    op.create_index("exported_files_by_hour", "exported_files", ["hour"], unique=False)
