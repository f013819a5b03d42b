"""Tables of the aggregation and the warehouse sink."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, Index, Table, desc, event, text
from sqlmodel import Field, SQLModel

from infra.db.schema.columns import big, moment, money, serial


class _OfHour(SQLModel):
    """The beginning of the primary key of aggregated rows: an hour (UTC) of a tenant."""

    hour: datetime = moment(primary_key=True)
    user_id: str = Field(primary_key=True)


class _OfGroup(_OfHour):
    """The primary key of an hour's groups; `router_id` is "" for direct calls."""

    router_id: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)


class _Sums(SQLModel):
    """What can be added up over groups."""

    requests: int = big()
    success_count: int = big()
    failed_count: int = big()
    canceled_count: int = big()
    fallback_count: int = big()
    total_cost_usd: Decimal = money()
    unknown_cost_count: int = big()
    total_carbon_g: float
    unknown_carbon_count: int = big()


class _EverySum(_Sums):
    """All of it."""

    total_latency_ms: float
    input_tokens: int = big()
    output_tokens: int = big()
    cached_tokens: int = big()
    reasoning_tokens: int = big()
    degraded_count: int = big()
    explored_count: int = big()
    attempt_count: int = big()
    known_cost_count: int = big()
    quality_count: int = big()
    avg_quality: float | None


class _BaselineSums(SQLModel):
    """What requests would have cost under a baseline: `modelpilot.metrics.savings.BaselineSums`, by the model that it
    would have taken ("" in rows of before that was known)."""

    baseline: str = Field(primary_key=True)
    baseline_model: str = Field(primary_key=True, sa_column_kwargs={"server_default": ""})
    requests: int = big()
    estimated: int = big()
    cost_usd: Decimal = money()
    actual_cost_usd: Decimal = money()
    estimated_cost_usd: Decimal = money(default=True)
    squares: float = Field(sa_column_kwargs={"server_default": "0"})
    products: float = Field(sa_column_kwargs={"server_default": "0"})
    actual_squares: float = Field(sa_column_kwargs={"server_default": "0"})
    carbon_requests: int = big()
    carbon_g: float
    actual_carbon_g: float
    estimated_carbon_g: float = Field(sa_column_kwargs={"server_default": "0"})


class HourlyMetricRow(_EverySum, _OfGroup, table=True):
    """One hour of one router, model and provider. Recomputed, never added to.

    Percentiles and the time to first token are those of completed requests (null: none completed).
    """

    __tablename__ = "hourly_metrics"
    __table_args__ = (Index("hourly_metrics_by_owner", "user_id", desc("hour")),)
    success_rate: float
    avg_latency_ms: float
    avg_cost_usd: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    p99_latency_ms: float | None
    p50_ttft_ms: float | None
    p50_overhead_ms: float | None
    updated_at: datetime = moment(default=True)


class HourlyBaselineRow(_BaselineSums, _OfGroup, table=True):
    """What a group of `hourly_metrics` would have cost under a baseline."""

    __tablename__ = "hourly_baselines"
    __table_args__ = (Index("hourly_baselines_by_owner", "user_id", desc("hour")),)


class HourlyTotalRow(_Sums, _OfHour, table=True):
    """`hourly_metrics` added up over routers and providers: few rows for the first page of the site."""

    __tablename__ = "hourly_totals"
    __table_args__ = (Index("hourly_totals_by_owner", "user_id", desc("hour")),)
    model: str = Field(primary_key=True)


class HourlyBaselineTotalRow(_BaselineSums, _OfHour, table=True):
    """`hourly_baselines` added up over routers, models and providers."""

    __tablename__ = "hourly_baseline_totals"
    __table_args__ = (Index("hourly_baseline_totals_by_owner", "user_id", desc("hour")),)


class DimensionRow(SQLModel, table=True):
    """A tag that an owner wants sums by."""

    __tablename__ = "dimensions"
    user_id: str = Field(primary_key=True)
    tag: str = Field(primary_key=True)
    created_at: datetime = moment(default=True)


class HourlyDimensionRow(_EverySum, _OfGroup, table=True):
    """The requests of a group of `hourly_metrics` that have one value of a dimension (`modelpilot.metrics.dimensions`):
    each dimension has all requests of its owner, those without a value under ""."""

    __tablename__ = "hourly_dimensions"
    __table_args__ = (Index("hourly_dimensions_by_owner", "user_id", "dimension", desc("hour")),)
    dimension: str = Field(primary_key=True)
    value: str = Field(primary_key=True)


class HourlyDimensionTotalRow(_EverySum, _OfHour, table=True):
    """`hourly_dimensions` added up over routers, models and providers."""

    __tablename__ = "hourly_dimension_totals"
    __table_args__ = (
        Index("hourly_dimension_totals_by_owner", "user_id", "dimension", desc("hour")),
        # Hours that had more values than rows.
        Index("hourly_dimension_totals_others", "dimension", "hour", postgresql_where=text("value = '(other)'")),
    )
    dimension: str = Field(primary_key=True)
    value: str = Field(primary_key=True)


class StaleHourRow(SQLModel, table=True):
    """A note that the metrics of an hour have to be computed again. Anybody may add one, any number of times: notes are
    never changed, only removed by the run that found them before it read the hour's rows. `reason`: `recorded` (rows
    came), `revised` (rows changed), `dimension` (the hour lacks one, and is right but for that)."""

    __tablename__ = "stale_hours"
    id: int = serial()
    hour: datetime = moment(index=True)
    reason: str
    noted_at: datetime = moment(default=True)


class AggregatedHourRow(SQLModel, table=True):
    """When an hour was last aggregated, out of how many rows, and how long that took."""

    __tablename__ = "aggregated_hours"
    hour: datetime = moment(primary_key=True)
    requests: int = big()
    aggregated_at: datetime = moment(default=True)
    duration_ms: float


class MetricProgressRow(SQLModel, table=True):
    """How far the rows of `requests` have been taken: `aggregated` and `exported` through this time of recording,
    `closed` (raw rows may be gone, so aggregates are final) through this time of creation."""

    __tablename__ = "metric_progress"
    name: str = Field(primary_key=True)
    through: datetime = moment()
    updated_at: datetime = moment(default=True)


@event.listens_for(SQLModel.metadata.tables["metric_progress"], "after_create")
def _add_progress(_: Table, connection: Connection, **_options: object) -> None:
    # Everybody else only updates these rows.
    connection.execute(
        text(
            "INSERT INTO metric_progress (name, through) "
            "SELECT name, '1970-01-01Z' FROM unnest(ARRAY['aggregated', 'exported', 'closed']) AS name"
        )
    )


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
    hour: datetime = moment()
    recorded_hour: datetime = moment()
    revision: int
    exported_revision: int
    requests: int = big()
    bytes: int = big()
    exported_at: datetime | None = moment()
