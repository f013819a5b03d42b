"""Tables of the aggregation and the warehouse sink. See `tables.py` for how tables and migrations belong together."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, desc, text
from sqlmodel import Field, SQLModel

_NOW = text("clock_timestamp()")


def _moment(*, default: bool = False, primary_key: bool = False) -> Any:
    kind = DateTime(timezone=True)
    return Field(
        sa_column=Column(kind, nullable=False, primary_key=primary_key, server_default=_NOW if default else None)
    )


def _big() -> Any:
    return Field(sa_column=Column(BigInteger, nullable=False))


class HourlyMetricRow(SQLModel, table=True):
    """One hour (UTC) of one router, model and provider; `router_id` is "" for direct calls. Recomputed, never added to.

    Percentiles and the time to first token are those of completed requests (null: none completed).
    """

    __tablename__ = "hourly_metrics"
    __table_args__ = (Index("hourly_metrics_by_owner", "user_id", desc("hour")),)
    hour: datetime = _moment(primary_key=True)
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    requests: int = _big()
    success_count: int = _big()
    success_rate: float
    total_latency_ms: float
    avg_latency_ms: float
    total_cost_usd: float
    avg_cost_usd: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    p50_ttft_ms: float | None
    p50_overhead_ms: float | None
    input_tokens: int = _big()
    output_tokens: int = _big()
    cached_tokens: int = _big()
    reasoning_tokens: int = _big()
    failed_count: int = _big()
    canceled_count: int = _big()
    fallback_count: int = _big()
    degraded_count: int = _big()
    explored_count: int = _big()
    attempt_count: int = _big()
    known_cost_count: int = _big()
    unknown_cost_count: int = _big()
    total_carbon_g: float
    unknown_carbon_count: int = _big()
    quality_count: int = _big()
    avg_quality: float | None
    updated_at: datetime = _moment(default=True)


class HourlyBaselineRow(SQLModel, table=True):
    """What a group of `hourly_metrics` would have cost under a baseline: `modelpilot.savings.BaselineSums`."""

    __tablename__ = "hourly_baselines"
    __table_args__ = (Index("hourly_baselines_by_owner", "user_id", desc("hour")),)
    hour: datetime = _moment(primary_key=True)
    user_id: str = Field(primary_key=True)
    router_id: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    baseline: str = Field(primary_key=True)
    requests: int = _big()
    estimated: int = _big()
    cost_usd: float
    actual_cost_usd: float
    carbon_requests: int = _big()
    carbon_g: float
    actual_carbon_g: float


class HourlyTotalRow(SQLModel, table=True):
    """`hourly_metrics` added up over routers and providers: few rows for the first page of the site."""

    __tablename__ = "hourly_totals"
    __table_args__ = (Index("hourly_totals_by_owner", "user_id", desc("hour")),)
    hour: datetime = _moment(primary_key=True)
    user_id: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    requests: int = _big()
    failed_count: int = _big()
    canceled_count: int = _big()
    fallback_count: int = _big()
    total_cost_usd: float
    unknown_cost_count: int = _big()
    total_carbon_g: float
    unknown_carbon_count: int = _big()


class HourlyBaselineTotalRow(SQLModel, table=True):
    """`hourly_baselines` added up over routers, models and providers."""

    __tablename__ = "hourly_baseline_totals"
    __table_args__ = (Index("hourly_baseline_totals_by_owner", "user_id", desc("hour")),)
    hour: datetime = _moment(primary_key=True)
    user_id: str = Field(primary_key=True)
    baseline: str = Field(primary_key=True)
    requests: int = _big()
    estimated: int = _big()
    cost_usd: float
    actual_cost_usd: float
    carbon_requests: int = _big()
    carbon_g: float
    actual_carbon_g: float


class StaleHourRow(SQLModel, table=True):
    """A note that the metrics of an hour have to be computed again. Anybody may add one, for any reason, any number of
    times: notes are never changed, only removed by the run that found them before it read the hour's rows."""

    __tablename__ = "stale_hours"
    id: int = Field(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    hour: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))
    reason: str
    noted_at: datetime = _moment(default=True)


class AggregatedHourRow(SQLModel, table=True):
    """When an hour was last aggregated, out of how many rows, and how long that took."""

    __tablename__ = "aggregated_hours"
    hour: datetime = _moment(primary_key=True)
    requests: int = _big()
    aggregated_at: datetime = _moment(default=True)
    duration_ms: float


class MetricProgressRow(SQLModel, table=True):
    """How far the rows of `requests` have been taken: `aggregated` and `exported` through this time of recording,
    `closed` (raw rows may be gone, so aggregates are final) through this time of creation."""

    __tablename__ = "metric_progress"
    name: str = Field(primary_key=True)
    through: datetime = _moment()
    updated_at: datetime = _moment(default=True)


class ExportedFileRow(SQLModel, table=True):
    """A file of the warehouse sink: the requests created in `hour` and recorded in `recorded_hour`.

    It has to be written (again) while `revision` is ahead of `exported_revision`.
    """

    __tablename__ = "exported_files"
    __table_args__ = (
        Index("exported_files_due", "hour", postgresql_where=text("revision > exported_revision")),
        Index("exported_files_by_hour", "hour"),
    )
    path: str = Field(primary_key=True)
    hour: datetime = _moment()
    recorded_hour: datetime = _moment()
    revision: int
    exported_revision: int
    requests: int = _big()
    bytes: int = _big()
    exported_at: datetime | None = Field(sa_column=Column(DateTime(timezone=True), nullable=True))
