"""`modelpilot dashboard`: serve the analytics site in the foreground."""

import logging
import signal
import threading
from contextlib import closing

import typer

from dashboard.app import create_app, serve
from dashboard.config import DashboardConfig, is_loopback
from infra.catalogue.prices import carbon_ranges
from infra.catalogue.seed import price_origin
from infra.crypto.secrets import Argon2Hasher
from infra.db.engine import SyncPool
from infra.db.management.site_users import PostgresSiteAccess
from infra.db.metrics.site import PostgresSiteReader
from infra.local.data_dir import DataDir
from infra.settings import ConfigurationError, Settings, load_settings
from modelpilot import names
from modelpilot.metrics.jobs import ScheduleFacts
from processes.parts import listening
from processes.workbench import open_workbench
from workflows import schedules


def command() -> None:
    """Serve the analytics site until SIGINT or SIGTERM. It asks for a login unless it is the operator's alone."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    DataDir(settings.data_dir).check_place()
    config, url = dashboard_config(settings), database_url(settings)
    with listening(config.host, config.port, "MODELPILOT_DASHBOARD_HOST", "MODELPILOT_DASHBOARD_PORT"):
        _run(config, url, settings)


def dashboard_config(settings: Settings) -> DashboardConfig:
    """The site's share of the settings."""
    return DashboardConfig(
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        temporal_ui_url=settings.temporal_ui_url or _local_temporal_ui(settings),
        temporal_namespace=settings.temporal_namespace,
        production=settings.production,
        login=settings.dashboard_login,
        unprotected=settings.dashboard_unprotected,
        trusted_hosts=settings.dashboard_trusted_hosts,
        trusted_proxies=settings.dashboard_trusted_proxies,
        public_url=settings.dashboard_public_url,
        prefix=settings.dashboard_prefix,
    )


def database_url(settings: Settings) -> str:
    """Where the rows are. Raises ConfigurationError: an embedded database belongs to `modelpilot up`."""
    if settings.database_url is None:
        raise ConfigurationError(
            ["MODELPILOT_DATABASE_URL: is not set; `modelpilot up` starts the dashboard with an embedded database"]
        )
    return settings.database_url


def site_reader(pool: SyncPool) -> PostgresSiteReader:
    """What the pages read from."""
    carbon_ranges()  # worked out once, which the first visitor shall not wait for
    return PostgresSiteReader(pool, carbon_ranges, _schedules(), origin_of=price_origin)


def _schedules() -> tuple[ScheduleFacts, ...]:
    aggregate_s, refit_s = schedules.AGGREGATE_EVERY.total_seconds(), schedules.REFIT_EVERY.total_seconds()
    return (
        ScheduleFacts(
            names.AGGREGATE_SCHEDULE,
            "Hourly metrics and export",
            aggregate_s,
            schedules.AGGREGATE_OFFSET.total_seconds(),
        ),
        ScheduleFacts(names.REFIT_SCHEDULE, "Refit of predictors", refit_s),
        ScheduleFacts(names.RESCORE_SCHEDULE, "Nightly re-scoring", 86_400.0, schedules.RESCORE_HOUR * 3_600.0),
        ScheduleFacts(names.HOUSEKEEPING_SCHEDULE, "Housekeeping", schedules.HOUSEKEEPING_EVERY.total_seconds()),
    )


def _local_temporal_ui(settings: Settings) -> str | None:
    # A Temporal service elsewhere has its UI at an address that only its operator knows.
    address = settings.temporal_address or "localhost"
    host = address.rpartition(":")[0] or address
    return settings.embedded_temporal_ui_url if is_loopback(host.strip("[]")) else None


def _run(config: DashboardConfig, url: str, settings: Settings) -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    # Two pools, so that nothing that a page does can write, and slow pages do not keep people from logging in.
    with (
        closing(SyncPool(url)) as reading,
        closing(SyncPool(url, read_only=False)) as writing,
        open_workbench(settings, url) as workbench,
    ):
        app = create_app(site_reader(reading), workbench, PostgresSiteAccess(writing), Argon2Hasher(), config)
        serve(app, config.host, config.port, stop, lambda at: typer.echo(f"dashboard: listening on {at}"))
