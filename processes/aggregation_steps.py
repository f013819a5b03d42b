"""Wiring of the hourly aggregation: its activities over Postgres and, where one is configured, the warehouse sink."""

from collections.abc import Callable
from typing import Any

from activities.jobs.aggregation import AggregationActivities
from infra.db.engine import Database
from infra.db.metrics.aggregation import PostgresAggregator
from infra.db.requests.housekeeping import PostgresRetention
from infra.settings import ConfigurationError, Settings
from modelpilot.metrics.aggregation import Exporter


def aggregation_steps(settings: Settings, database: Database) -> list[Callable[..., Any]]:
    """The activities of AggregateHourlyWorkflow. Raises ConfigurationError for a sink that cannot be written to."""
    retention = PostgresRetention(
        database, days=settings.request_retention_days, exports=settings.export_url is not None
    )
    steps = AggregationActivities(PostgresAggregator(database), _exporter(settings, database), retention)
    return [steps.plan_aggregation, steps.aggregate_hours, steps.export_requests, steps.purge_requests]


def _exporter(settings: Settings, database: Database) -> Exporter:
    from infra.warehouse.parquet import NoExporter, ParquetExporter

    if settings.export_url is None:
        return NoExporter()
    from infra.db.metrics.export import ExportLedger
    from infra.warehouse.sink import FileSink

    try:
        sink = FileSink(settings.export_url, settings.data_dir / "export")
    except (ImportError, ValueError) as error:
        # The message names the package that is missing, and not the address, which may hold a password.
        raise ConfigurationError([f"MODELPILOT_EXPORT_URL: {type(error).__name__}: {_harmless(error)}"]) from None
    return ParquetExporter(ExportLedger(database), sink)


def _harmless(error: Exception) -> str:
    return str(error) if isinstance(error, ImportError) else "fsspec does not know this kind of address"
