"""`modelpilot migrate`: the schema of this version, and what a new installation needs to answer its first request."""

import asyncio

import typer

from cli.admin_key import ensure_admin_key
from infra.catalogue.seed import seed_models
from infra.db.engine import Database
from infra.db.management.seed import ensure_demo_router, seed_catalogue
from infra.db.migrate import upgrade
from infra.local.data_dir import DataDir
from infra.settings import ConfigurationError, Settings, load_settings


def command() -> None:
    """Create or update the database schema, the shared catalogue, the admin key and the router `demo`.

    Safe to repeat, and to run in many processes at once. Needs MODELPILOT_DATABASE_URL. Exit codes: 0 done, 1 the
    database failed, 2 wrong configuration.
    """
    settings = load_settings()
    if settings.database_url is None:
        advice = "`modelpilot up` starts an embedded database and migrates it"
        raise ConfigurationError([f"MODELPILOT_DATABASE_URL: is not set; {advice}"])
    upgrade(settings.database_url)
    typer.echo("schema: up to date")
    for line in asyncio.run(_seed(settings, settings.database_url)):
        typer.echo(line)


async def _seed(settings: Settings, database_url: str) -> list[str]:
    """What was done, a line each."""
    async with Database(database_url) as database:
        changed = await seed_catalogue(database, seed_models())
        admin_key = await ensure_admin_key(database, DataDir(settings.data_dir).admin_key)
        made = await ensure_demo_router(database)
    return [
        f"catalogue: {changed} models changed" if changed else "catalogue: unchanged",
        f"admin key: {admin_key}",
        "router demo: created" if made else "router demo: unchanged",
    ]
