"""`modelpilot dashboard`: serve the analytics site in the foreground."""

import logging
import signal
import threading
from contextlib import closing

import typer

from dashboard.app import create_app
from dashboard.config import DashboardConfig, UnprotectedDashboard, is_loopback
from dashboard.server import serve
from infra.db.reader import PostgresDashboardReader
from infra.settings import ConfigurationError, Settings, load_settings


def command() -> None:
    """Serve the analytics site until SIGINT or SIGTERM. On loopback only, as long as it has no login."""
    settings = load_settings()
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    config, url = dashboard_config(settings), database_url(settings)
    try:
        _run(config, url)
    except UnprotectedDashboard as error:
        raise ConfigurationError([error.message]) from None
    except OSError as error:
        typer.echo(f"dashboard: cannot listen on {config.host}:{config.port}: {error.strerror}", err=True)
        raise typer.Exit(1) from None


def dashboard_config(settings: Settings) -> DashboardConfig:
    """The site's share of the settings."""
    return DashboardConfig(
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        temporal_ui_url=settings.temporal_ui_url or _local_temporal_ui(settings),
        temporal_namespace=settings.temporal_namespace,
        production=settings.production,
        unprotected=settings.dashboard_unprotected,
        trusted_hosts=settings.dashboard_trusted_hosts,
    )


def database_url(settings: Settings) -> str:
    """Where the rows are. Raises ConfigurationError: an embedded database belongs to `modelpilot up`."""
    if settings.database_url is None:
        raise ConfigurationError(
            ["MODELPILOT_DATABASE_URL: is not set; `modelpilot up` starts the dashboard with an embedded database"]
        )
    return settings.database_url


def _local_temporal_ui(settings: Settings) -> str | None:
    # A Temporal service elsewhere has its UI at an address that only its operator knows.
    address = settings.temporal_address or "localhost"
    return settings.embedded_temporal_ui_url if is_loopback(address.partition(":")[0]) else None


def _run(config: DashboardConfig, url: str) -> None:
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with closing(PostgresDashboardReader(url)) as reader:
        app = create_app(reader, config)
        serve(app, config.host, config.port, stop, lambda at: typer.echo(f"dashboard: listening on {at}"))
